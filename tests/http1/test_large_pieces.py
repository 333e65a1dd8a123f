"""Pieces of a response body that are so large that they are written by themselves: the wire is the same."""

import asyncio
from typing import Any

import pytest

from asgireload.http.exchange import APART_BYTES
from tests.http.server import serving
from tests.http.test_exchange import GET, GET_CLOSE, OK

SIZES = [APART_BYTES - 1, APART_BYTES, APART_BYTES * 20]


def body_of(size: int) -> bytes:
    return (b"0123456789abcde" * (size // 15 + 1))[:size]


def ok(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": list(headers)}


def answering(start: dict[str, Any], *pieces: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        for number, piece in enumerate(pieces):
            more_body = number < len(pieces) - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more_body})

    return app


def answers(run: Any, app: Any, request: bytes, count: int = 1) -> list[Any]:
    async def main() -> list[Any]:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(request * count)
            return [await client.read_response() for _ in range(count)]

    result: list[Any] = run(main())
    return result


@pytest.mark.parametrize("size", SIZES)
def test_a_large_body_in_one_piece_gets_its_length(run: Any, size: int) -> None:
    body = body_of(size)
    for status, headers, received in answers(run, answering(OK, body), GET, 3):
        assert status == 200
        assert headers["content-length"] == str(size)
        assert received == body


@pytest.mark.parametrize("size", SIZES)
def test_large_pieces_are_chunks_of_their_size(run: Any, size: int) -> None:
    first, second = body_of(size), body_of(size)[::-1]
    for _, headers, received in answers(run, answering(OK, first, b"small", second), GET, 2):
        assert headers["transfer-encoding"] == "chunked"
        assert received == first + b"small" + second


@pytest.mark.parametrize("size", SIZES)
def test_a_head_request_gets_no_large_body_and_the_next_request_its_answer(
    run: Any, size: int
) -> None:
    async def main() -> None:
        async with serving(answering(OK, body_of(size)), "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b"GET", b"HEAD") + GET_CLOSE)
            await client.read_until(b"\r\n\r\n")
            rest = await client.read_all()
            assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
            assert rest.endswith(b"\r\n\r\n" + body_of(size))

    run(main())


def test_a_large_body_that_does_not_fit_its_length_becomes_an_error_of_the_server(run: Any) -> None:
    app = answering(ok((b"content-length", b"5")), body_of(APART_BYTES))
    ((status, _, _),) = answers(run, app, GET)
    assert status == 500


def test_a_later_large_piece_that_does_not_fit_breaks_the_response(run: Any) -> None:
    app = answering(ok((b"content-length", b"7")), b"1234", body_of(APART_BYTES))

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            assert (await client.read_all()).endswith(b"\r\n\r\n1234")

    run(main())


def test_a_client_that_reads_slowly_slows_the_application_down(run: Any) -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(OK)
        for _ in range(200):
            await send({"type": "http.response.body", "body": body_of(1 << 20), "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"\r\n\r\n")
            before = -1
            while before < sent:  # until all buffers are full
                before = sent
                await asyncio.sleep(0.1)
            assert sent < 50
            received = 0
            while received <= 200 << 20:
                received += len(await asyncio.wait_for(client.reader.read(1 << 20), 5))
            assert sent == 200

    run(main())
