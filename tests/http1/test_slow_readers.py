"""A client that reads slowly and steadily is served."""

import asyncio
from typing import Any

import pytest

from tests.http.server import serving
from tests.http.test_exchange import GET, OK
from tests.http1.test_limits import hits


@pytest.mark.parametrize("way", ["body", "file"])
def test_a_client_that_reads_steadily_is_served(run: Any, way: str, tmp_path: Any) -> None:
    body = b"x" * 12_000_000
    file = tmp_path / "file"
    file.write_bytes(body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        if way == "file":
            await send({"type": "http.response.pathsend", "path": str(file)})
        else:
            await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, "builtin", write_timeout=0.8, keep_alive_timeout=60) as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"\r\n\r\n")
            received = 0
            while received < len(body):  # 2 MB in each timeout, a piece every 8 ms
                received += len(await client.reader.readexactly(20_000))
                await asyncio.sleep(0.008)
                if received > 6_000_000:
                    break
            assert hits(server) == {}

    run(main())
