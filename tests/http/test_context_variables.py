"""No request begins with the context variables of another one, on whatever way it begins."""

import asyncio
import contextvars
from typing import Any

import pytest

from tests.http.server import Client, serving
from tests.http.test_exchange import GET, hello, read_body

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

LARGE = 300_000
UPLOAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n0\r\n\r\n" % (LARGE, b"x" * LARGE)
)
EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def watching(seen: list[str], *, is_slow: bool, has_factory: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if has_factory:
            asyncio.get_running_loop().set_task_factory(
                lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options)
            )
        seen.append(user.get())
        user.set(f"user {len(seen)}")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": user.get()})
            return
        if is_slow:
            await asyncio.sleep(0.01)
        await read_body(receive)
        await hello(scope, receive, send)
        # A callback that is made here has these variables, too.
        asyncio.get_running_loop().call_soon(lambda: None)

    return app


async def ask(client: Client, *requests: bytes, answers: int) -> None:
    for request in requests:
        client.send(request)
    for _ in range(answers):
        await client.read_response()


@pytest.mark.parametrize("has_factory", [False, True], ids=["tasks", "factory"])
@pytest.mark.parametrize("is_slow", [False, True], ids=["quick", "slow"])
@pytest.mark.parametrize(
    ("requests", "answers"),
    [
        ([GET, GET, GET], 3),
        ([GET + GET + GET], 3),
        ([UPLOAD], 1),
        ([UPLOAD + GET], 2),
        ([CHUNKED, GET + GET], 3),
        ([GET + UPLOAD], 2),
    ],
    ids=["plain", "pipelined", "upload", "upload and plain", "chunked", "plain and upload"],
)
def test_requests_of_one_connection_begin_with_the_servers_own(
    run: Any, requests: list[bytes], answers: int, *, is_slow: bool, has_factory: bool
) -> None:
    seen: list[str] = []

    async def main() -> None:
        async with serving(
            watching(seen, is_slow=is_slow, has_factory=has_factory), "builtin"
        ) as server:
            client = await server.connect()
            await ask(client, *requests, answers=answers)
            await ask(client, GET, answers=1)
            await ask(client, UPLOAD, GET, answers=2)
            client.send(HANDSHAKE)
            await client.read_until(b"user")
            other = await server.connect()
            await ask(other, GET, answers=1)
        assert seen == ["nobody"] * (answers + 5)
        asyncio.get_running_loop().set_task_factory(None)

    run(main())


def test_an_upload_that_waits_to_be_asked_for(run: Any) -> None:
    seen: list[str] = []

    async def main() -> None:
        async with serving(watching(seen, is_slow=False), "builtin") as server:
            client = await server.connect()
            for _ in range(2):
                client.send(EXPECTING)
                await client.read_until(b"100 Continue\r\n\r\n")
                client.send(b"12345")
                await client.read_response()
            await ask(client, GET, answers=1)
        assert seen == ["nobody"] * 3

    run(main())


def test_a_request_that_waits_until_the_client_has_taken_the_response_before(run: Any) -> None:
    seen: list[str] = []
    body = b"x" * 8_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(user.get())
        user.set("somebody")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET + GET)
            for _ in range(2):
                assert len((await client.read_response())[2]) == len(body)
        assert seen == ["nobody"] * 2

    run(main())
