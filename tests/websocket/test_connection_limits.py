"""What a client, or an application, may do to one connection: bounds and their answers, over real sockets."""

import asyncio
import struct
import time
from typing import Any

import pytest

from asgireload.errors import AppProtocolError
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.websocket.connection import WebSocketConnection
from tests.http.server import Server, serving
from tests.websocket.client_frames import deflated, head
from tests.websocket.client_frames import frame as masked_frame
from tests.websocket.test_connection import (
    HANDSHAKE,
    drain,
    echo,
    frame,
    open_client,
    open_raw,
    read_close,
)


def limit_count(server: Server, limit: Limit) -> int:
    return server.live.record.values[Field.LIMIT_0 + limit]


def the_connection(server: Server) -> WebSocketConnection:
    (connection,) = server.live.connections
    assert isinstance(connection, WebSocketConnection)
    return connection


class Held:
    """An application that accepts, and receives nothing until it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.release.wait()
        while not self.seen or self.seen[-1]["type"] == "websocket.receive":
            self.seen.append(await receive())


# --- what a client sends --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "limit"),
    [
        (head(0x82, 1 << 62), 1009, Limit.WS_SIZE),
        (head(0x82, 501), 1009, Limit.WS_SIZE),
        (frame(2, bytes(500), fin=False) * 1 + head(0x00, 500) + bytes(500) + head(0x80, 1), 1009, Limit.WS_SIZE),
        (frame(2, fin=False) + frame(0, fin=False) * 8, 1008, Limit.WS_FRAGMENTS),
        (masked_frame(0xC2, deflated(bytes(1001))), 1009, Limit.WS_INFLATION),
    ],
)  # fmt: skip
def test_each_limit_has_its_code_and_its_counter(
    run: Any, parser: str, data: bytes, code: int, limit: Limit
) -> None:
    async def main() -> None:
        async with serving(
            echo, parser, ws_max_size=1000, ws_max_frame_size=500, ws_max_fragments=8
        ) as server:
            client = await open_raw(
                server, headers=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )
            client.send(data)
            reply = await client.read_all()
            assert reply[0] == 0x88
            assert struct.unpack("!H", reply[2:4])[0] == code
            assert limit_count(server, limit) == 1
            assert server.count(Field.PEER_ERRORS_TOTAL) == 1

    run(main())


def test_one_read_of_tiny_frames_stays_bytes_until_the_application_receives(
    run: Any, parser: str
) -> None:
    async def main() -> None:
        app = Held()
        async with serving(app, parser, ws_max_queue=8) as server:
            client = await open_raw(server)
            connection = the_connection(server)
            client.send(frame(1, b"x") * 20_000 + frame(8, struct.pack("!H", 4002)))
            await server.wait_until(lambda: connection._is_reading_paused)
            assert len(connection._queue.messages) == 8
            app.release.set()
            assert await client.read_all() == b"\x88\x02" + struct.pack("!H", 4002)
            await server.wait_until(lambda: app.seen[-1]["type"] == "websocket.disconnect")
            assert len(app.seen) == 20_001
            assert app.seen[-1]["code"] == 4002

    run(main())


def test_a_close_behind_held_messages_is_told_although_the_connection_is_lost(
    run: Any, parser: str
) -> None:
    async def main() -> None:
        app = Held()
        async with serving(app, parser, ws_max_queue=2) as server:
            client = await open_raw(server)
            connection = the_connection(server)
            client.send(frame(1, b"x") * 10 + frame(8, struct.pack("!H", 4002) + b"bye"))
            await server.wait_until(lambda: connection._is_reading_paused)
            connection._transport.abort()
            await server.wait_until(lambda: not server.live.connections)
            app.release.set()
            await server.live.wait_idle()
            assert len(app.seen) == 11
            assert app.seen[-1] == {"type": "websocket.disconnect", "code": 4002, "reason": "bye"}

    run(main())


def test_a_drain_finds_the_close_behind_held_messages(run: Any, parser: str) -> None:
    async def main() -> None:
        app = Held()
        async with serving(app, parser, ws_max_queue=2) as server:
            client = await open_raw(server)
            connection = the_connection(server)
            client.send(frame(1, b"x") * 10 + frame(8, struct.pack("!H", 4002)))
            await server.wait_until(lambda: connection._is_reading_paused)
            drain(server)
            assert (await read_close(client))[0] == 1012
            assert await client.read_all() == b""
            app.release.set()
            await server.live.wait_idle()
            assert [message["type"] for message in app.seen] == [
                "websocket.receive",
                "websocket.receive",
                "websocket.disconnect",
            ]
            assert app.seen[-1]["code"] == 1012

    run(main())


def test_data_behind_a_close_does_not_destroy_the_answer(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser) as server:
            client = await open_raw(server)
            client.send(frame(8, b"\x03\xe8") + frame(2, bytes(300_000)))
            assert await client.reader.readexactly(4) == b"\x88\x02\x03\xe8"
            client.send(frame(2, bytes(300_000)))
            assert await client.read_all() == b""

    run(main())


def test_pings_of_a_client_that_does_not_read_fill_no_memory(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(Held(), parser) as server:
            client = await open_raw(server)
            connection = the_connection(server)
            client.writer.transport.pause_reading()
            ping = frame(9, bytes(125))
            largest = 0
            more = 4_000_000
            while more > 0:
                client.send(ping * 400)
                if connection._is_write_paused:
                    more -= len(ping) * 400
                await client.writer.drain()
                largest = max(largest, connection._transport.get_write_buffer_size())
            assert connection._is_write_paused
            assert largest < 1_000_000
            client.writer.transport.resume_reading()
            while connection._is_write_paused:
                assert await client.reader.read(1_000_000)

    run(main())


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("high_water", [65_536, 100_000_000])
def test_a_client_that_reads_nothing_is_dropped(run: Any, parser: str, high_water: int) -> None:
    """Whether so much waits that `send` waits, too, or less."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        try:
            for _ in range(2):
                await send({"type": "websocket.send", "bytes": bytes(30_000_000)})
        except OSError as error:
            seen.append(error)
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser, write_timeout=0.2, ws_ping_interval=None) as server:
            client = await open_raw(server)
            the_connection(server)._transport.set_write_buffer_limits(high=high_water)
            client.writer.transport.pause_reading()
            client.send(frame(1))
            await server.wait_until(lambda: seen)
            await server.wait_until(lambda: not server.live.connections)
            assert limit_count(server, Limit.WRITE_TIMEOUT) == 1
            assert seen[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
            assert len(seen) == (2 if high_water == 65_536 else 1)
            client.writer.transport.abort()

    run(main())


def test_a_slow_reader_is_kept(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": bytes(20_000_000)})

    async def main() -> None:
        async with serving(app, parser, write_timeout=0.5) as server:
            client = await open_raw(server)
            read = 0
            while read < 20_000_000:
                read += len(await client.reader.readexactly(1_000_000))
                await asyncio.sleep(0.04)
            assert limit_count(server, Limit.WRITE_TIMEOUT) == 0

    run(main())


def test_an_unanswered_close_and_an_unanswered_ping_are_counted(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(
            echo, parser, ws_ping_interval=0.02, ws_ping_timeout=0.02, ws_close_timeout=0.02
        ) as server:
            client = await open_raw(server)
            assert (await client.read_all())[-24:] == b"\x03\xf3keepalive ping timeout"
            assert limit_count(server, Limit.WS_PING_TIMEOUT) == 1
            assert limit_count(server, Limit.WS_CLOSE_TIMEOUT) == 1

    run(main())


def test_a_pong_that_came_while_the_loop_was_busy_counts(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, ws_ping_interval=0.05, ws_ping_timeout=0.05) as server:
            client = await open_raw(server)
            for _ in range(3):
                ping = await client.reader.readexactly(6)
                assert ping[:2] == b"\x89\x04"
                client.send(frame(10, ping[2:]))
                time.sleep(0.2)  # noqa: ASYNC251 - the loop is busy
            assert limit_count(server, Limit.WS_PING_TIMEOUT) == 0

    run(main())


def test_a_pong_that_cannot_be_read_is_not_missed(run: Any, parser: str) -> None:
    async def main() -> None:
        app = Held()
        async with serving(
            app, parser, ws_max_queue=1, ws_ping_interval=0.01, ws_ping_timeout=0.02
        ) as server:
            client = await open_raw(server)
            client.send(frame(1, b"x") * 2)
            for _ in range(4):
                assert (await client.reader.readexactly(6))[:2] == b"\x89\x04"
            app.release.set()
            await server.wait_until(lambda: limit_count(server, Limit.WS_PING_TIMEOUT))
            assert [message["type"] for message in app.seen[:2]] == ["websocket.receive"] * 2

    run(main())


def test_an_answered_close_is_not_counted(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, ws_close_timeout=0.05) as server:
            async with open_client(server) as client:
                drain(server)
                await client.wait_closed()
            await asyncio.sleep(0.1)
            assert limit_count(server, Limit.WS_CLOSE_TIMEOUT) == 0

    run(main())


# --- what an application sends --------------------------------------------------------------------

ACCEPT = {"type": "websocket.accept"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"type": "websocket.send"}, "websocket.send needs either text or bytes"),
        (
            {"type": "websocket.send", "text": None, "bytes": None},
            "websocket.send needs either text or bytes",
        ),
        (
            {"type": "websocket.send", "text": "a", "bytes": b"a"},
            "websocket.send needs either text or bytes",
        ),
        ({"type": "websocket.send", "text": b"a"}, "text must be a str, not bytes"),
        ({"type": "websocket.send", "bytes": "a"}, "bytes must be bytes, not str"),
        ({"type": "websocket.send", "text": "\udfff"}, "the text cannot be sent as UTF-8"),
        ({"type": "websocket.close", "code": 1006}, "1006 is not a close code"),
        ({"type": "websocket.close", "code": "x"}, "a close code is a number, not 'x'"),
        ({"type": "websocket.close", "reason": b"x"}, "a close reason is a str, not bytes"),
        ({"type": "websocket.close", "reason": "x" * 124}, "the close reason has 124 bytes"),
        (ACCEPT, "'websocket.accept' is not allowed on an open WebSocket"),
        ({"type": "http.response.start"}, "is not allowed on an open WebSocket"),
        ({"text": "x"}, "an ASGI message is a dict with a type"),
        (None, "an ASGI message is a dict with a type"),
    ],
)
def test_a_message_that_cannot_be_sent_raises_and_changes_nothing(
    run: Any, parser: str, message: Any, error: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        with pytest.raises(AppProtocolError, match=error):
            await send(message)
        for data in (bytearray(b"y"), memoryview(b"zz").cast("H")):
            await send({"type": "websocket.send", "bytes": data})
        await send({"type": "websocket.close", "code": 4000, "reason": "x" * 123})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await open_raw(server)
            reply = await client.reader.readexactly(7)
            assert reply == b"\x82\x01y\x82\x02zz"
            assert (await client.reader.readexactly(127))[:4] == b"\x88\x7d\x0f\xa0"
            client.send(frame(8, b"\x0f\xa0"))
            assert await client.read_all() == b""
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({**ACCEPT, "headers": [(b"upgrade", b"h2c")]}, "is the server's to set"),
        ({**ACCEPT, "headers": [(b"sec-websocket-protocol", b"a")]}, "a subprotocol instead"),
        ({**ACCEPT, "headers": [(b"x-a", b"b\r\nx-c: d")]}, "has a line break or NUL in it"),
        ({**ACCEPT, "headers": [(b"x a", b"b")]}, "cannot be the name of a header"),
        ({**ACCEPT, "headers": [("x-a", b"b")]}, "header names and values must be bytes"),
        ({**ACCEPT, "headers": [b"x"]}, "headers must be a list of pairs"),
        ({**ACCEPT, "subprotocol": "none"}, "did not offer the subprotocol 'none'"),
        ({"type": "websocket.send", "text": "x"}, "is not allowed before the WebSocket is open"),
        ({"type": "websocket.http.response.body"}, "not allowed before the WebSocket is open"),
        ({"type": "websocket.http.response.start"}, "a status from 200 to 599, not None"),
        ({"type": "websocket.http.response.start", "status": 101}, "from 200 to 599, not 101"),
    ],
)
def test_a_message_that_cannot_answer_the_handshake_leaves_it_open(
    run: Any, parser: str, message: Any, error: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(AppProtocolError, match=error):
            await send(message)
        await send({"type": "websocket.accept", "headers": [(b"x-a", b"b")]})

    async def main() -> None:
        async with serving(app, parser) as server, open_client(server) as client:
            assert client.response.headers["x-a"] == "b"
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_receive_tells_the_disconnect_as_often_as_it_is_asked(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(ACCEPT)
        seen.extend([await receive(), await receive()])

    async def main() -> None:
        async with serving(app, parser) as server:
            async with open_client(server):
                pass
            await server.wait_until(lambda: seen)
            assert seen == [{"type": "websocket.disconnect", "code": 1000, "reason": ""}] * 2

    run(main())


def test_messages_of_several_tasks_stay_whole(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)

        async def talk(letter: bytes) -> None:
            for size in (10, 70_000, 300_000, 100):
                await send({"type": "websocket.send", "bytes": letter * size})

        await asyncio.gather(*(talk(letter) for letter in (b"a", b"b", b"c")))

    async def main() -> None:
        async with serving(app, parser) as server, open_client(server) as client:
            sizes: dict[int, list[int]] = {}
            for _ in range(12):
                message = await client.recv()
                assert isinstance(message, bytes)
                assert len(set(message)) == 1
                sizes.setdefault(message[0], []).append(len(message))
            assert list(sizes.values()) == [[10, 70_000, 300_000, 100]] * 3

    run(main())


def test_a_drain_releases_an_application_that_waits_to_send(run: Any, parser: str) -> None:
    released = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
        except OSError:
            released.set()

    async def main() -> None:
        async with serving(app, parser, ws_close_timeout=30) as server:
            client = await open_raw(server)
            client.writer.transport.pause_reading()
            connection = the_connection(server)
            await server.wait_until(lambda: connection._write_waiters)
            drain(server)
            async with asyncio.timeout(5):
                await released.wait()
            client.writer.transport.abort()

    run(main())


# --- the handshake on the wire --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 13, 8"), 426),
        ((b"Sec-WebSocket-Version: 13\r\n", b""), 426),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBsZSBu b25jZQ=="), 400),
        ((b"Sec-WebSocket-Version: 13\r\n", b"Sec-WebSocket-Version: 13\r\n" * 2), 400),
        ((b"\r\nHost", b"\r\nSec-WebSocket-Extensions: a b\r\nHost"), 400),
    ],
)
def test_a_handshake_that_breaks_the_rules_never_reaches_the_application(
    run: Any, parser: str, change: tuple[bytes, bytes], status: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def main() -> None:
        async with serving(app, parser) as server:
            reply = await server.exchange(HANDSHAKE.replace(*change) + b"\r\n")
            assert reply.startswith(b"HTTP/1.1 %d " % status)
            assert (b"sec-websocket-version: 13\r\n" in reply) is (status == 426)
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


@pytest.mark.parametrize(
    "body",
    [b"Content-Length: 2\r\n\r\nhi", b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"],
)
def test_an_upgrade_with_a_body_is_an_ordinary_request(run: Any, body: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        assert (await receive())["body"] == b"hi"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    async def main() -> None:
        for parser in ("httptools", "h11"):
            async with serving(app, parser) as server:
                client = await server.connect()
                client.send(HANDSHAKE + body)
                assert (await client.read_response())[2] == b"plain"

    run(main())


def test_the_first_offer_that_can_be_met_is_answered(run: Any, parser: str) -> None:
    offers = (
        b"Sec-WebSocket-Extensions: x-other, permessage-deflate; server_max_window_bits=8\r\n"
        b'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits="9"\r\n'
    )

    async def main() -> None:
        async with serving(echo, parser) as server:
            client = await server.connect()
            client.send(HANDSHAKE + offers + b"\r\n")
            reply = await client.read_until(b"\r\n\r\n")
            assert (
                b"\r\nsec-websocket-extensions: permessage-deflate; client_max_window_bits=9\r\n"
                in reply
            )

    run(main())
