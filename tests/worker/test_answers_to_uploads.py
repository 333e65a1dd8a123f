"""An answer that comes before the end of an upload arrives whole, however much of the upload stays unread."""

import asyncio
import contextlib
import http.client
import ssl
from typing import Any

import pytest

from tests.http.server import serving as serving_plainly
from tests.worker.test_acceptor_tls import AUTHORITY
from tests.worker.test_acceptor_tls import serving as serving_tls

REFUSAL = b"who are you?"


@pytest.fixture(params=["plain", "tls"])
def reached(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    """A server, the port of which is yielded together with what a client speaks TLS with."""

    @contextlib.asynccontextmanager
    async def plain(app: Any) -> Any:
        async with serving_plainly(app, "builtin") as server:
            yield server.port, None

    @contextlib.asynccontextmanager
    async def tls(app: Any) -> Any:
        AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
        async with serving_tls(app, tmp_path) as server:
            yield server.port, AUTHORITY.client_context()

    return plain if request.param == "plain" else tls


def answering_early(status: int, body: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
def test_a_client_that_sends_everything_before_it_reads_gets_the_refusal(
    run: Any, reached: Any, size: int
) -> None:
    def upload(port: int, context: ssl.SSLContext | None) -> tuple[int, bytes]:
        client = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            if context is None
            else http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
        )
        client.request("POST", "/", body=b"x" * size)
        response = client.getresponse()
        body = response.read()
        client.close()
        return response.status, body

    async def main() -> None:
        async with reached(answering_early(401, REFUSAL)) as (port, context):
            assert await asyncio.to_thread(upload, port, context) == (401, REFUSAL)

    run(main())


def test_a_client_that_reads_while_it_sends_gets_a_large_answer(run: Any, reached: Any) -> None:
    answer = b"y" * 4_000_000

    async def main() -> None:
        async with reached(answering_early(200, answer)) as (port, context):
            name = None if context is None else "localhost"
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=name
            )
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n")
            taken = 0
            for _ in range(15):
                writer.write(b"x" * 100_000)
                taken += len(await reader.read(50_000))
            while data := await reader.read(1_000_000):
                taken += len(data)
            assert taken > len(answer)
            writer.close()

    run(main())
