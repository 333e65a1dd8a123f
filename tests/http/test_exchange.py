"""One request and its response, over real sockets, both parsers and both loops."""

import asyncio
import logging
from typing import Any

import pytest

from asgireload.errors import ClientDisconnectedError
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OK = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client left within the body")
        body += message["body"]
        if not message["more_body"]:
            return body


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send(OK)
    await send({"type": "http.response.body", "body": b"hello"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(receive)
    await send(OK)
    await send({"type": "http.response.body", "body": body})


def test_a_response_has_the_exact_bytes(run: Any, parser: str) -> None:
    async def main() -> None:
        headers = ((b"server", b"asgireload"),)
        async with serving(hello, parser, date_header=False, default_headers=headers) as server:
            assert await server.exchange(GET_CLOSE) == (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nserver: asgireload\r\n"
                b"content-length: 5\r\nconnection: close\r\n\r\nhello"
            )

    run(main())


def test_connections_are_kept_and_requests_counted(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            for _ in range(3):
                client.send(GET)
                status, headers, body = await client.read_response()
                assert (status, body) == (200, b"hello")
                assert "connection" not in headers
                assert headers["date"].endswith("gmt")
            assert server.count(Field.REQUESTS_TOTAL) == 3
            assert server.count(Field.RESPONSES_2XX_TOTAL) == 3
            assert server.count(Field.CONNECTIONS_TOTAL) == 1
            assert server.count(Field.EXCHANGES) == 0

    run(main())


def test_the_scope_has_every_field(run: Any, parser: str) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(
            app, parser, root_path="/api", state={"pool": 1}, sendfile=False
        ) as server:
            await server.exchange(
                b"GET /caf%C3%A9/a%2Fb?q=%20x HTTP/1.1\r\nHost: A.example\r\nX-Two:  b \r\n"
                b"x-two: c\r\nConnection: close\r\n\r\n"
            )
            scope = scopes[0]
            extensions = scope.pop("extensions")
            client = scope.pop("client")
            assert extensions == {
                "asgireload.drain": server.served.drain.notice,
                "http.response.early_hint": {},
            }
            assert client[0] == "127.0.0.1"
            assert type(client[1]) is int
            assert scope == {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "GET",
                "scheme": "http",
                "path": "/api/café/a/b",
                "raw_path": b"/api/caf%C3%A9/a%2Fb",
                "query_string": b"q=%20x",
                "root_path": "/api",
                "headers": [
                    (b"host", b"A.example"),
                    (b"x-two", b"b"),
                    (b"x-two", b"c"),
                    (b"connection", b"close"),
                ],
                "server": ("127.0.0.1", server.port),
                "state": {"pool": 1},
            }
            assert scope["state"] is not server.served.state

    run(main())


def test_the_access_log_has_the_arguments_filters_expect(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with caplog.at_level(logging.INFO, logger="asgireload.access"):
            async with serving(hello, parser) as server:
                await server.exchange(
                    b"GET /a%20b?q=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
        (record,) = [record for record in caplog.records if record.name == "asgireload.access"]
        assert isinstance(record.args, tuple)
        assert record.args[1:] == ("GET", "/a%20b?q=1", "1.1", 200)
        assert str(record.args[0]).startswith("127.0.0.1:")
        assert record.getMessage().endswith('- "GET /a%20b?q=1 HTTP/1.1" 200')

    run(main())


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_arrives_whole(run: Any, parser: str, chunked: bool) -> None:
    body = bytes(range(256)) * 2000

    async def main() -> None:
        async with serving(echo, parser) as server:
            client = await server.connect()
            if chunked:
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(body), 50_000):
                    piece = body[start : start + 50_000]
                    client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
                client.send(b"0\r\nx-checksum: x\r\n\r\n")
            else:
                head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
                client.send(head + body)
            assert (await client.read_response())[2] == body

    run(main())


def test_an_application_that_does_not_read_slows_the_client_down(run: Any, parser: str) -> None:
    """Of a large upload only a bounded part is held in memory."""
    held: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first = await receive()
        await asyncio.sleep(0.2)
        second = await receive()
        held.append(max(len(first["body"]), len(second["body"])))
        rest = await read_body(receive)
        size = len(first["body"]) + len(second["body"]) + len(rest)
        await send(OK)
        await send({"type": "http.response.body", "body": b"%d" % size})

    async def main() -> None:
        size = 20_000_000
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            client.send(bytes(size))
            assert (await client.read_response())[2] == b"%d" % size
        assert held[0] <= 64 * 1024 + 256 * 1024

    run(main())


def test_a_client_that_does_not_read_slows_the_application_down(run: Any, parser: str) -> None:
    written = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal written
        await send(OK)
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(64_000), "more_body": True})
            written += 64_000
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"\r\n\r\n")
            await asyncio.sleep(0.2)
            assert written < 32_000_000
            body = b""
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body = body[-16:] + await client.reader.read(1 << 20)
            assert written == 64_000_000

    run(main())


def test_100_continue_is_sent_when_the_application_asks_for_the_body(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser) as server:
            client = await server.connect()
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            assert (await client.read_response())[2] == b"abc"

    run(main())


def test_100_continue_is_not_sent_when_the_body_is_not_wanted(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            reply = await server.exchange(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nconnection: close\r\n" in reply

    run(main())


def test_a_streamed_response_is_chunked_or_ended_by_the_close(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        for piece in (b"one", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser, date_header=False) as server:
            assert await server.exchange(GET_CLOSE) == (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n"
                b"connection: close\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
            )
            assert await server.exchange(b"GET / HTTP/1.0\r\n\r\n") == (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nonetwo"
            )

    run(main())


def test_head_gets_the_head_only(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> None:
        async with serving(app, parser, date_header=False) as server:
            reply = await server.exchange(
                b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
                b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"
            assert reply == head + b"\r\n" + head + b"connection: close\r\n\r\n"

    run(main())


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, OSError]
)
def test_an_application_that_raises_costs_one_request(
    run: Any, parser: str, error: type[BaseException]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fail":
            raise error
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            status, _, body = await client.read_response()
            assert (status, body) == (500, b"Internal Server Error")
            assert (await client.read_response())[0] == 200
            assert server.count(Field.APP_ERRORS_TOTAL) == 1
            assert server.count(Field.RESPONSES_5XX_TOTAL) == 1

    run(main())


@pytest.mark.parametrize("http_version", ["1.0", "1.1"])
def test_a_response_that_fails_half_way_is_visibly_truncated(
    run: Any, parser: str, http_version: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await asyncio.sleep(0.02)  # so that the client has read what was sent
        raise ValueError

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(f"GET / HTTP/{http_version}\r\nHost: a\r\n\r\n".encode())
            if http_version == "1.0":
                await client.read_until(b"some")
                with pytest.raises(ConnectionResetError):
                    await client.read_all()
            else:
                assert (await client.read_all()).endswith(b"4\r\nsome\r\n")
            assert "Exception in ASGI application" in caplog.text

    run(main())


def test_an_application_that_returns_without_answering_gets_500(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/started":
            await send(OK)

    async def main() -> None:
        async with serving(app, parser) as server:
            for path in (b"/", b"/started"):
                reply = await server.exchange(
                    b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                )
                assert reply.startswith(b"HTTP/1.1 500 ")
        assert "returned without starting" in caplog.text
        assert "returned without completing" in caplog.text

    run(main())


@pytest.mark.parametrize("body", [b"abc", b"abcdefg"])
@pytest.mark.parametrize("pieces", [1, 2])
def test_a_body_that_contradicts_its_content_length_ends_the_connection(
    run: Any, parser: str, body: bytes, pieces: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if pieces == 2:
            await send({"type": "http.response.body", "body": body[:1], "more_body": True})
            await send({"type": "http.response.body", "body": body[1:]})
        else:
            await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, parser) as server:
            if pieces == 2:
                reply = await server.exchange(GET)
                assert reply.endswith(b"\r\n\r\na")
            else:
                assert (await server.exchange(GET_CLOSE)).startswith(b"HTTP/1.1 500 ")
        assert "than its Content-Length" in caplog.text

    run(main())


@pytest.mark.parametrize(
    "header", [(b"bad name", b"x"), (b"x", b"a\r\nb: c"), ("text", b"x"), (b"", b"x")]
)
def test_an_illegal_header_is_the_applications_error(run: Any, parser: str, header: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser) as server:
            assert (await server.exchange(GET_CLOSE)).startswith(b"HTTP/1.1 500 ")

    run(main())


def test_a_client_that_leaves_is_told_to_receive_and_send(run: Any, parser: str) -> None:
    seen: list[Any] = []
    finished: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await receive()
        seen.append(await receive())
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except OSError as error:
            seen.append(type(error))
        finished.append(True)

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")
            await client.read_until(b"1\r\nx\r\n")
            await client.close()
            await server.wait_until(lambda: finished)
            assert seen == [{"type": "http.disconnect"}, ClientDisconnectedError]
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_receive_after_the_response_says_disconnect(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        waiting = [asyncio.create_task(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        await hello(scope, receive, send)
        seen.extend([await task for task in waiting])

    async def main() -> None:
        async with serving(app, parser) as server:
            await server.exchange(GET_CLOSE)
            await server.wait_until(lambda: seen)
        assert [message["type"] for message in seen] == [
            "http.request",
            "http.disconnect",
            "http.disconnect",
        ]

    run(main())


def test_work_behind_the_response_does_not_hold_the_next_request(run: Any, parser: str) -> None:
    release: list[asyncio.Event] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        if scope["path"] == "/background":
            await release[0].wait()

    async def main() -> None:
        release.append(asyncio.Event())
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(b"GET /background HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            assert (await client.read_response())[0] == 200
            assert (await client.read_response())[0] == 200
            await client.close()
            await server.wait_until(lambda: not server.live.connections)
            assert not server.live.is_idle
            release[0].set()
            await server.live.wait_idle()

    run(main())


def test_beyond_the_concurrency_limit_the_answer_is_503(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser, limit_concurrency=2) as server:
            clients = [await server.connect() for _ in range(2)]
            for client in clients:
                client.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 2)
            third = await server.connect()
            third.send(GET)
            assert (await third.read_response())[0] == 503
            assert [(await client.read_response())[0] for client in clients] == [200, 200]

    run(main())
