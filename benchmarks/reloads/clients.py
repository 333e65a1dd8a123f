"""The clients: raw bytes over sockets, and no second try of anything. One process holds them all.

    python -m benchmarks.reloads.clients '{"port": 8000, "kinds": ["new", "busy"], …}'

It prints `ready` when every client has begun. A line on its standard input, or its end, ends the load; then it
writes its records to the file that the order names and prints one line of JSON: its own share of a CPU and how late
its loop was, as whoever reads the figures must know that the clients were not the limit.
"""

import asyncio
import json
import random
import select
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from benchmarks.common.figures import percentile

from . import records, wire
from .event_stream import Body, End, Event, EventParser
from .judge import judge_end
from .light import LightConnection
from .records import CROSSED, KINDS, MOVED, STEADY, WHILE_IDLE, Failed, Kind, Outcome, Record
from .wire import BrokenAnswer

ANSWER_TIMEOUT = 15.0
"""Seconds for an answer, or its next part; longer than any drain, so that a late answer is a stall."""
LOOKS = 10
"""How often a client looks for a close before it speaks: of a connection that has ended more can always be read."""
CONNECT_TIMEOUT = 5.0
COMING_BACK = 0.05
"""Seconds before the next connection after one that broke: a client that is refused must not spin."""
STOP_TIMEOUT = 2.0
"""For exchanges that are under way when the load ends; what takes longer is not counted."""
READ_BYTES = 65536
LAG_INTERVAL = 0.02
NEW_RATE, PIPELINE_RATE, PIPELINE_DEPTH = 15.0, 5.0, 4
BUSY_MS, SLOW_MS = 25, 500
HEAD_PAUSE, HEAD_PARTS = 0.5, 3
UPLOAD_BYTES, UPLOAD_PARTS, UPLOAD_SECONDS = 1 << 20, 16, 0.8
DOWNLOAD_CHUNKS, DOWNLOAD_MS, CHUNK_BYTES = 20, 40, 8192
# Two of these after each other fit into the drain: the first had its head before, and could announce no close.
EVENT_MS, ECHO_INTERVAL = 200, 0.2
# Shorter than the time that every server has to finish what is open: none has a reason to leave one incomplete.
COMPLETION_EVENTS, COMPLETION_MS, DONE = 40, 30, "[DONE]"
NOT_OFFERED = "status 403"
"""How an application that finds no handover in its scope refuses the WebSocket."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is asked to do."""

    port: int
    kinds: tuple[str, ...]
    path: str
    """Where the records go."""
    seed: int = 0
    rate: float = 0.0
    """Requests per second of the steady kind, all its clients together."""
    steady_path: str = "/"


@dataclass(frozen=True, slots=True)
class Effort:
    """What the load cost its own process."""

    cpu_share: float
    late_p99_ms: float
    late_most_ms: float


def check_status(head: wire.Head, wanted: int) -> None:
    """Raise Failed when the answer has another status."""
    if head.status != wanted:
        raise Failed(Outcome.LOST, f"status {head.status}")


def check_size(came: int, wanted: int | None) -> None:
    """Raise Failed when a body has not the length it must have; None: any will do."""
    if wanted is not None and came != wanted:
        raise Failed(Outcome.CUT, f"{came} bytes of {wanted}")


class Schedule:
    """Times at a fixed rate. What is late is sent at once, and its time counts from when it was due."""

    def __init__(self, interval: float, first: float) -> None:
        self.interval, self.due = interval, first

    async def wait_next(self) -> float:
        """Wait until the next time, not at all when it is past, and return it."""
        due = self.due
        self.due += self.interval
        pause = due - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        return due


class Client:
    """One client: its connection, and what it notes."""

    def __init__(self, kind: Kind, number: int, order: Order, log: list[Record]) -> None:
        self.kind, self.number, self.order, self.log = kind, number, order, log
        self.chance = random.Random(f"{order.seed} {kind.name} {number}")
        self.stopping = False
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.worker: int | None = None
        """The process that answered last on this connection."""
        self.has_moved = False
        """Whether another process answers now than before, on the same connection."""
        self.frames = bytearray()

    def hear(self, worker: int | None) -> None:
        """Take notice of who answers."""
        self.has_moved = self.worker is not None and worker not in (None, self.worker)
        self.worker = worker

    def note(self, outcome: Outcome, asked: float, start: float, **more: Any) -> None:
        """Note an exchange that ends now."""
        if self.has_moved and outcome is Outcome.ANSWERED:
            more["detail"], self.has_moved = MOVED, False
        self.log.append(
            Record(
                self.kind.name, outcome, asked, start, time.monotonic(), worker=self.worker, **more
            )
        )

    @property
    def reader(self) -> asyncio.StreamReader:
        assert self.streams is not None
        return self.streams[0]

    @property
    def writer(self) -> asyncio.StreamWriter:
        assert self.streams is not None
        return self.streams[1]

    def schedule(self, interval: float) -> Schedule:
        """Return a schedule of this client; clients of a kind do not all send at once."""
        return Schedule(interval, time.monotonic() + self.chance.uniform(0, interval))

    def drop(self) -> None:
        """Leave the connection."""
        if self.streams is not None:
            self.writer.transport.abort()
        self.streams, self.worker, self.has_moved = None, None, False
        self.frames.clear()

    async def is_connected(self, start: float) -> bool:
        """See to a connection that the server has not ended; note a refusal, or an end that was not asked for."""
        if self.streams is not None and (
            self.reader.at_eof() or self.reader.exception() is not None
        ):
            self.note(Outcome.CLOSED, start, start, detail=WHILE_IDLE)
            self.drop()
        if self.streams is not None:
            return True
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self.streams = await asyncio.open_connection("127.0.0.1", self.order.port)
        except (OSError, TimeoutError) as error:
            self.note(Outcome.REFUSED, start, start, detail=type(error).__name__)
            return False
        return True

    async def send(self, data: bytes) -> None:
        """Send; what goes wrong shows where the answer is read, as it may have come before."""
        self.writer.write(data)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await self.writer.drain()
        except (OSError, TimeoutError):
            return

    def has_unread(self) -> bool:
        """Return whether bytes, or the end, have reached the socket, and not been read from it."""
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    async def head(self) -> wire.Head:
        """Return the head of the next answer. Raise Failed."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                head = wire.parse_head(await self.reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            outcome = Outcome.CUT if error.partial else Outcome.LOST
            raise Failed(outcome, "the connection ended") from error
        except (OSError, TimeoutError, asyncio.LimitOverrunError, BrokenAnswer) as error:
            raise Failed(Outcome.LOST, f"{type(error).__name__} {error}".strip()) from error
        self.hear(head.worker)
        return head

    async def piece(self) -> bytes:
        """Return the next chunk of a body, empty the last. Raise Failed when the connection ends before."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                size = wire.chunk_size(await self.reader.readuntil(b"\r\n"))
                return (await self.reader.readexactly(size + 2))[:-2]
        except (
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, BrokenAnswer,
        ) as error:  # fmt: skip
            raise Failed(Outcome.CUT, f"{type(error).__name__} in a body") from error

    async def body(self, head: wire.Head) -> int:
        """Read a whole body and return its length. Raise Failed."""
        if head.is_chunked:
            size = 0
            while piece := await self.piece():
                size += len(piece)
            return size
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                if head.length is None:
                    raise Failed(Outcome.LOST, "a body without an end")
                return len(await self.reader.readexactly(head.length))
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise Failed(Outcome.CUT, f"{type(error).__name__} in a body") from error

    async def answered(
        self,
        asked: float,
        start: float,
        expected: float = 0.0,
        *,
        size: int | None = None,
        was_asked_to_close: bool = False,
    ) -> bool:
        """Read one answer and note it. Return whether the connection can be used again."""
        version = None
        try:
            head = await self.head()
            version = head.version
            check_status(head, 200)
            check_size(await self.body(head), size)
        except Failed as failed:
            self.note(failed.outcome, asked, start, version=version, detail=failed.detail)
            self.drop()
            await asyncio.sleep(COMING_BACK)
            return False
        self.note(Outcome.ANSWERED, asked, start, expected=expected, version=version)
        if head.closes:
            if not was_asked_to_close:
                self.note(Outcome.CLOSED, asked, start, detail="announced")
            self.drop()
            return False
        return True

    async def run(self) -> None:
        """Do what the kind does until `stopping` is set."""
        await BEHAVIOUR[self.kind.name](self)


async def new(client: Client) -> None:
    """A connection for each request."""
    request = wire.request("GET", "/pause/0", closes=True)
    schedule = client.schedule(1 / NEW_RATE)
    while not client.stopping:
        due = await schedule.wait_next()
        if await client.is_connected(due):
            await client.send(request)
            await client.answered(due, due, was_asked_to_close=True)
            client.drop()


async def repeat(client: Client, milliseconds: int) -> None:
    """One request after the other on one connection."""
    request = wire.request("GET", f"/pause/{milliseconds}")
    while not client.stopping:
        start = time.monotonic()
        if await client.is_connected(start):
            await client.send(request)
            await client.answered(start, start, milliseconds / 1000)
        else:
            await asyncio.sleep(COMING_BACK)


async def busy(client: Client) -> None:
    await repeat(client, BUSY_MS)


async def slow(client: Client) -> None:
    await repeat(client, SLOW_MS)


async def idle(client: Client) -> None:
    """Wait 1 to 5 s, then ask once; an end of the connection meanwhile is noted when it comes."""
    request = wire.request("GET", "/")
    while not client.stopping:
        start = time.monotonic()
        if await client.is_connected(start):
            await client.send(request)
            await client.answered(start, start)
        until = time.monotonic() + client.chance.uniform(1.0, 5.0)
        while (left := until - time.monotonic()) > 0:
            if client.streams is not None and await ended_within(client, left):
                client.note(Outcome.CLOSED, time.monotonic(), time.monotonic(), detail=WHILE_IDLE)
                client.drop()
            elif client.streams is None:
                await asyncio.sleep(left)


async def ended_within(client: Client, seconds: float) -> bool:
    """Wait so long for the server to end the connection, or to say what it was not asked.

    The connection is of no use afterwards, except when nothing came.
    """
    try:
        async with asyncio.timeout(seconds):
            await client.reader.read(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


async def pipelined(client: Client) -> None:
    """Several requests in one write; each must be answered."""
    requests = wire.request("GET", "/pause/0") * PIPELINE_DEPTH
    schedule = client.schedule(1 / PIPELINE_RATE)
    while not client.stopping:
        due = await schedule.wait_next()
        if not await client.is_connected(due):
            continue
        await client.send(requests)
        for place in range(PIPELINE_DEPTH):
            if not await client.answered(due, due):
                # Answered or not, this one is noted; none behind it will be answered.
                for _ in range(PIPELINE_DEPTH - place - 1):
                    client.note(Outcome.LOST, due, due, detail="behind the last answer")
                break


async def heads(client: Client) -> None:
    """A head that comes slowly, in parts."""
    request = wire.request("GET", "/pause/0", closes=True)
    step = -(-len(request) // HEAD_PARTS)
    while not client.stopping:
        asked = time.monotonic()
        if not await client.is_connected(asked):
            await asyncio.sleep(COMING_BACK)
            continue
        for offset in range(0, len(request), step):
            if offset and await ended_within(client, HEAD_PAUSE):
                client.note(Outcome.LOST, asked, asked, detail="ended before the head was whole")
                break
            await client.send(request[offset : offset + step])
        else:
            # The request is whole only now.
            await client.answered(asked, time.monotonic(), was_asked_to_close=True)
        client.drop()


async def upload(client: Client) -> None:
    """A body that comes slowly, in parts; the answer tells how much of it the application saw."""
    head = wire.request("POST", "/upload", length=UPLOAD_BYTES)
    part = b"x" * (UPLOAD_BYTES // UPLOAD_PARTS)
    while not client.stopping:
        asked = time.monotonic()
        if not await client.is_connected(asked):
            await asyncio.sleep(COMING_BACK)
            continue
        await client.send(head)
        for _ in range(UPLOAD_PARTS):
            if await ended_within(client, UPLOAD_SECONDS / UPLOAD_PARTS):
                client.note(Outcome.LOST, asked, asked, detail="ended before the body was whole")
                client.drop()
                break
            await client.send(part)
        else:
            await client.answered(asked, time.monotonic(), size=len(str(UPLOAD_BYTES)))


async def download(client: Client) -> None:
    """A body that comes slowly, in chunks; each byte of it must come."""
    request = wire.request("GET", f"/download/{DOWNLOAD_MS}/{DOWNLOAD_CHUNKS}")
    seconds, size = DOWNLOAD_CHUNKS * DOWNLOAD_MS / 1000, DOWNLOAD_CHUNKS * CHUNK_BYTES
    while not client.stopping:
        start = time.monotonic()
        if await client.is_connected(start):
            await client.send(request)
            await client.answered(start, start, seconds, size=size)
        else:
            await asyncio.sleep(COMING_BACK)


async def events(client: Client) -> None:
    await follow(client, "events", has_ids=False)


async def with_ids(client: Client) -> None:
    await follow(client, "with-ids", has_ids=True)


async def without_ids(client: Client) -> None:
    await follow(client, "without-ids", has_ids=False)


async def follow(client: Client, path: str, *, has_ids: bool) -> None:
    """An endless stream; each event is noted, and how the stream ends. Comes back as EventSource does."""
    last_id, streams = "", 0
    while not client.stopping:
        asked = time.monotonic()
        if not await client.is_connected(asked):
            await asyncio.sleep(COMING_BACK)
            continue
        streams += 1
        parser = EventParser(last_id)
        more = ["Accept: text/event-stream"]
        if last_id:
            more.append(f"Last-Event-ID: {last_id}")
        # Numbers of streams without ids begin anew with each.
        series = str(client.number) if has_ids else f"{client.number}.{streams}"
        await client.send(wire.request("GET", f"/{path}/{EVENT_MS}", more=more))
        try:
            head = await client.head()
            check_stream(head)
            await read_stream(client, Body(head), parser, asked, series, has_ids=has_ids)
            if client.stopping:
                return
            outcome, detail = judge_end(End.TERMINATED, is_boundary=parser.is_at_boundary)
            client.note(outcome, asked, asked, detail=detail)
        except Failed as failed:
            client.note(failed.outcome, asked, asked, detail=failed.detail)
        last_id = parser.last_id
        client.drop()
        await asyncio.sleep(COMING_BACK)


async def read_stream(
    client: Client, body: Body, parser: EventParser, asked: float, series: str, *, has_ids: bool
) -> None:
    """Note each event until the body is complete or the load ends. Raise Failed when it is cut or wrong."""
    start, expected = asked, 0.0
    while not body.is_complete and not client.stopping:
        for event in await more_events(client, body, parser):
            number, version, worker = read_event(event)
            if event.id != (str(number) if has_ids else ""):
                raise Failed(Outcome.LOST, f"event {number} has the id {event.id[:20]!r}")
            client.hear(worker)
            client.note(
                *(Outcome.ANSWERED, asked, start), expected=expected, version=version,
                number=number, series=series,
            )  # fmt: skip
            start, expected = time.monotonic(), EVENT_MS / 1000


async def completion(client: Client) -> None:
    """A question whose answer comes in events and says itself when it is complete; one after the other.

    Each has a connection of its own: what becomes of one that is used again is measured by other kinds.
    """
    question = b'{"stream": true}'
    path = f"/completion/{COMPLETION_MS}/{COMPLETION_EVENTS}"
    request = wire.request("POST", path, length=len(question), closes=True) + question
    seconds = COMPLETION_EVENTS * COMPLETION_MS / 1000
    while not client.stopping:
        asked = time.monotonic()
        if not await client.is_connected(asked):
            await asyncio.sleep(COMING_BACK)
            continue
        await client.send(request)
        version = None
        try:
            head = await client.head()
            version = head.version
            check_stream(head)
            await read_completion(client, Body(head))
            client.note(Outcome.ANSWERED, asked, asked, expected=seconds, version=version)
        except Failed as failed:
            client.note(failed.outcome, asked, asked, version=version, detail=failed.detail)
            await asyncio.sleep(COMING_BACK)
        client.drop()


async def read_completion(client: Client, body: Body) -> None:
    """Read all events of an answer. Raise Failed when one is missing, or the end."""
    parser = EventParser()
    found: list[Event] = []
    while not body.is_complete:
        found += await more_events(client, body, parser)
    if not found or found[-1].data != DONE or not parser.is_at_boundary:
        raise Failed(Outcome.CUT, f"ended without {DONE}")
    numbers = [read_event(event)[0] for event in found[:-1]]
    if numbers != list(range(1, COMPLETION_EVENTS + 1)):
        raise Failed(Outcome.CUT, f"{len(numbers)} events of {COMPLETION_EVENTS}")


async def more_events(client: Client, body: Body, parser: EventParser) -> list[Event]:
    """Return the events in what comes next. Raise Failed when the connection ends, or nothing comes."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            data = await client.reader.read(READ_BYTES)
        if data:
            return parser.feed(body.feed(data))
        end = End.EOF
    except (TimeoutError, BrokenAnswer) as error:
        raise Failed(Outcome.CUT, f"{type(error).__name__} in a body") from error
    except OSError:
        end = End.RESET
    raise Failed(*judge_end(end, is_boundary=parser.is_at_boundary))


def check_stream(head: wire.Head) -> None:
    """Raise Failed when the answer is no event stream whose end can be told from a cut."""
    check_status(head, 200)
    if not head.is_chunked:
        raise Failed(Outcome.LOST, "a body without an end")


def read_event(event: Event) -> tuple[int, int, int]:
    """Return number, version and process of an event. Raise Failed."""
    number, _, who = event.data.partition(" ")
    try:
        return int(number), *wire.parse_who(who)
    except (BrokenAnswer, ValueError) as error:
        raise Failed(Outcome.LOST, f"no event of ours: {event.data[:40]!r}") from error


async def websocket(client: Client) -> None:
    await echoes(client, "/echo")


async def moving(client: Client) -> None:
    await echoes(client, "/moving")


async def echoes(client: Client, path: str) -> None:
    """Messages on a schedule, each answered by itself; comes back when the server closes."""
    while not client.stopping:
        asked = time.monotonic()
        if not await client.is_connected(asked):
            await asyncio.sleep(COMING_BACK)
            continue
        await client.send(wire.handshake(path))
        try:
            head = await client.head()
            check_status(head, 101)
            await converse(client, asked)
            return
        except Failed as failed:
            if failed.detail == NOT_OFFERED:
                client.note(Outcome.ABSENT, asked, asked, detail="no handover in the scope")
                return
            client.note(failed.outcome, asked, time.monotonic(), detail=failed.detail)
        client.drop()
        await asyncio.sleep(COMING_BACK)


async def converse(client: Client, asked: float) -> None:
    """Send and await echoes until the load ends. Raise Failed when the WebSocket ends before."""
    schedule = client.schedule(ECHO_INTERVAL)
    number = 0
    while not client.stopping:
        await silence(client, schedule.due)
        due = await schedule.wait_next()
        for _ in range(LOOKS):
            # Our loop is a millisecond late now and then, and a close may be there that it has not read: what we
            # would say after it is nobody's loss. One turn to look, one to tell us.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await silence(client, due)
            if not client.has_unread():
                break
        number += 1
        await client.send(wire.frame(wire.TEXT, b"%d" % number))
        try:
            opcode, payload = await next_message(client, time.monotonic() + ANSWER_TIMEOUT)
        except TimeoutError:
            raise Failed(Outcome.LOST, "no echo in time") from None
        except Failed as failed:
            if failed.outcome is Outcome.CLOSED:
                # A close in place of an echo: the client cannot know whether its message was heard.
                client.note(Outcome.LOST, asked, due, detail=CROSSED)
            raise
        text = payload.decode("latin-1")
        name, _, rest = text.partition(" ")
        if opcode != wire.TEXT or name != str(number):
            raise Failed(Outcome.LOST, f"echo {text[:40]!r} in place of {number}")
        try:
            version, worker = wire.parse_who(rest)
        except BrokenAnswer as error:
            raise Failed(Outcome.LOST, str(error)) from error
        # The count says whether the application's state came along.
        if rest.split()[2:] != [str(number)]:
            raise Failed(Outcome.LOST, f"count {rest!r} of {number} messages")
        client.hear(worker)
        client.note(Outcome.ANSWERED, asked, due, version=version)


async def silence(client: Client, until: float) -> None:
    """Wait, answering pings, until it is time to speak. Raise Failed when the WebSocket ends meanwhile."""
    try:
        opcode, payload = await next_message(client, until)
    except TimeoutError:
        return
    raise Failed(Outcome.LOST, f"{payload[:40]!r} ({opcode}) came unasked")


async def next_message(client: Client, until: float) -> tuple[int, bytes]:
    """Return the next data frame. Raise TimeoutError at `until`, Failed when the WebSocket ends."""
    while True:
        try:
            found = wire.next_frame(client.frames)
        except BrokenAnswer as error:
            raise Failed(Outcome.LOST, str(error)) from error
        if found is None:
            client.frames += await more_bytes(client, until)
            continue
        opcode, payload = found
        if opcode == wire.PING:
            await client.send(wire.frame(wire.PONG, payload))
        elif opcode == wire.CLOSE:
            await client.send(wire.frame(wire.CLOSE, payload[:2]))
            raise Failed(Outcome.CLOSED, str(wire.close_code(payload)))
        elif opcode != wire.PONG:
            return found


async def more_bytes(client: Client, until: float) -> bytes:
    """Return what comes next. Raise TimeoutError at `until`, Failed (1006) when the connection ends."""
    try:
        # Reading can be given up between any two bytes: what came stays in the stream.
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            data = await client.reader.read(READ_BYTES)
    except TimeoutError:
        raise
    except OSError as error:
        raise Failed(Outcome.CUT, "1006") from error
    if not data:
        raise Failed(Outcome.CUT, "1006")
    return data


async def steady(client: Client) -> None:
    """Requests on a fixed schedule over one connection."""
    request = wire.request("GET", client.order.steady_path)
    schedule = client.schedule(STEADY.clients / client.order.rate)
    connection: LightConnection | None = None
    try:
        while not client.stopping:
            due = await schedule.wait_next()
            if connection is not None and connection.is_lost:
                client.note(Outcome.CLOSED, due, due, detail=WHILE_IDLE)
                connection = None
            if connection is None:
                connection = await light_connection(client, due)
            if connection is not None and not await has_answer(client, connection, request, due):
                connection.drop()
                connection = None
    finally:
        if connection is not None:
            connection.drop()


async def light_connection(client: Client, due: float) -> LightConnection | None:
    """Return a new connection; note a refusal."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            made = await loop.create_connection(LightConnection, "127.0.0.1", client.order.port)
    except (OSError, TimeoutError) as error:
        client.note(Outcome.REFUSED, due, due, detail=type(error).__name__)
        return None
    return made[1]


async def has_answer(
    client: Client, connection: LightConnection, request: bytes, due: float
) -> bool:
    """Ask, and note what comes of it. Return whether the connection can be used again."""
    try:
        head = await connection.ask(request, ANSWER_TIMEOUT)
        client.hear(head.worker)
        check_status(head, 200)
    except Failed as failed:
        client.note(failed.outcome, due, due, detail=failed.detail)
        await asyncio.sleep(COMING_BACK)
        return False
    client.note(Outcome.ANSWERED, due, due, version=head.version)
    if head.closes:
        client.note(Outcome.CLOSED, due, due, detail="announced")
    return not head.closes


BEHAVIOUR: dict[str, Callable[[Client], Coroutine[Any, Any, None]]] = {
    function.__name__: function
    for function in (
        new, busy, idle, pipelined, slow, heads, upload, download, events, with_ids, without_ids, completion,
        websocket, moving, steady,
    )
}  # fmt: skip


async def watch_lag(late: list[float]) -> None:
    """Note by how much the loop wakes too late."""
    while True:
        due = time.monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        late.append(max(0.0, time.monotonic() - due))


def has_failed(task: asyncio.Task[None]) -> bool:
    return not task.cancelled() and task.exception() is not None


async def carry_out(order: Order) -> Effort:
    """Run all clients until standard input says so; write the records."""
    log: list[Record] = []
    late: list[float] = []
    table = {kind.name: kind for kind in (*KINDS, STEADY)}
    clients = [
        Client(kind, number, order, log)
        for kind in (table[name] for name in order.kinds)
        for number in range(kind.clients)
    ]
    began, cpu = time.monotonic(), time.process_time()
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    lag = asyncio.create_task(watch_lag(late))
    tasks = [asyncio.create_task(client.run()) for client in clients]
    for task in tasks:
        task.add_done_callback(lambda done: over.set() if has_failed(done) else None)
    print("ready", flush=True)
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()
    loop.remove_reader(sys.stdin.fileno())
    for client in clients:
        client.stopping = True
    lag.cancel()
    await asyncio.wait(tasks, timeout=STOP_TIMEOUT)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome  # a fault of ours: the figures would be wrong
    spent, took = time.process_time() - cpu, time.monotonic() - began
    for client in clients:
        client.drop()
    with open(order.path, "w") as file:  # noqa: ASYNC230 - the load has ended
        file.writelines(records.dump(log))
    late.sort()
    return Effort(spent / took, percentile(late, 0.99) * 1e3, late[-1] * 1e3)


def main() -> None:
    values = json.loads(sys.argv[1])
    order = Order(**{**values, "kinds": tuple(values["kinds"])})
    effort = uvloop.run(carry_out(order))
    print(json.dumps(asdict(effort)), flush=True)


if __name__ == "__main__":
    main()
