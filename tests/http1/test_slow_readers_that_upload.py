"""A client that reads slowly while it uploads what nobody wants gets its whole answer."""

import asyncio
from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import OK


def test_a_slow_reader_that_still_uploads_gets_the_whole_of_its_answer(run: Any) -> None:
    body = b"x" * 2_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 10000
            )
            await client.read_until(b"\r\n\r\n")
            received = sent = 0
            while received < len(body):
                if not client.writer.transport.is_closing():
                    client.send(b"x" * 1000)
                    sent += 1000
                try:
                    piece = await client.reader.read(20_000)
                except OSError:
                    piece = b""
                if not piece:
                    break
                received += len(piece)
                await asyncio.sleep(0.04)
            assert received == len(body), f"reset behind {received} bytes; {sent} were uploaded"

    run(main())
