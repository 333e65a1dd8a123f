"""The ASGI extensions that HTTP/1.1 can carry, as bytes on the wire."""

import asyncio
import logging
import os
from typing import Any

import pytest

from asgireload.errors import AppProtocolError
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_exchange import GET, OK, hello

TE = b"GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=0.5, Trailers\r\nConnection: close\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"


def exchange(run: Any, parser: str, app: Any, request: bytes, **options: Any) -> bytes:
    async def main() -> bytes:
        async with serving(app, parser, **options) as server:
            return await server.exchange(request)

    return bytes(run(main()))


def body_of(reply: bytes) -> bytes:
    return reply.partition(b"\r\n\r\n")[2]


# Early hints.


async def hinting(scope: Any, receive: Any, send: Any) -> None:
    links = [b"</style.css>; rel=preload; as=style", b"</app.js>; rel=preload; as=script"]
    await send({"type": "http.response.early_hint", "links": links})
    await hello(scope, receive, send)


def test_early_hints_go_before_the_response(run: Any, parser: str) -> None:
    reply = exchange(run, parser, hinting, CLOSE)
    assert reply.startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style\r\n"
        b"link: </app.js>; rel=preload; as=script\r\n\r\nHTTP/1.1 200 OK\r\n"
    )


def test_http_1_0_gets_no_early_hints(run: Any, parser: str) -> None:
    """RFC 9110 section 15.2: a 1xx response must not be sent to a client of HTTP/1.0."""
    offered: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append("http.response.early_hint" in scope["extensions"])
        await hinting(scope, receive, send)

    assert exchange(run, parser, app, OLD).startswith(b"HTTP/1.1 200 OK\r\n")
    assert exchange(run, parser, app, CLOSE).startswith(b"HTTP/1.1 103")
    assert offered == [False, True]


def test_hints_with_line_breaks_raise_in_the_application(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(AppProtocolError, match="line break"):
            await send({"type": "http.response.early_hint", "links": [b"a\r\nset-cookie: b"]})
        await hello(scope, receive, send)
        with pytest.raises(AppProtocolError, match="after the response was completed"):
            await send({"type": "http.response.early_hint", "links": []})

    assert exchange(run, parser, app, CLOSE).startswith(b"HTTP/1.1 200 OK\r\n")


# Trailers.


async def trailing(scope: Any, receive: Any, send: Any) -> None:
    await send({**OK, "trailers": True})
    await send({"type": "http.response.body", "body": b"hello"})
    await send(
        {"type": "http.response.trailers", "headers": [(b"x-one", b"1")], "more_trailers": True}
    )
    await send({"type": "http.response.trailers", "headers": [(b"x-two", b"2")]})


def test_trailers_go_to_clients_that_take_them(run: Any, parser: str) -> None:
    reply = exchange(run, parser, trailing, TE)
    assert b"\r\ntransfer-encoding: chunked\r\n" in reply
    assert b"content-length" not in reply
    assert body_of(reply) == b"5\r\nhello\r\n0\r\nx-one: 1\r\nx-two: 2\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [CLOSE, OLD])
def test_other_clients_get_the_response_without(
    run: Any, parser: str, request_bytes: bytes
) -> None:
    reply = exchange(run, parser, trailing, request_bytes)
    assert b"\r\ncontent-length: 5\r\n" in reply
    assert body_of(reply) == b"hello"


def test_the_extension_is_offered_to_clients_that_take_trailers(run: Any, parser: str) -> None:
    offered: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        offered.append("http.response.trailers" in scope["extensions"])
        await hello(scope, receive, send)

    for request in (TE, CLOSE):
        exchange(run, parser, app, request)
    assert offered == [True, False]


@pytest.mark.parametrize("name", [b"content-length", b"Transfer-Encoding", b"set-cookie", b"host"])
def test_fields_that_cannot_trail_raise_in_the_application(
    run: Any, parser: str, name: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**OK, "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        with pytest.raises(AppProtocolError, match="not allowed in a trailer"):
            await send({"type": "http.response.trailers", "headers": [(name, b"1")]})
        await send({"type": "http.response.trailers"})

    assert body_of(exchange(run, parser, app, TE)) == b"5\r\nhello\r\n0\r\n\r\n"


def test_a_response_whose_trailers_never_come_is_not_complete(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**OK, "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        with pytest.raises(AppProtocolError, match="only trailers may follow"):
            await send({"type": "http.response.body", "body": b"more"})

    assert body_of(exchange(run, parser, app, TE)) == b"5\r\nhello\r\n0\r\n"
    assert "returned without completing" in caplog.text


# Files.


@pytest.fixture
def file(tmp_path: Any) -> Any:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 12_000)
    return path


@pytest.mark.parametrize("request_bytes", [CLOSE, OLD])
def test_a_path_is_sent_as_the_body(run: Any, parser: str, file: Any, request_bytes: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": str(file)})

    async def main() -> None:
        async with serving(app, parser) as server:
            reply = await server.exchange(request_bytes)
            assert b"\r\ncontent-length: 3072000\r\n" in reply
            assert body_of(reply) == file.read_bytes()
            assert server.count(Field.BYTES_SENT_TOTAL) == len(reply)

    run(main())


def test_a_connection_goes_on_behind_a_file(run: Any, parser: str, file: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": str(file)})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET * 3)
            for _ in range(3):
                assert (await client.read_response())[2] == file.read_bytes()
            descriptors = len(os.listdir("/proc/self/fd"))
            client.send(GET)
            await client.read_response()
            assert len(os.listdir("/proc/self/fd")) == descriptors

    run(main())


def test_a_head_request_gets_the_length_and_no_file(run: Any, parser: str, file: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"%d" % file.stat().st_size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(file)})

    reply = exchange(run, parser, app, CLOSE.replace(b"GET", b"HEAD"))
    assert b"\r\ncontent-length: 3072000\r\n" in reply
    assert body_of(reply) == b""


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("no/such/file", FileNotFoundError),
        (".", AppProtocolError),
        (None, AppProtocolError),
        ("/", AppProtocolError),
        ("/no/such/file", FileNotFoundError),
    ],
)
def test_a_path_that_cannot_be_sent_raises_before_anything_is_sent(
    run: Any, parser: str, path: Any, error: type[Exception]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        with pytest.raises(error):
            await send({"type": "http.response.pathsend", "path": path})
        await send({"type": "http.response.body", "body": b"instead"})

    assert body_of(exchange(run, parser, app, CLOSE)) == b"instead"


def test_a_file_that_contradicts_its_content_length_raises_before_anything_is_sent(
    run: Any, parser: str, file: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with pytest.raises(AppProtocolError, match="3072000 bytes"):
            await send({"type": "http.response.pathsend", "path": str(file)})
        await send({"type": "http.response.body", "body": b"hello"})

    assert body_of(exchange(run, parser, app, CLOSE)) == b"hello"


def test_pieces_of_files_and_bytes_make_one_body(run: Any, parser: str, file: Any) -> None:
    """With an offset the file's position stays; without, sending starts there and moves it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        with file.open("rb") as opened:
            message = {"type": "http.response.zerocopysend", "file": opened}
            await send({**message, "offset": 10, "count": 3, "more_body": True})
            await send({**message, "count": 2, "more_body": True})
            await send({**message, "count": 0, "more_body": True})
            await send({**message, "offset": 3_071_998})
            assert opened.tell() == 2

    reply = exchange(run, parser, app, CLOSE)
    assert body_of(reply) == (
        b"5\r\nfirst\r\n3\r\n\x0a\x0b\x0c\r\n2\r\n\x00\x01\r\n2\r\n\xfe\xff\r\n0\r\n\r\n"
    )


def test_one_piece_of_a_file_gets_its_length(run: Any, parser: str, file: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        with file.open("rb") as opened:
            await send({"type": "http.response.zerocopysend", "file": opened, "count": 4})

    reply = exchange(run, parser, app, CLOSE)
    assert b"\r\ncontent-length: 4\r\n" in reply
    assert body_of(reply) == b"\x00\x01\x02\x03"


@pytest.mark.parametrize("bad", [{"offset": -1}, {"count": 4_000_000}, {"file": object()}])
def test_a_span_outside_of_the_file_raises_in_the_application(
    run: Any, parser: str, file: Any, bad: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        with file.open("rb") as opened:
            with pytest.raises(AppProtocolError):
                await send({"type": "http.response.zerocopysend", "file": opened, **bad})
        await send({"type": "http.response.body", "body": b"instead"})

    assert body_of(exchange(run, parser, app, CLOSE)) == b"instead"


def test_nothing_comes_between_the_bytes_of_a_file(run: Any, parser: str, file: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        sending = asyncio.create_task(
            send({"type": "http.response.pathsend", "path": str(file)})  # type: ignore[func-returns-value]
        )
        await asyncio.sleep(0)
        with pytest.raises(AppProtocolError, match="while a file is sent"):
            await send({"type": "http.response.body", "body": b"x"})
        await sending

    assert body_of(exchange(run, parser, app, CLOSE)) == file.read_bytes()


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_response_off(
    run: Any, parser: str, file: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        with file.open("r+b") as opened:
            sending = asyncio.create_task(
                send({"type": "http.response.zerocopysend", "file": opened})  # type: ignore[func-returns-value]
            )
            await asyncio.sleep(0)
            opened.truncate(600_000)
            with pytest.raises(EOFError):
                await sending
            raise EOFError

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(CLOSE)
            await asyncio.sleep(0.05)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            reply = await client.read_all()
            assert b"content-length: 3072000" in reply
            assert len(body_of(reply)) < 3_072_000

    run(main())


def test_a_client_that_leaves_within_a_file_is_gone(run: Any, parser: str, tmp_path: Any) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 30_000_000)
    ended: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": str(large)})
        ended.append(True)  # what ends a response is taken: frameworks go on behind it

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"\r\n\r\n")
            await client.close()
            await server.wait_until(lambda: ended)
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


# Debugging.


@pytest.mark.parametrize("is_on", [True, False])
def test_debug_information_is_logged_where_it_is_asked_for(
    run: Any, parser: str, is_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert ("http.response.debug" in scope["extensions"]) is is_on
        message = {"type": "http.response.debug", "info": {"template": "a.html"}}
        if is_on:
            await send(message)
        else:
            with pytest.raises(AppProtocolError):
                await send(message)
        await hello(scope, receive, send)

    caplog.set_level(logging.DEBUG, "asgireload.error")
    exchange(run, parser, app, CLOSE, debug_extension=is_on)
    assert ("{'template': 'a.html'}" in caplog.text) is is_on
