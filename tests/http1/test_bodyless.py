"""A response that has no body is complete with its head, whatever the application goes on to send."""

import asyncio
from typing import Any

import pytest

from asgireload.errors import AppProtocolError, ClientDisconnectedError
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_exchange import GET, hello

HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"


def piece(body: bytes = b"x" * 100, *, more_body: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


def start(status: int = 200, **rest: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [], **rest}


@pytest.mark.parametrize(("request_", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
def test_an_endless_stream_keeps_nobody_waiting(run: Any, request_: bytes, status: int) -> None:
    ended: list[type[BaseException]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if ended or scope["path"] != "/":
            await hello(scope, receive, send)
            return
        await send(start(status))
        try:
            while True:
                await send(piece())
        except ClientDisconnectedError as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(request_)
            head = await client.read_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d" % status)
            # The same connection, at once.
            client.send(GET.replace(b" / ", b" /next "))
            assert (await client.read_response())[2] == b"hello"
            await server.wait_until(lambda: ended)
            await server.wait_until(lambda: not server.count(Field.EXCHANGES))
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_listener_hears_that_the_exchange_is_over(run: Any) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        listening = asyncio.create_task(receive())
        await send(start())
        await send(piece())
        seen.append((await listening)["type"])

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(HEAD)
            await client.read_until(b"\r\n\r\n")
            await server.wait_until(lambda: seen)
            assert seen == ["http.disconnect"]

    run(main())


@pytest.mark.parametrize("trailers", [False, True])
def test_the_rest_of_a_finite_body_is_taken_and_what_comes_behind_it_runs(
    run: Any, trailers: bool
) -> None:
    done: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(trailers=trailers))
        for _ in range(200):
            await send(piece())
        await send(piece(more_body=False))
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})
        with pytest.raises(AppProtocolError, match="after the response was completed"):
            await send(piece(more_body=False))
        done.append(True)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            for count in (1, 2):
                client.send(HEAD)
                await client.read_until(b"\r\n\r\n")
                await server.wait_until(lambda count=count: len(done) == count)
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())
