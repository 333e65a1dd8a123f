"""The clients for what wrk cannot do. Each is a process of its own, driven over its standard streams.

    python -m benchmarks.suite.clients KIND '{"port": 8000, …}'

KIND is `closed` (requests, one after another on each connection, counted between two marks), `echo`
and `broadcast` (WebSocket) or `paced` (open loop: requests leave on a fixed schedule). When all connections
are open and warm it prints `ready`; a line on its standard input starts the measurement; the outcome is one
line of JSON. Its own CPU share is part of it: whoever reads the figures must know who was at the limit.
"""

import asyncio
import base64
import ctypes
import json
import os
import select
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, cast

import uvloop

from benchmarks.common.asking import LoadError, answer_length
from benchmarks.common.figures import percentile
from benchmarks.common.frames import BINARY, TEXT, masked_frame, payload_of, whole_frames

PR_SET_TIMERSLACK = 29
CONNECT_BATCH = 100
"""Connections that are opened at once: fewer than any server's backlog."""
STEP_TIMEOUT = 30.0
WARM_UNITS = 3
"""Answers on each connection before the measurement begins."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a client is asked to do."""

    port: int
    seconds: float
    connections: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    body_bytes: int = 0
    deflate: bool = False
    rate: int = 0
    """Requests per second of the paced client."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. Times are seconds."""

    units: int
    seconds: float
    cpu_seconds: float
    p50: float | None = None
    p99: float | None = None
    late_p99: float | None = None
    """By how much the paced client itself missed its schedule while a connection was free."""


def request_bytes(order: Order) -> bytes:
    """Return one request as it goes over the wire."""
    method = "POST" if order.body_bytes else "GET"
    lines = [f"{method} {order.path} HTTP/1.1", f"Host: 127.0.0.1:{order.port}"]
    lines += [f"{name}: {value}" for name, value in order.headers]
    if order.body_bytes:
        lines.append(f"Content-Length: {order.body_bytes}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + b"x" * order.body_bytes


class Counter:
    """What all connections of a client share."""

    def __init__(self) -> None:
        self.units = 0
        self.failure: Exception | None = None
        self.stopped = False

    def fail(self, reason: Exception) -> None:
        """End the run: its figure would be wrong."""
        if not self.stopped and self.failure is None:
            self.failure = reason


class Repeating(asyncio.Protocol):
    """Sends the next thing when the answer to the last one is whole."""

    transport: asyncio.Transport

    def __init__(self, counter: Counter, message: bytes) -> None:
        self.counter = counter
        self.message = message
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def connection_lost(self, reason: Exception | None) -> None:
        self.counter.fail(LoadError(f"the server closed a connection ({reason})"))

    def begin(self) -> None:
        """Send the first message."""
        self.transport.write(self.message)


class HttpRepeating(Repeating):
    """One keep-alive connection."""

    length = 0
    """Bytes of a whole answer; all answers of a run are equally long."""
    received = 0

    def data_received(self, data: bytes) -> None:
        if not self.length:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            try:
                self.length = answer_length(bytes(self.buffer[: end + 4]))
            except LoadError as error:
                self.counter.fail(error)
                return
            data = bytes(self.buffer)
        self.received += len(data)
        if self.received >= self.length:
            if self.received > self.length:
                self.counter.fail(LoadError("an answer is longer than the first one"))
                return
            self.received = 0
            self.counter.units += 1
            self.transport.write(self.message)


class SocketRepeating(Repeating):
    """One WebSocket after its handshake."""

    is_open = False
    repeats = True

    def __init__(self, counter: Counter, message: bytes, order: Order) -> None:
        super().__init__(counter, message)
        self.order = order
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {self.order.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.order.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        if self.order.deflate:
            # Without client_max_window_bits a server may not narrow our window (RFC 7692 section 7.1.2.2).
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[: end + 4]).lower()
            del self.buffer[: end + 4]
            if not head.startswith(b"http/1.1 101"):
                self.refuse(LoadError(f"no WebSocket: {head[:60]!r}"))
                return
            if (b"permessage-deflate" in head) is not self.order.deflate:
                self.refuse(LoadError("the server does not negotiate permessage-deflate"))
                return
            self.is_open = True
            self.opened.set_result(None)
        try:
            messages, taken = whole_frames(self.buffer)
        except ValueError as error:
            self.counter.fail(LoadError(str(error)))
            return
        if taken:
            del self.buffer[:taken]
        if messages:
            self.arrived(messages)

    def refuse(self, reason: LoadError) -> None:
        self.counter.fail(reason)
        if not self.opened.done():
            self.opened.set_exception(reason)

    def connection_lost(self, reason: Exception | None) -> None:
        self.refuse(LoadError(f"the server closed a WebSocket ({reason})"))

    def arrived(self, messages: int) -> None:
        """Send as many messages as came back."""
        self.counter.units += messages
        for _ in range(messages):
            self.transport.write(self.message)


class Listening(SocketRepeating):
    """One of many WebSockets that a message is broadcast to. The last to get it asks for the next one."""

    herald: "SocketRepeating | None" = None
    expected = 0

    def arrived(self, messages: int) -> None:
        self.counter.units += messages
        if self.herald is not None and self.counter.units % self.expected == 0:
            self.herald.transport.write(self.message)


async def open_all(order: Order, make: type[Repeating] | None, counter: Counter) -> list[Repeating]:
    """Open the connections in batches; WebSockets wait for their handshakes."""
    loop = asyncio.get_running_loop()
    payload = payload_of(order.body_bytes)

    def build() -> Repeating:
        if make is HttpRepeating:
            return HttpRepeating(counter, request_bytes(order))
        if make is Listening:
            return Listening(counter, masked_frame(payload, TEXT), order)
        frame = masked_frame(payload, BINARY, deflated=order.deflate)
        return SocketRepeating(counter, frame, order)

    protocols: list[Repeating] = []
    while len(protocols) < order.connections:
        number = min(CONNECT_BATCH, order.connections - len(protocols))
        async with asyncio.timeout(STEP_TIMEOUT):
            opened = await asyncio.gather(
                *(loop.create_connection(build, "127.0.0.1", order.port) for _ in range(number))
            )
            batch = [protocol for _, protocol in opened]
            await asyncio.gather(*(p.opened for p in batch if isinstance(p, SocketRepeating)))
        protocols += batch
    return protocols


async def wait_units(counter: Counter, wanted: int) -> None:
    """Wait until so many answers have come. Raise LoadError when they do not come in time."""
    deadline = time.monotonic() + STEP_TIMEOUT
    while counter.units < wanted:
        if counter.failure is not None:
            raise counter.failure
        if time.monotonic() > deadline:
            raise LoadError(f"{counter.units} of {wanted} answers within {STEP_TIMEOUT:g} s")
        await asyncio.sleep(0.005)


async def repeat(kind: str, order: Order) -> None:
    """Run one of the closed-loop clients."""
    counter = Counter()

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        counter.fail(context.get("exception") or LoadError(context["message"]))

    asyncio.get_running_loop().set_exception_handler(fail)
    make = {"closed": HttpRepeating, "echo": SocketRepeating, "broadcast": Listening}[kind]
    protocols = await open_all(order, make, counter)
    if kind == "broadcast":
        herald = protocols[0]
        assert isinstance(herald, SocketRepeating)
        for protocol in protocols:
            assert isinstance(protocol, Listening)
            protocol.herald, protocol.expected = herald, len(protocols)
        herald.begin()
    else:
        for protocol in protocols:
            protocol.begin()
    await wait_units(counter, WARM_UNITS * order.connections)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    units, began, cpu = counter.units, time.monotonic(), time.process_time()
    await asyncio.sleep(order.seconds)
    units, seconds = counter.units - units, time.monotonic() - began
    cpu = time.process_time() - cpu
    counter.stopped = True
    if counter.failure is not None:
        raise counter.failure
    # The rest of the loop's work would only delay the driver, which reads the server's clock next.
    print(json.dumps(asdict(Outcome(units, seconds, cpu))), flush=True)
    os._exit(0)


@dataclass(slots=True, eq=False)
class Paced:
    """One connection of the open-loop client."""

    socket: socket.socket
    due: float = 0.0
    """When its request should have left."""
    length: int = 0
    received: int = 0
    head: bytes = b""


def receive_some(paced: Paced) -> bool:
    """Read what is there and return whether the answer is whole."""
    data = paced.socket.recv(1 << 20)
    if not data:
        raise LoadError("the server closed a connection")
    if not paced.length:
        paced.head += data
        end = paced.head.find(b"\r\n\r\n")
        if end < 0:
            return False
        paced.length = answer_length(paced.head[: end + 4])
        data, paced.head = paced.head, b""
    paced.received += len(data)
    if paced.received < paced.length:
        return False
    paced.received = paced.length = 0
    return True


def send_whole(connection: socket.socket, request: bytes) -> None:
    """Send all of it; large bodies wait for the server to read, with a deadline."""
    sent = 0
    while sent < len(request):
        try:
            sent += connection.send(request[sent:] if sent else request)
        except BlockingIOError:
            if not select.select([], [connection], [], STEP_TIMEOUT)[1]:
                raise LoadError("the server does not read an upload") from None


def pace(order: Order) -> Outcome:
    """Send on a fixed schedule, whatever the server does; count latency from the scheduled time.

    select() takes its timeout in microseconds where epoll has milliseconds; the few connections of an
    open loop below saturation are no burden to it.
    """
    # Else the kernel may wake us 50 microseconds late: prctl(2).
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0)
    request = request_bytes(order)
    free: deque[Paced] = deque()
    for _ in range(order.connections):
        connection = Paced(socket.create_connection(("127.0.0.1", order.port), STEP_TIMEOUT))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(WARM_UNITS):
            connection.socket.sendall(request)
            while not receive_some(connection):
                pass
        connection.socket.setblocking(False)
        free.append(connection)
    print("ready", flush=True)
    sys.stdin.readline()
    interval = 1 / order.rate
    total = int(order.rate * order.seconds)
    busy: dict[socket.socket, Paced] = {}
    latencies: list[float] = []
    lateness: list[float] = []
    began, cpu = time.perf_counter(), time.process_time()
    started = 0
    had_free = True
    while len(latencies) < total:
        now = time.perf_counter() - began
        while started < total and free and started * interval <= now:
            paced = free.popleft()
            paced.due = started * interval
            if had_free:
                lateness.append(now - paced.due)
            send_whole(paced.socket, request)
            busy[paced.socket] = paced
            started += 1
            now = time.perf_counter() - began
        had_free = bool(free)
        if now > order.seconds + STEP_TIMEOUT:
            raise LoadError(f"{len(latencies)} of {total} answers within {now:.0f} s")
        wait = max(0.0, started * interval - now) if started < total and free else 1.0
        for ready in select.select(list(busy), [], [], wait)[0]:
            paced = busy[ready]
            if receive_some(paced):
                latencies.append(time.perf_counter() - began - paced.due)
                del busy[ready]
                free.append(paced)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    latencies.sort()
    lateness.sort()
    return Outcome(
        total,
        seconds,
        cpu,
        percentile(latencies, 0.5),
        percentile(latencies, 0.99),
        percentile(lateness, 0.99) if lateness else None,
    )


def main() -> None:
    kind = sys.argv[1]
    values = json.loads(sys.argv[2])
    order = Order(**{**values, "headers": tuple((n, v) for n, v in values.get("headers", ()))})
    try:
        if kind == "paced":
            print(json.dumps(asdict(pace(order))), flush=True)
        else:
            uvloop.run(repeat(kind, order))
    except (LoadError, OSError, TimeoutError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
