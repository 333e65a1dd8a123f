"""An application that asks learns that its client has left, also while the socket is not read."""

import asyncio
from typing import Any

import pytest

from tests.http.server import serving
from tests.http.test_exchange import GET, read_body

LARGE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65700\r\n\r\n" + b"x" * 65700


@pytest.mark.parametrize("data", [LARGE, GET + GET, GET + b"\r\n"], ids=["large", "two", "line"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_application_that_waits_learns_that_its_client_has_left(
    run: Any, data: bytes, how: str
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.2)
        seen.append(len(await read_body(receive)))
        seen.append((await receive())["type"])

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(data)
            await server.wait_until(lambda: seen)
            if how == "close":
                await client.close()  # both sides, nothing unread
            else:
                client.writer.transport.abort()
            await asyncio.sleep(1)
            assert seen[1:] == ["http.disconnect"]

    run(main())
