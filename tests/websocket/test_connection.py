"""WebSockets over real sockets: the `websockets` client where behaviour counts, bytes where framing does."""

import asyncio
import logging
import os
import re
import struct
from typing import Any
from unittest.mock import ANY

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asgireload.draining import DrainReason
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.websocket import drain_close
from asgireload.websocket.connection import WebSocketConnection
from tests.http.server import Client, Server, serving

HANDSHAKE = (
    b"GET /ws?x=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        reply = {key: value for key, value in message.items() if key != "type"}
        await send({"type": "websocket.send", **reply})


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = True) -> bytes:
    """Return a client's frame with a masking key of zeros, which leaves the payload readable."""
    first = (0x80 if fin else 0) | opcode
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes((first, bit | len(payload)))
    elif len(payload) < 65536:
        head = bytes((first, bit | 126)) + struct.pack("!H", len(payload))
    else:
        head = bytes((first, bit | 127)) + struct.pack("!Q", len(payload))
    return head + (bytes(4) if mask else b"") + payload


async def open_raw(server: Server, *, headers: bytes = b"", then: bytes = b"") -> Client:
    client = await server.connect()
    client.send(HANDSHAKE + headers + b"\r\n" + then)
    head = await client.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return client


def open_client(server: Server, **options: Any) -> Any:
    return connect(f"ws://127.0.0.1:{server.port}/ws", **options)


@pytest.mark.parametrize("deflate", [True, False])
def test_text_and_binary_are_echoed(run: Any, parser: str, deflate: bool) -> None:
    async def main() -> None:
        async with serving(echo, parser, ws_per_message_deflate=deflate) as server:
            async with open_client(server) as client:
                assert ("sec-websocket-extensions" in client.response.headers) is deflate
                for message in ("hällo", b"\x00\xff", "", b"", "x" * 300_000, os.urandom(300_000)):
                    await client.send(message)
                    assert await client.recv() == message
                await client.send(["frag", "men", "ted"])
                assert await client.recv() == "fragmented"
                await (await client.ping())
                assert server.count(Field.WEBSOCKETS) == 1
            assert server.count(Field.WEBSOCKETS_TOTAL) == 1

    run(main())


def test_the_handshake_has_the_bytes_of_the_specification(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(
            echo, parser, date_header=False, default_headers=((b"server", b"s"),)
        ) as server:
            client = await server.connect()
            client.send(HANDSHAKE + b"\r\n" + frame(1, b"early"))
            assert await client.read_until(b"\r\n\r\n") == (
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
                b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nserver: s\r\n\r\n"
            )
            assert await client.reader.readexactly(7) == b"\x81\x05early"

    run(main())


def test_the_scope_has_every_field(run: Any, parser: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "websocket.accept", "subprotocol": "b", "headers": [(b"x-one", b"1")]})

    async def main() -> None:
        async with serving(app, parser, root_path="/api", state={"n": 1}) as server:
            async with open_client(server, subprotocols=["a", "b"]) as client:
                assert client.subprotocol == "b"
                assert client.response.headers["x-one"] == "1"
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert client.close_code == 1000
            scope = scopes[0]
            assert scope["type"] == "websocket"
            assert scope["scheme"] == "ws"
            assert scope["path"] == "/api/ws"
            assert scope["raw_path"] == b"/api/ws"
            assert scope["query_string"] == b""
            assert scope["subprotocols"] == ["a", "b"]
            assert scope["server"] == ("127.0.0.1", server.port)
            assert scope["state"] == {"n": 1}
            assert scope["extensions"]["websocket.http.response"] == {}
            assert scope["extensions"]["asgireload.drain"] is server.served.drain.notice
            assert "method" not in scope

    run(main())


def test_handshakes_are_logged_as_uvicorn_does(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close" if scope["query_string"] else "websocket.accept"})

    async def main() -> None:
        with caplog.at_level(logging.INFO):
            async with serving(app, parser) as server:
                await server.exchange(HANDSHAKE + b"\r\n")
                async with open_client(server):
                    pass
        assert any(line.endswith('- "WebSocket /ws?x=1" 403') for line in caplog.messages)
        assert any(line.endswith('- "WebSocket /ws" [accepted]') for line in caplog.messages)

    run(main())


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 8"), 426),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"no base64"), 400),
    ],
)
def test_a_bad_handshake_is_refused(
    run: Any, parser: str, change: tuple[bytes, bytes], status: int
) -> None:
    async def main() -> None:
        async with serving(echo, parser) as server:
            reply = await server.exchange(HANDSHAKE.replace(*change) + b"\r\n")
            assert reply.startswith(b"HTTP/1.1 %d " % status)
            assert (b"sec-websocket-version: 13\r\n" in reply) is (status == 426)

    run(main())


@pytest.mark.parametrize(
    ("behaviour", "status"), [("close", 403), ("raise", 500), ("return", 500), ("exit", 500)]
)
def test_an_application_that_does_not_accept(
    run: Any, parser: str, behaviour: str, status: int
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if behaviour == "close":
            await send({"type": "websocket.close", "code": 1008})
            assert (await receive())["type"] == "websocket.connect"
            assert (await receive())["type"] == "websocket.disconnect"
        elif behaviour == "raise":
            raise ValueError
        elif behaviour == "exit":
            raise SystemExit

    async def main() -> None:
        async with serving(app, parser) as server:
            with pytest.raises(InvalidStatus) as caught:
                await open_client(server)
            assert caught.value.response.status_code == status
            errors = server.count(Field.APP_ERRORS_TOTAL)
            assert errors == (behaviour in ("raise", "exit"))

    run(main())


def test_a_denial_response_is_the_applications_own(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"x-why", b"quota")]
        await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app, parser) as server:
            with pytest.raises(InvalidStatus) as caught:
                await open_client(server)
            response = caught.value.response
            assert response.status_code == 429
            assert response.headers["x-why"] == "quota"
            assert response.body == b"too many"
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_an_application_that_raises_closes_with_1011(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        raise SystemExit

    async def main() -> None:
        async with serving(app, parser) as server, open_client(server) as client:
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1011

    run(main())


def test_closes_carry_code_and_reason_both_ways(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/ws":
            seen.append(await receive())
        else:
            await send({"type": "websocket.close", "code": 4001, "reason": "bye"})
            seen.append(await receive())
        for kind in ("websocket.send", "websocket.close"):
            with pytest.raises(OSError):
                await send({"type": kind, "text": "late"})
        seen.append("done")

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await open_client(server)
            await client.close(4002, "thanks")
            await server.wait_until(lambda: len(seen) == 2)
            assert seen[0] == {
                "type": "websocket.disconnect",
                "code": 4002,
                "reason": "thanks",
            }
            async with connect(f"ws://127.0.0.1:{server.port}/server") as client:
                with pytest.raises(ConnectionClosed):
                    await client.recv()
                assert (client.close_code, client.close_reason) == (4001, "bye")
            await server.wait_until(lambda: len(seen) == 4)
            assert seen[2]["code"] == 4001
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_lost_connection_is_1006(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await open_raw(server)
            client.writer.transport.abort()
            await server.wait_until(lambda: seen)
            assert seen[0]["code"] == 1006

    run(main())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(1, b"x" * 1001), 1009),
        (frame(2, b"x" * 600, fin=False) + frame(0, b"x" * 600), 1009),
        (frame(1, b"\xc3\x28"), 1007),
        (frame(0, b"x"), 1002),
        (frame(1, b"x", mask=False), 1002),
        (frame(3), 1002),
        (frame(8, b"\x00"), 1002),
        (frame(9, b"x" * 126), 1002),
        (bytes((0xF1, 0x80)) + bytes(4), 1002),
    ],
)
def test_a_fault_of_the_peer_is_answered_with_a_close_frame(
    run: Any, parser: str, data: bytes, code: int
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser, ws_max_size=1000) as server:
            client = await open_raw(server)
            client.send(data + frame(1, b"more"))
            reply = await client.read_all()
            assert reply[0] == 0x88
            assert struct.unpack("!H", reply[2:4])[0] == code
            await server.wait_until(lambda: seen)
            assert (seen[0]["type"], seen[0]["code"]) == ("websocket.disconnect", code)
            assert server.count(Field.PEER_ERRORS_TOTAL) == 1

    run(main())


def test_a_small_frame_that_inflates_beyond_the_limit_is_refused(run: Any, parser: str) -> None:
    async def main() -> None:
        async with (
            serving(echo, parser, ws_max_size=100_000) as server,
            open_client(server, max_size=None) as client,
        ):
            await client.send("x" * 100_000)
            assert len(await client.recv()) == 100_000
            await client.send("x" * 50_000_000)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1009

    run(main())


def test_a_ping_between_compressed_fragments_is_answered(run: Any, parser: str) -> None:
    import zlib

    compressor = zlib.compressobj(wbits=-15)
    text = b"compressed " * 20
    packed = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    first = bytearray(frame(1, packed[:5], fin=False))
    first[0] |= 0x40

    async def main() -> None:
        async with serving(echo, parser) as server:
            client = await open_raw(
                server, headers=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )
            client.send(frame(9, b"a") + bytes(first) + frame(9, b"b") + frame(0, packed[5:]))
            assert await client.reader.readexactly(6) == b"\x8a\x01a\x8a\x01b"
            head = await client.reader.readexactly(2)
            assert head[0] == 0xC1
            payload = await client.reader.readexactly(head[1])
            inflated = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
            assert inflated == text

    run(main())


def test_an_application_that_does_not_receive_slows_the_client_down(run: Any, parser: str) -> None:
    release: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await release[0].wait()
        count = 0
        while (await receive())["type"] == "websocket.receive":
            count += 1
            if count == 400:
                await send({"type": "websocket.send", "text": str(count)})

    async def main() -> None:
        release.append(asyncio.Event())
        async with serving(app, parser, ws_max_queue=4) as server:
            client = await open_raw(server)
            for _ in range(400):
                client.send(frame(2, bytes(50_000)))
            await asyncio.sleep(0.2)
            assert client.writer.transport.get_write_buffer_size() > 5_000_000
            release[0].set()
            assert await client.reader.readexactly(5) == b"\x81\x03400"

    run(main())


def test_held_messages_outlive_the_connection(run: Any, parser: str) -> None:
    """What was received before the connection was lost is still delivered, then the disconnect."""
    release: list[asyncio.Event] = []
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await release[0].wait()
        while not seen or seen[-1]["type"] == "websocket.receive":
            seen.append(await receive())

    async def main() -> None:
        release.append(asyncio.Event())
        async with serving(app, parser, ws_max_queue=2) as server:
            client = await open_raw(server)
            client.send(frame(1, b"x") * 10)
            (connection,) = server.live.connections
            assert isinstance(connection, WebSocketConnection)
            await server.wait_until(lambda: connection._is_reading_paused)
            connection._transport.abort()
            await server.wait_until(lambda: not server.live.connections)
            release[0].set()
            await server.live.wait_idle()
            assert [message.get("text") for message in seen] == ["x"] * 10 + [None]
            assert seen[-1]["code"] == 1006
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_peer_that_does_not_read_slows_the_application_down(run: Any, parser: str) -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent += 1

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await open_raw(server)
            client.writer.transport.pause_reading()
            await asyncio.sleep(0.2)
            before = sent
            await asyncio.sleep(0.05)
            assert before == sent
            client.writer.transport.abort()
            await server.live.wait_idle()
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_silent_peer_is_closed_after_the_ping_timeout(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, ws_ping_interval=0.02, ws_ping_timeout=0.05) as server:
            client = await open_raw(server)
            assert (await client.reader.readexactly(2)) == b"\x89\x04"
            await client.reader.readexactly(4)
            reply = await client.reader.readexactly(4)
            assert reply[0] == 0x88
            assert struct.unpack("!H", reply[2:4])[0] == 1011
        async with serving(echo, parser, ws_ping_interval=0.02, ws_ping_timeout=5) as server:
            async with open_client(server) as alive:
                await asyncio.sleep(0.2)
                await alive.send("x")
                assert await alive.recv() == "x"

    run(main())


TOLD = {
    1012: r"service restart; reconnect in about (\d+) ms",
    1001: r"server stopping; reconnect in about (\d+) ms",
}


async def read_close(client: Client) -> tuple[int, str]:
    """Read a close frame that must come next; return its code and reason."""
    head = await asyncio.wait_for(client.reader.readexactly(2), 5)
    assert head[0] == 0x88
    payload = await client.reader.readexactly(head[1])
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def drain(server: Server, reason: DrainReason = DrainReason.RELOAD) -> None:
    loop = asyncio.get_running_loop()
    server.served.drain.notice.begin(reason, loop.time() + 5)
    for connection in tuple(server.live.connections):
        connection.begin_drain()


@pytest.mark.parametrize(("reason", "code"), [(DrainReason.RELOAD, 1012), (DrainReason.STOP, 1001)])
def test_a_drain_closes_with_a_code_that_client_and_application_see(
    run: Any, parser: str, reason: DrainReason, code: int
) -> None:
    """The close frame reaches the client before the connection ends, and its reply is awaited."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.append(await receive())
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await open_raw(server)
            client.send(frame(1, b"received before"))
            await server.wait_until(lambda: seen)
            drain(server, reason)
            told, reason_text = await read_close(client)
            assert told == code
            assert re.fullmatch(TOLD[code], reason_text)
            assert server.live.connections
            client.send(frame(8, struct.pack("!H", code)))
            assert await client.read_all() == b""
            await server.live.wait_idle()
            assert seen[1]["code"] == code
            assert seen[1]["reason"] == reason_text

    run(main())


@pytest.mark.parametrize("reads", [True, False])
def test_a_peer_that_never_answers_does_not_hold_the_drain(
    run: Any, parser: str, reads: bool
) -> None:
    """Neither one that ignores the close frame nor one that never even reads it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while not reads:
            await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
        await receive()

    async def main() -> None:
        async with serving(app, parser, ws_close_timeout=0.05) as server:
            client = await open_raw(server)
            if not reads:
                client.writer.transport.pause_reading()
                await asyncio.sleep(0.1)
            drain(server)
            async with asyncio.timeout(0.5):
                await server.live.wait_idle()

    run(main())


@pytest.mark.parametrize(
    "reason", [DrainReason.RELOAD, DrainReason.RECYCLE, DrainReason.SCALE_DOWN]
)
def test_a_handshake_under_way_in_a_reload_is_completed_and_leaves_then(
    run: Any, parser: str, reason: DrainReason
) -> None:
    """A client that one worker has closed with 1012 comes back at once, and may meet the worker that is next."""
    begun: list[bool] = []
    seen: list[Any] = []
    may_accept = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        begun.append(True)
        await may_accept.wait()
        await send({"type": "websocket.accept"})
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(HANDSHAKE + b"\r\n")
            await server.wait_until(lambda: begun)
            drain(server, reason)
            may_accept.set()
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            code, _ = await read_close(client)
            assert code == 1012
            client.send(frame(8, struct.pack("!H", code)))
            assert await client.read_all() == b""
            await server.live.wait_idle()
            assert seen == [{"type": "websocket.disconnect", "code": 1012, "reason": ANY}]

    run(main())


def test_a_handshake_that_is_never_accepted_is_answered_at_the_deadline(
    run: Any, parser: str
) -> None:
    begun: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        begun.append(True)
        assert (await receive())["type"] == "websocket.disconnect"

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(HANDSHAKE + b"\r\n")
            await server.wait_until(lambda: begun)
            drain(server)
            (connection,) = server.live.connections
            connection.cut()
            assert (await client.read_all()).startswith(b"HTTP/1.1 503 ")

    run(main())


def test_a_handshake_under_way_at_a_stop_is_answered(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())
        with pytest.raises(OSError):
            await send({"type": "websocket.accept"})

    async def main() -> None:
        async with serving(app, parser) as server:
            pending = await server.connect()
            silent = await server.connect()
            pending.send(HANDSHAKE + b"\r\n")
            await server.wait_connected(2)
            await asyncio.sleep(0.02)
            drain(server, DrainReason.STOP)
            silent.send(HANDSHAKE + b"\r\n")
            for client in (pending, silent):
                assert (await client.read_all()).startswith(b"HTTP/1.1 503 ")
            await server.wait_until(lambda: seen)
            assert seen[0]["type"] == "websocket.disconnect"

    run(main())


def test_an_application_that_ignores_the_close_is_cut_at_the_deadline(
    run: Any, parser: str
) -> None:
    ended: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def main() -> None:
        async with serving(app, parser, ws_close_timeout=0.02) as server:
            client = await open_raw(server)
            drain(server)
            for connection in tuple(server.live.connections):
                connection.cut()
            server.served.clock.loop.call_soon(server.live.cancel_background)
            await client.read_all()
            await server.live.wait_idle()
            assert ended == [True]
            assert server.count(Field.CUT_TOTAL) == 1

    run(main())


def test_closes_of_a_drain_are_spread_and_served_until_then(run: Any, parser: str) -> None:
    """Nobody waits longer than the window, and nobody is cut off before."""

    async def main() -> None:
        async with serving(echo, parser, close_window=0.3) as server:
            clients = [await open_raw(server) for _ in range(30)]
            loop = asyncio.get_running_loop()
            times: list[float] = []

            async def wait_closed(client: Client) -> tuple[int, str]:
                told = await read_close(client)
                times.append(loop.time())
                return told

            begun = loop.time()
            drain(server)
            told = await asyncio.gather(*map(wait_closed, clients))
            assert max(times) - begun >= 0.28
            assert {code for code, _ in told} == {1012}
            assert len({reason for _, reason in told}) > 10

    run(main())


def test_a_close_waits_for_the_answer_to_a_message(run: Any, parser: str) -> None:
    """A message that the application works on when its turn comes is answered, and then comes the close."""
    release = asyncio.Event()
    seen = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            seen.set()
            await release.wait()
            await send({"type": "websocket.send", "text": message["text"]})

    async def main() -> None:
        async with serving(app, parser, close_window=0) as server:
            client = await open_raw(server)
            client.send(frame(1, b"asked"))
            await seen.wait()
            drain(server)
            asyncio.get_running_loop().call_later(0.05, release.set)
            assert await client.reader.readexactly(7) == frame(1, b"asked", mask=False)
            assert (await read_close(client))[0] == 1012

    run(main())


def test_a_close_waits_for_a_message_that_is_there_and_unread(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, close_window=0) as server:
            client = await open_raw(server)
            # Nothing but the kernel has it when the turn comes: the loop has looked at its sockets before.
            raw = client.writer.get_extra_info("socket")
            drain(server)
            os.write(raw.fileno(), frame(1, b"asked"))
            assert await client.reader.readexactly(7) == frame(1, b"asked", mask=False)
            assert (await read_close(client))[0] == 1012

    run(main())


def test_a_close_does_not_wait_for_ever(
    run: Any, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_close, "QUIET_PATIENCE", 0.1)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.Event().wait()

    async def main() -> None:
        async with serving(app, parser, close_window=0, ws_close_timeout=0.05) as server:
            client = await open_raw(server)
            drain(server)
            assert (await read_close(client))[0] == 1012
            server.served.drain.notice.deadline = 0.0
            for connection in tuple(server.live.connections):
                connection.cut()
            server.served.clock.loop.call_soon(server.live.cancel_background)
            await server.live.wait_idle()

    run(main())


def test_what_ends_before_its_turn_ends_as_ever(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, ws_close_timeout=0.05) as server:
            clients = [await open_raw(server) for _ in range(10)]
            drain(server)
            drain(server)
            for client in clients:
                client.send(frame(8, b"\x03\xe8"))
            codes = {(await read_close(client))[0] for client in clients}
            assert 1000 in codes
            await asyncio.sleep(0.3)  # all turns are over by then, and none was taken
            for client in clients:
                await client.close()
            await server.live.wait_idle()
            assert server.count(Field.LIMIT_0 + Limit.WS_CLOSE_TIMEOUT) == 0  # type: ignore[arg-type]

    run(main())


def test_an_upgrade_is_an_ordinary_request_when_websockets_are_off(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    async def main() -> None:
        for parser in ("httptools", "h11"):
            async with serving(app, parser, websocket=False) as server:
                client = await server.connect()
                client.send((HANDSHAKE + b"\r\n") * 2)
                for _ in range(2):
                    assert (await client.read_response())[2] == b"plain"

    run(main())
