"""WebSockets that change their worker: three servers in one process, real sockets between them, both loops."""

import asyncio
import socket
import zlib
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect

from asgireload.http1.connection import http_protocol
from asgireload.http1.leaving import LeavingState
from asgireload.ipc.scoreboard import Field, Limit
from tests.http.server import Client
from tests.websocket.client_frames import frame
from tests.websocket.test_connection import HANDSHAKE, read_close
from tests.worker.test_handover import Worker, wait_until

TEXT, BINARY, CLOSE, PING = 0x81, 0x82, 0x88, 0x89


class Kept:
    """Counts messages, and takes the count along."""

    def __init__(self, name):
        self.name = name
        self.scopes = []
        self.received = []
        self.subprotocol = None
        self.takes_part = True
        self.gate = None
        """Awaited before each receive."""
        self.before_accept = None

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        count = int(scope["extensions"]["asgireload.handover"].get("state", b"0"))
        assert (await receive()) == {"type": "websocket.connect"}
        if self.before_accept is not None:
            await self.before_accept(send)
        accept = {"type": "websocket.accept", "subprotocol": self.subprotocol}
        await send({**accept, "handover": self.takes_part})
        while True:
            if self.gate is not None:
                await self.gate.wait()
            message = await receive()
            self.received.append(message)
            if message["type"] == "websocket.receive":
                count += 1
                text = message.get("text") or message.get("bytes").decode()
                await send({"type": "websocket.send", "text": f"{self.name} {count} {text}"})
            elif message["type"] == "websocket.handover":
                await self.hand_over(send, b"%d" % count)
                return
            else:
                return

    async def hand_over(self, send, state):
        await send({"type": "websocket.handover", "state": state})

    def types(self):
        return [message["type"].removeprefix("websocket.") for message in self.received]


class Row:
    """Workers a, b, c; clients connect to a."""

    def __init__(self, workers, port):
        self.workers = workers
        self.port = port
        self.clients = []

    async def open(self, headers=b""):
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        client.send(HANDSHAKE + headers + b"\r\n")
        assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return client

    def leave(self, index=0, *, successor=True, number=0):
        if successor:
            self.name_successor(index, index + 1, number)
        self.workers[index].begin_drain()

    def name_successor(self, old, new, number=0):
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.workers[old].handover.hand_to(one, number)
        self.workers[new].handover.receive(other)

    async def wait_moved(self, index=0, count=1):
        old, new = self.workers[index : index + 2]
        await wait_until(lambda: new.count(Field.TAKEN_OVER_TOTAL) == count)
        await wait_until(lambda: old.live.is_idle)
        assert old.count(Field.HANDED_OVER_TOTAL) == count


@asynccontextmanager
async def row(**options):
    """Yield three workers and their applications, and see that nothing is left behind."""
    more = {name: options.pop(name) for name in ("b_options",) if name in options}
    workers = [
        Worker(name, **{**options, **(more.get("b_options", {}) if name == "b" else {})})
        for name in "abc"
    ]
    apps = [Kept(worker.name) for worker in workers]
    for worker, app in zip(workers, apps, strict=True):
        worker.served.app = app
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: http_protocol(workers[0].wire), "127.0.0.1", 0)
    the_row = Row(workers, listener.sockets[0].getsockname()[1])
    try:
        yield the_row, *apps
    finally:
        for client in the_row.clients:
            await client.close()
        for worker in workers:
            worker.handover.withdraw()
            worker.live.cancel_background()
            for connection in tuple(worker.live.connections):
                connection.abort()
            async with asyncio.timeout(5):
                await worker.handover.wait_idle()
            assert worker.count(Field.WEBSOCKETS) == 0
            assert worker.count(Field.CONNECTIONS) == 0
        listener.close()


async def read_text(client):
    head = await asyncio.wait_for(client.reader.readexactly(2), 5)
    assert head[0] == TEXT, head
    return (await client.reader.readexactly(head[1])).decode()


def test_the_client_sees_nothing_but_a_pause(run):
    async def main():
        async with row() as (here, a, b, c):
            client = await here.open()
            client.send(frame(TEXT, b"one"))
            assert await read_text(client) == "a 1 one"
            here.leave()
            await here.wait_moved()
            client.send(frame(TEXT, b"two"))
            assert await read_text(client) == "b 2 two"
            here.leave(1)
            await here.wait_moved(1)
            client.send(frame(TEXT, b"three"))
            assert await read_text(client) == "c 3 three"
            client.send(frame(CLOSE, b"\x03\xe8"))
            assert await read_close(client) == (1000, "")
            await wait_until(lambda: c.types() == ["receive", "disconnect"])
            assert a.types() == b.types() == ["receive", "handover"]
            assert [worker.count(Field.WEBSOCKETS_TOTAL) for worker in here.workers] == [1, 0, 0]
            assert [worker.count(Field.REQUESTS_TOTAL) for worker in here.workers] == [1, 0, 0]

    run(main())


def test_the_scope_is_the_same_but_for_the_state(run):
    async def main():
        async with row(ws_handover_max_state=99) as (here, a, b, _):
            await here.open(b"Sec-WebSocket-Protocol: x\r\nX-Forwarded-For: 192.0.2.7\r\n")
            here.leave()
            await here.wait_moved()
            await wait_until(lambda: b.scopes)
            before, after = a.scopes[0], b.scopes[0]
            extensions, extensions_after = before.pop("extensions"), after.pop("extensions")
            assert before == after
            assert extensions["asgireload.handover"] == {"max_state": 99}
            assert extensions_after["asgireload.handover"] == {"max_state": 99, "state": b"0"}
            assert "websocket.http.response" not in extensions_after
            assert extensions_after["asgireload.drain"] is here.workers[1].served.drain.notice

    run(main())


def compressing():
    deflater = zlib.compressobj(wbits=-15)
    return lambda text: (deflater.compress(text) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 14, 17, 22, -1])
@pytest.mark.parametrize("headers", [b"", DEFLATE])
def test_half_a_message_moves(run, cut, headers):
    """It is compressed in terms of the one before, and a ping comes within it."""
    compress = compressing() if headers else lambda text: text
    rsv = 0x40 if headers else 0
    first = frame(TEXT | rsv, compress(b"first message, first message"))
    payload = compress(b"second message, second message")
    second = (
        frame(1 | rsv, payload[:6])
        + frame(PING, b"?")
        + frame(0, payload[6:9])
        + frame(0x80, payload[9:])
    )

    async def main():
        async with row() as (here, _a, _b, _):
            client = await here.open(headers)
            client.send(first)
            reply = await client.reader.readexactly(2)
            await client.reader.readexactly(reply[1])
            before = here.workers[0].count(Field.BYTES_RECEIVED_TOTAL)
            client.send(second[:cut])
            await wait_until(
                lambda: (
                    here.workers[0].count(Field.BYTES_RECEIVED_TOTAL) == before + len(second[:cut])
                )
            )
            here.leave()
            await here.wait_moved()
            client.send(second[cut:])
            pong = await client.reader.readexactly(3)
            assert pong == b"\x8a\x01?"
            head = await client.reader.readexactly(2)
            data = await client.reader.readexactly(head[1])
            if head[0] & 0x40:
                data = zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")
            assert data == b"b 2 second message, second message"

    run(main())


def test_messages_that_the_application_has_not_taken_move(run):
    async def main():
        async with row(ws_max_queue=4) as (here, a, _b, _):
            a.gate = asyncio.Event()
            client = await here.open()
            client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(20)))
            connection = next(iter(here.workers[0].live.connections))
            await wait_until(lambda: connection._is_reading_paused)
            here.leave()
            a.gate.set()
            await here.wait_moved()
            assert a.types() == ["handover"]
            for number in range(20):
                assert await read_text(client) == f"b {number + 1} {number}"

    run(main())


def test_what_was_sent_before_the_state_arrives_before_the_rest(run):
    async def main():
        async with row() as (here, a, _b, _):
            client = await here.open()

            async def hand_over(send, state):
                await send({"type": "websocket.send", "bytes": bytes(3_000_000)})
                await send({"type": "websocket.handover", "state": state})
                with pytest.raises(OSError):
                    await send({"type": "websocket.send", "text": "behind the state"})

            a.hand_over = hand_over
            client.writer.transport.pause_reading()
            here.leave()
            await wait_until(lambda: "handover" in a.types())
            client.send(frame(TEXT, b"x"))
            client.writer.transport.resume_reading()
            head = await client.reader.readexactly(10)
            assert head[:2] == b"\x82\x7f"
            assert await client.reader.readexactly(3_000_000) == bytes(3_000_000)
            assert await read_text(client) == "b 1 x"

    run(main())


def test_nothing_is_offered_before_the_application_has_returned(run):
    async def main():
        async with row() as (here, a, b, _):
            client = await here.open()
            gate = asyncio.Event()

            async def hand_over(send, state):
                await send({"type": "websocket.handover", "state": state})
                await gate.wait()

            a.hand_over = hand_over
            here.leave()
            client.send(frame(TEXT, b"x"))
            await wait_until(lambda: "handover" in a.types())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not b.scopes
            gate.set()
            assert await read_text(client) == "b 1 x"

    run(main())


@pytest.mark.parametrize(
    "what",
    ["opts out", "declines", "fails", "fails behind the state", "gives nonsense", "too much"],
)
def test_an_application_that_does_not_take_part_is_closed(run, what, caplog):
    async def main():
        async with row(ws_handover_max_state=100) as (here, a, b, _):
            a.takes_part = what != "opts out"

            async def hand_over(send, state):
                if what == "fails":
                    raise RuntimeError("no")
                if what == "gives nonsense":
                    await send({"type": "websocket.handover", "state": "text"})
                if what == "too much":
                    await send({"type": "websocket.handover", "state": bytes(101)})
                if what == "fails behind the state":
                    await send({"type": "websocket.handover", "state": state})
                    raise RuntimeError("no")

            a.hand_over = hand_over
            client = await here.open()
            here.leave()
            told, _ = await read_close(client)
            assert told == 1012
            client.send(frame(CLOSE, b"\x03\xf4"))
            assert await client.read_all() == b""
            assert not b.scopes
            failures = here.workers[0].count(Field.APP_ERRORS_TOTAL)
            assert failures == (0 if what in ("opts out", "declines") else 1)
            text = {"gives nonsense": "must be bytes, not str", "too much": "101 bytes, more than"}
            assert text.get(what, "") in caplog.text
            if what == "opts out":
                assert a.types() == ["disconnect"]
                assert a.received[0]["code"] == 1012

    run(main())


def test_a_late_application_is_closed_and_its_state_forgotten(run):
    async def main():
        async with row(ws_handover_timeout=0.02, close_window=0.0) as (here, a, b, _):
            heard = asyncio.Event()

            async def hand_over(send, state):
                await wait_until(lambda: a_connection._leaving.stage.name == "DONE")
                await send({"type": "websocket.handover", "state": state})
                heard.set()

            a.hand_over = hand_over
            client = await here.open()
            a_connection = next(iter(here.workers[0].live.connections))
            here.leave()
            assert (await read_close(client))[0] == 1012
            await client.close()
            await here.workers[0].live.wait_idle()
            assert not b.scopes

    run(main())


def test_state_without_being_asked_is_a_fault(run, caplog):
    async def main():
        async with row() as (here, a, *_):

            async def before_accept(send):
                await send({"type": "websocket.accept", "handover": True})
                await send({"type": "websocket.handover", "state": b""})

            a.before_accept = before_accept
            client = await here.open()
            assert (await read_close(client))[0] == 1011
            assert "wait until receive() has returned it" in caplog.text

    run(main())


def test_a_successor_without_room_gives_it_back(run):
    async def main():
        async with row(b_options={"limit_connections": 0}, ws_handover_timeout=0.05) as rows:
            here, a, b, _ = rows
            client = await here.open()
            here.leave()
            assert (await read_close(client))[0] == 1012
            assert a.types() == ["handover"]
            assert not b.scopes

    run(main())


def test_what_one_successor_has_no_room_for_goes_to_the_next(run):
    async def main():
        async with row(b_options={"limit_connections": 1}) as (here, _a, b, c):
            clients = [await here.open() for _ in range(3)]
            first = here.workers[0]
            spent = []
            first.handover._on_spent = spent.append
            here.leave(number=7)
            await wait_until(lambda: spent)
            here.name_successor(0, 2)
            await wait_until(lambda: first.live.is_idle)
            assert spent == [7]
            # The sockets are theirs; their applications may yet have to begin.
            await wait_until(lambda: len(b.scopes) + len(c.scopes) == 3)
            assert (len(b.scopes), len(c.scopes)) == (1, 2)
            answers = []
            for client in clients:
                client.send(frame(TEXT, b"x"))
                answers.append(await read_text(client))
            assert sorted(answers) == ["b 1 x", "c 1 x", "c 1 x"]

    run(main())


@pytest.mark.parametrize("moment", ["asked", "answered", "offered"])
def test_when_the_successor_goes_it_moves_to_the_next(run, moment):
    async def main():
        async with row() as (here, a, b, _c):
            gate = asyncio.Event()

            async def hand_over(send, state):
                if moment != "asked":
                    await send({"type": "websocket.handover", "state": state})
                if moment != "offered":
                    await gate.wait()
                if moment == "asked":
                    await send({"type": "websocket.handover", "state": state})

            a.hand_over = hand_over
            client = await here.open()
            client.send(frame(TEXT, b"one"))
            assert await read_text(client) == "a 1 one"
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            here.workers[0].handover.hand_to(one)
            here.leave(successor=False)
            (connection,) = here.workers[0].live.connections
            await wait_until(lambda: "handover" in a.types())
            if moment == "offered":
                await wait_until(lambda: connection._leaving.state is LeavingState.OFFERED)
            other.close()
            await wait_until(lambda: here.workers[0].served.drain.successor is None)
            gate.set()
            await wait_until(lambda: connection._leaving.state is LeavingState.WAITING)
            client.send(frame(TEXT, b"two"))
            here.name_successor(0, 2)
            assert await read_text(client) == "c 2 two"
            assert not b.scopes

    run(main())


@pytest.mark.parametrize("comes", ["another", "nobody", "the deadline"])
def test_one_that_was_not_asked_yet_when_the_successor_goes_serves_on_until_another_comes(
    run, comes
):
    async def main():
        timeout = 0.05 if comes == "nobody" else 60.0
        async with row(ws_handover_timeout=timeout) as (here, a, b, _c):
            client = await here.open()
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            here.workers[0].handover.hand_to(one)
            other.close()
            await wait_until(lambda: here.workers[0].served.drain.successor is None)
            here.workers[0].begin_drain(0.4 if comes == "the deadline" else 10.0)
            if comes == "another":
                client.send(frame(TEXT, b"one"))
                assert await read_text(client) == "a 1 one"
                here.name_successor(0, 2)
                await wait_until(lambda: "handover" in a.types())
                client.send(frame(TEXT, b"two"))
                assert await read_text(client) == "c 2 two"
                assert not b.scopes
            else:
                assert (await read_close(client))[0] == 1012

    run(main())


def place_of(leaving):
    """Return the name of the stage, or of the state once nothing is waited for but the other worker."""
    return leaving.state.name if leaving.stage.name == "LEAVING" else leaving.stage.name


@pytest.mark.parametrize("ends", ["the timeout", "the drain"])
@pytest.mark.parametrize("stage", ["ASKED", "ANSWERED", "WAITING"])
def test_a_successor_that_goes_leaves_it_here_when_nobody_else_comes(run, stage, ends):
    """It is closed with a word, and not cut at the deadline of the drain with all others."""

    async def main():
        timeout, drain = (0.05, 10.0) if ends == "the timeout" else (60.0, 0.4)
        async with row(ws_handover_timeout=timeout, close_window=0.0) as (here, a, _b, _):
            gate = asyncio.Event()
            if stage == "WAITING":
                gate.set()

            async def hand_over(send, state):
                if stage != "ASKED":
                    await send({"type": "websocket.handover", "state": state})
                await gate.wait()

            a.hand_over = hand_over
            client = await here.open()
            worker = here.workers[0]
            (connection,) = worker.live.connections
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            worker.handover.hand_to(one)
            worker.begin_drain(drain)
            offered = "OFFERED" if stage == "WAITING" else stage
            await wait_until(lambda: place_of(connection._leaving) == offered)
            other.close()
            await wait_until(lambda: worker.served.drain.successor is None)
            assert place_of(connection._leaving) == stage
            assert (await read_close(client))[0] == 1012
            assert worker.count(Field.CUT_TOTAL) == 0
            gate.set()

    run(main())


def test_without_a_successor_nothing_is_handed_over(run):
    async def main():
        async with row() as (here, a, _b, _):
            client = await here.open()
            here.leave(successor=False)
            assert (await read_close(client))[0] == 1012
            await wait_until(lambda: a.types() == ["disconnect"])

    run(main())


# --- what the new application does ----------------------------------------------------------------


@pytest.mark.parametrize("subprotocol", ["chat", "other", None])
def test_the_subprotocol_stays_what_was_agreed(run, subprotocol, caplog):
    async def main():
        async with row() as (here, a, b, _):
            a.subprotocol = "chat"
            b.subprotocol = subprotocol
            client = await here.open(b"Sec-WebSocket-Protocol: chat, other\r\n")
            here.leave()
            client.send(frame(TEXT, b"x"))
            if subprotocol == "chat":
                assert await read_text(client) == "b 1 x"
            else:
                assert (await read_close(client))[0] == 1011
                assert "is 'chat' since its handshake" in caplog.text

    run(main())


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "websocket.close", "code": 4001, "reason": "no"}, 4001),
        ({"type": "websocket.close"}, 1000),
        ({"type": "websocket.http.response.start", "status": 403}, 1011),
        ({"type": "websocket.send", "text": "x"}, 1011),
        (None, 1011),
    ],
)
def test_a_new_application_that_does_not_accept_ends_it_with_a_close_frame(run, message, code):
    async def main():
        async with row() as (here, _a, b, _):

            async def before_accept(send):
                if message is None:
                    raise RuntimeError("broken")
                await send(message)

            b.before_accept = before_accept
            client = await here.open()
            client.send(frame(TEXT, b"x"))
            assert await read_text(client) == "a 1 x"
            here.leave()
            assert (await read_close(client))[0] == code
            client.send(frame(CLOSE, code.to_bytes(2, "big")))
            assert await client.read_all() == b""

    run(main())


def test_a_client_that_leaves_meanwhile_is_noticed_over_there(run):
    async def main():
        async with row() as (here, _a, b, _):
            client = await here.open()
            b.gate = asyncio.Event()
            here.leave()
            await here.wait_moved()
            await client.close()
            b.gate.set()
            await wait_until(lambda: b.types() == ["disconnect"])
            assert b.received[0]["code"] == 1006

    run(main())


def test_one_that_has_just_arrived_moves_on(run):
    """The second reload begins before the application has accepted what the first one brought."""

    async def main():
        async with row() as (here, _a, b, _c):
            gate = asyncio.Event()

            async def before_accept(send):
                await gate.wait()

            b.before_accept = before_accept
            client = await here.open()
            client.send(frame(TEXT, b"x"))
            assert await read_text(client) == "a 1 x"
            here.leave()
            await wait_until(lambda: b.scopes)
            client.send(frame(TEXT, b"y"))
            here.leave(1)
            gate.set()
            assert await read_text(client) == "c 2 y"
            assert b.types() == ["handover"]

    run(main())


def test_one_that_is_never_accepted_is_closed_at_the_deadline(run):
    async def main():
        async with row() as (here, _a, b, _):

            async def before_accept(send):
                await asyncio.Event().wait()

            b.before_accept = before_accept
            client = await here.open()
            here.leave()
            await wait_until(lambda: b.scopes)
            here.leave(1)
            for connection in tuple(here.workers[1].live.connections):
                connection.cut()
            assert (await read_close(client))[0] == 1012

    run(main())


def test_lower_limits_over_there_hold_for_what_has_come(run):
    async def main():
        async with row(b_options={"ws_max_size": 50}) as (here, _a, b, _):
            client = await here.open()
            client.send(frame(1, bytes(60)))
            first = here.workers[0]
            await wait_until(lambda: first.live.connections)
            connection = next(iter(first.live.connections))
            await wait_until(lambda: connection._session._opcode)
            here.leave()
            assert (await read_close(client))[0] == 1009
            assert not b.scopes
            counted = here.workers[1].count(Field.LIMIT_0 + Limit.WS_SIZE)
            assert counted == 1

    run(main())


# --- pings, the log, a real client ----------------------------------------------------------------


def test_pings_go_on_in_their_rhythm(run):
    async def main():
        async with row(ws_ping_interval=0.1, ws_ping_timeout=0.1) as (here, _a, _b, _):
            client = await here.open()
            ping = await client.reader.readexactly(6)
            assert ping[:2] == b"\x89\x04"
            here.leave()
            await here.wait_moved()
            # The answer comes to the new worker, which then asks again, and closes when none comes.
            client.send(frame(0x8A, ping[2:]))
            assert (await client.reader.readexactly(6))[:2] == b"\x89\x04"
            assert await read_close(client) == (1011, "keepalive ping timeout")

    run(main())


def test_a_client_of_another_make_stays_connected(run):
    text = "grüße " * 100

    async def main():
        async with row() as (here, *_):
            async with connect(f"ws://127.0.0.1:{here.port}/ws") as client:
                assert client.protocol.extensions
                for index, name in enumerate("abc"):
                    await client.send([text[:50], text[50:]])
                    assert await client.recv() == f"{name} {2 * index + 1} {text}"
                    if index < 2:
                        here.leave(index)
                        await client.send("meanwhile " * 9)
                        answer = await client.recv()
                        assert answer.split(" ", 1)[1] == f"{2 * index + 2} " + "meanwhile " * 9
                        await here.wait_moved(index)

    run(main())


def test_the_access_log_has_one_entry_for_all_of_it(run):
    async def main():
        async with row() as (here, *_):
            client = await here.open()
            entries = []
            for worker in here.workers:
                worker.served.access_log = Entries(entries)
            here.leave()
            await here.wait_moved()
            client.send(frame(TEXT, b"x"))
            assert await read_text(client) == "b 1 x"
            client.send(frame(CLOSE, b"\x03\xe8"))
            await client.read_all()
            await wait_until(lambda: entries)
            (entry,) = entries
            assert entry.close_code == 1000
            assert entry.status == 101
            assert entry.is_complete

    run(main())


class Entries:
    """An access log that keeps its entries."""

    logs_at_start = False
    entry_from_ns = 0

    def __init__(self, entries):
        self.response_ended = entries.append
