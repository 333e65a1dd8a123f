"""Connections that are answered before the event loop has their socket.

Everything in tests/http and tests/http1 is run in this way, too (`direct` there). Here is what is particular: when
the loop gets the socket, and that nothing tells a client on which way it was served.
"""

import asyncio
import contextvars
import os
import re
import socket
import struct
from functools import partial
from itertools import pairwise

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.draining import DrainReason
from asgireload.http1.connection import http_protocol
from asgireload.ipc.scoreboard import Field
from asgireload.net.deferring import defer
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.inline_serving import READ_BYTES, InlineServing
from tests.http.server import Client
from tests.wired import Wired, make_wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MASKED_HI = b"\x81\x82\x00\x00\x00\x00hi"
PATIENCE = 10


class CountingLoop(uvloop.Loop):
    """Counts the sockets that it is given."""

    __module__ = "uvloop"  # it is one, as far as the acceptor is concerned
    given = 0

    def connect_accepted_socket(self, *args, **options):
        self.given += 1
        return super().connect_accepted_socket(*args, **options)


class Served(Wired):
    """Inline serving with its own listening socket, and clients of it."""

    def __init__(self, app, *, host="127.0.0.1", is_direct=True, **options):
        self.loop = asyncio.get_running_loop()
        self.wire = make_wire(app, websocket=True, **options)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, 0), family=family)
        self.listener.setblocking(False)
        if is_direct:
            defer(self.listener)
        self.acceptor = Acceptor(
            self.loop,
            [Entrance(self.listener)],
            partial(http_protocol, self.wire),
            record=self.live.record,
            handshake_timeout=5.0,
            has_room=self.live.has_room,
            inline=InlineServing(self.wire),
        )
        self.live.on_room = self.acceptor.note_room
        self.acceptor.start()
        self.port = self.listener.getsockname()[1]
        self.clients = []

    async def connect(self, host="127.0.0.1"):
        client = Client(*await asyncio.open_connection(host, self.port))
        self.clients.append(client)
        return client

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.acceptor.stop()
        self.acceptor.abandon()
        self.listener.close()
        for client in self.clients:
            await client.close()
        for connection in tuple(self.live.connections):
            connection.abort()
        self.live.cancel_background()
        async with asyncio.timeout(PATIENCE):
            await self.live.wait_idle()
        values = self.live.record.values
        assert (values[Field.CONNECTIONS], values[Field.EXCHANGES]) == (0, 0)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event to wait for
            await asyncio.sleep(0)


def run(main):
    """Run a coroutine function, and return how many sockets the loop was given."""
    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        runner.run(asyncio.wait_for(main(), 30))
        return runner.get_loop().given


async def hello(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": b"hello"})


def test_the_only_request_of_a_connection_is_answered_without_the_loop():
    async def main():
        async with Served(hello) as served:
            for _ in range(3):
                client = await served.connect()
                client.send(LAST)
                answer = await client.read_all()
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert b"\r\nconnection: close\r\n" in answer
                assert answer.endswith(b"\r\n\r\nhello")
            values = served.live.record.values
            assert values[Field.CONNECTIONS_TOTAL] == 3
            assert values[Field.REQUESTS_TOTAL] == 3
            assert values[Field.RESPONSES_2XX_TOTAL] == 3
            assert values[Field.BYTES_RECEIVED_TOTAL] == 3 * len(LAST)
            assert values[Field.BYTES_SENT_TOTAL] == 3 * len(answer)

    assert run(main) == 0


def test_a_short_wait_is_no_reason_to_involve_the_loop():
    async def app(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        await asyncio.sleep(0)
        await hello(scope, receive, send)

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(LAST)
            assert (await client.read_all()).endswith(b"hello")

    assert run(main) == 0


@pytest.mark.parametrize("delay", [0.1, 0])
@pytest.mark.parametrize("data", [LAST, GET + GET])
def test_who_waits_for_the_departure_of_a_client_is_told(delay, data):
    """At once, or when it has taken longer than a moment anyway; also with a request unread."""
    seen = []

    async def app(scope, receive, send):
        await asyncio.sleep(delay)
        await receive()
        seen.append((await receive())["type"])

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(data)
            await until(lambda: served.loop.given)
            await client.close()
            await until(lambda: seen)
            assert seen == ["http.disconnect"]

    assert run(main) == 1


@pytest.mark.parametrize("pieces", [[GET], [GET[:20], GET[20:]], [b"\r\n", GET]])
def test_a_connection_that_stays_is_the_loops(pieces):
    async def main():
        async with Served(hello) as served:
            client = await served.connect()
            for piece in pieces:
                client.send(piece)
                await asyncio.sleep(0.01)
            assert (await client.read_response())[2] == b"hello"
            for _ in range(3):
                client.send(GET)
                assert (await client.read_response())[2] == b"hello"
            client.send(GET + GET + LAST)
            assert (await client.read_all()).count(b"hello") == 3

    assert run(main) == 1


def test_pipelined_requests_are_answered_in_order():
    async def app(scope, receive, send):
        await asyncio.sleep(0)
        body = scope["path"].encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(b"".join(GET.replace(b"/ ", b"/%d " % n) for n in range(5)) + LAST)
            answers = await client.read_all()
            assert re.findall(rb"\r\n\r\n(/\d?)", answers) == [
                b"/0",
                b"/1",
                b"/2",
                b"/3",
                b"/4",
                b"/",
            ]

    run(main)


@pytest.mark.parametrize("size", [10, READ_BYTES, 300_000])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_body_arrives_whole(size, at_once):
    async def app(scope, receive, send):
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d" % len(body)})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            head = LAST[:-2] + b"Content-Length: %d\r\n\r\n" % size
            body = bytes(size)
            client.send(head + body if at_once else head)
            if not at_once:
                await asyncio.sleep(0.01)
                client.send(body)
            assert (await client.read_all()).endswith(b"\r\n\r\n%d" % size)

    run(main)


@pytest.mark.parametrize("piece", [1_000, 3_000_000])
def test_a_client_that_reads_slowly_gets_all_and_slows_the_application_down(piece):
    count = 30_000_000 // piece
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200})
        for _ in range(count):
            await send({"type": "http.response.body", "body": b"x" * piece, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b"end"})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.writer.transport.pause_reading()
            client.send(LAST.replace(b"1.1", b"1.0"))
            await until(lambda: served.loop.given)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < count
            client.writer.transport.resume_reading()
            answer = await client.read_all()
            assert answer.endswith(b"xend")
            assert answer.count(b"x") == count * piece

    assert run(main) == 1


def test_a_handshake_becomes_a_websocket_of_the_loop():
    async def app(scope, receive, send):
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        for _ in range(2):
            message = await receive()
            await send({"type": "websocket.send", "text": message["text"]})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(HANDSHAKE + MASKED_HI)  # a client may not, but what if it does
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert await client.reader.readexactly(4) == b"\x81\x02hi"
            client.send(MASKED_HI)
            assert await client.reader.readexactly(4) == b"\x81\x02hi"

    assert run(main) == 1


def test_a_handshake_behind_a_request_becomes_one_too():
    async def app(scope, receive, send):
        if scope["type"] == "http":
            await hello(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(GET + HANDSHAKE)
            assert (await client.read_response())[2] == b"hello"
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            client.send(MASKED_HI)
            assert await client.reader.readexactly(4) == b"\x81\x02hi"

    assert run(main) == 1


@pytest.mark.parametrize("is_only", [True, False])
def test_a_file_is_sent_by_the_kernel(tmp_path, is_only):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2_000_000))

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": str(path)})

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(LAST if is_only else GET + LAST)
            answer = await client.read_all()
            assert answer.count(path.read_bytes()) == (1 if is_only else 2)

    assert run(main) == 1


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (LAST[:-2] + b"a" * 200_000, b"431"),
    ],
)
def test_what_is_refused_is_told_before_the_close(data, status):
    async def main():
        async with Served(hello) as served:
            client = await served.connect()
            client.send(data)
            assert (await client.read_until(b"\r\n")).split()[1] == status

    run(main)


@pytest.mark.parametrize("more", [0, 500_000])
def test_a_response_that_breaks_off_does_not_look_complete(more):
    """Also where bytes of it wait in the server."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x" * (10 + more), "more_body": True})
        raise RuntimeError("on purpose")

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            client.send(b"GET / HTTP/1.0\r\n\r\n")  # its end is the end of the body
            with pytest.raises(ConnectionResetError):
                await client.read_all()

    run(main)


def test_a_client_that_has_left_already_breaks_nothing():
    done = []

    async def app(scope, receive, send):
        await asyncio.sleep(0.005)  # still not the loop's
        await hello(scope, receive, send)
        done.append(True)

    async def main():
        async with Served(app) as served:
            client = await served.connect()
            own_socket = client.writer.get_extra_info("socket")
            own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.send(LAST)
            await until(lambda: served.live.record.values[Field.REQUESTS_TOTAL])
            client.writer.transport.abort()
            await until(lambda: done and not served.live.connections)
            # The next one is served as ever.
            client = await served.connect()
            client.send(LAST)
            assert (await client.read_all()).endswith(b"hello")

    run(main)


@pytest.mark.parametrize(
    ("host", "to", "server"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.2", "127.0.0.2"),
        ("::1", "::1", "::1"),
        ("::", "::1", "::1"),
    ],
)
def test_scopes_name_both_ends(host, to, server):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["client"], scope["server"], scope["scheme"]))
        await hello(scope, receive, send)

    async def main():
        async with Served(app, host=host) as served:
            client = await served.connect(to)
            name = client.writer.get_extra_info("sockname")
            client.send(LAST)
            await client.read_all()
            assert [(tuple(a), tuple(b), c) for a, b, c in seen] == [
                (tuple(name[:2]), (server, served.port), "http")
            ]

    assert run(main) == 0


def test_variables_of_one_request_are_not_seen_by_those_behind_it():
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    async def app(scope, receive, send):
        seen.append(variable.get())
        variable.set(1)
        await hello(scope, receive, send)

    async def main():
        # With room for one: the end of each connection makes room for the next.
        async with Served(app, limit_connections=1) as served:
            clients = [await served.connect() for _ in range(3)]
            for client in clients:
                client.send(GET)
            for client in clients:
                assert (await client.read_response())[2] == b"hello"
                client.send(LAST)
                assert (await client.read_all()).endswith(b"hello")
            assert seen == [0] * 6

    run(main)


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_drain_that_begins_meanwhile_ends_the_connection_politely(is_slow):
    begun = asyncio.Event()

    async def app(scope, receive, send):
        begun.set()
        await asyncio.sleep(0.1 if is_slow else 0)
        await hello(scope, receive, send)

    async def main():
        async with Served(app, drain_grace=0.05) as served:
            client = await served.connect()
            client.send(GET)
            await begun.wait()
            served.served.drain.notice.begin(DrainReason.STOP, served.loop.time() + 5)
            for connection in tuple(served.live.connections):
                connection.begin_drain()
            answer = await client.read_all()
            assert answer.endswith(b"hello")
            if is_slow:
                assert b"connection: close" in answer

    run(main)


def test_during_a_drain_connections_are_the_loops_from_the_beginning():
    async def main():
        async with Served(hello) as served:
            served.served.drain.notice.begin(DrainReason.STOP, served.loop.time() + 5)
            client = await served.connect()
            client.send(LAST)
            assert (await client.read_all()).endswith(b"hello")

    assert run(main) == 1


def test_cutting_and_dropping_reach_a_connection_that_the_loop_has_not_got():
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    async def main():
        async with Served(app) as served:
            for way, status in (("cut", b"503"), ("abort", b"")):
                client = await served.connect()
                client.send(LAST)
                async with asyncio.timeout(PATIENCE):
                    await until(lambda: served.live.connections)
                    (connection,) = served.live.connections
                    getattr(connection, way)()
                    try:
                        answer = await client.read_all()
                    except ConnectionResetError:
                        answer = b""
                    assert answer[9:12] == status
                    await until(lambda: not served.live.connections)

    run(main)


def test_no_descriptor_is_left_behind():
    async def app(scope, receive, send):
        if scope["path"] == "/slow":
            await asyncio.sleep(0.03)
        await hello(scope, receive, send)

    async def main():
        async with Served(app) as served:

            async def ask(data):
                client = await served.connect()
                client.send(data)
                await asyncio.sleep(0.05)
                await client.close()
                await until(lambda: not served.live.connections)

            await ask(LAST)  # what the loop opens for itself, it opens once
            before = len(os.listdir("/proc/self/fd"))
            for data in (
                LAST,
                LAST.replace(b"/ ", b"/slow "),
                GET,
                b"nonsense\r\n\r\n",
                HANDSHAKE[:30],
            ):
                await ask(data)
            await until(lambda: len(os.listdir("/proc/self/fd")) == before)

    run(main)


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("sleep"), st.sampled_from([0, 0, 0, 0.001, 0.015])),
        st.tuples(st.just("send"), st.sampled_from([0, 1, 100, 5_000, 70_000, 400_000])),
    ),
    max_size=6,
)
"""What an application does before it is done."""
KEPT = st.lists(
    st.sampled_from(
        [
            GET,
            GET.replace(b"GET", b"HEAD"),
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ]
    ),
    max_size=3,
)
ENDS = st.sampled_from(
    [LAST, LAST.replace(b"1.1", b"1.0"), LAST.replace(b"GET", b"HEAD"), b"broken\r\n\r\n"]
)


@settings(deadline=None, max_examples=60)
@given(acts=ACTS, kept=KEPT, end=ENDS, cuts=st.lists(st.integers(0, 200), max_size=2))
def test_a_client_cannot_tell_which_way_it_was_served(acts, kept, end, cuts):
    """Whatever an application does, and however the bytes of its clients come."""

    async def app(scope, receive, send):
        # A response before the end of its request says whether the connection stays, and that is a matter of
        # when the rest comes: on a busy machine two pieces may come as one.
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        # Otherwise it is a matter of time whether the head leaves before the body, and with which framing.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        for act, value in acts:
            if act == "sleep":
                await asyncio.sleep(value)
            else:
                body = b"b" * value
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    stream = b"".join([*kept, end])
    places = sorted({0, *(cut % len(stream) for cut in cuts), len(stream)})
    answers = []

    async def ask(served):
        client = await served.connect()
        for begin, end in pairwise(places):
            client.send(stream[begin:end])
            await asyncio.sleep(0.002)
        answers.append(re.sub(rb"date: [^\r]*", b"", await client.read_all()))

    async def main():
        for is_direct in (True, False):
            async with Served(app, is_direct=is_direct) as served:
                await ask(served)

    run(main)
    assert answers[0] == answers[1]
