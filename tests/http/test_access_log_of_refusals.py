"""The access log knows what the server has answered itself: 400, 408, 503."""

import asyncio
from typing import Any

import pytest

from tests.http.server import serving
from tests.http1.test_connection import cut


@pytest.mark.parametrize("status", [400, 408, 503])
def test_the_log_has_the_status_that_the_client_got(
    run: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    async def main() -> None:
        caplog.set_level("INFO", "asgireload.access")
        async with serving(
            app, "builtin", body_timeout=0.2, access_log=True, access_log_format="%(m)s %(s)s"
        ) as server:
            client = await server.connect()
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
            )
            await asyncio.sleep(0.05)
            if status == 400:
                client.send(b"zz\r\n")
            elif status == 503:
                cut(server)
            assert (await client.read_all()).startswith(b"HTTP/1.1 %d " % status)
        lines = [r.getMessage() for r in caplog.records if r.name == "asgireload.access"]
        assert lines == [f"POST {status}"]

    run(main())
