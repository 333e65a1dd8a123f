"""Over TLS, too, reading a file ends when its client has left."""

import logging
import os
from typing import Any

import pytest

from asgireload.http1 import sendfile as sending
from tests.worker import test_acceptor_tls
from tests.worker.test_acceptor_tls import GET, serving

files = test_acceptor_tls.files

SIZE = 400_000_000


def test_reading_a_file_ends_when_its_client_has_left(
    run: Any,
    files: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    large = files / "large"
    with large.open("wb") as file:
        file.truncate(SIZE)
    ended: list[bool] = []
    read = 0

    def counting_pread(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        read += size
        return pread(descriptor, size, offset)

    pread = os.pread
    monkeypatch.setattr(sending.os, "pread", counting_pread)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(large)})
        ended.append(True)

    async def main() -> None:
        async with serving(app, files) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            await server.wait_until(lambda: not server.live.connections)
            before = read
            await server.wait_until(lambda: ended)
            warnings = sum(r.name == "asyncio" for r in caplog.records)
            assert read - before < 10_000_000, (
                f"{(read - before) / 1e6:.0f} MB, {warnings} warnings"
            )

    run(main())
