"""Whatever an application gives for headers, a connection whose client leaves is forgotten."""

import asyncio
from typing import Any

import pytest

from asgireload.errors import AppProtocolError
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_exchange import GET


def broken() -> Any:
    yield (b"a", b"b")
    raise ValueError("no header")


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        (lambda: None, "common"),
        (broken, "common"),
        (lambda: [(b"x", "text")], "%({x}o)s"),
        (lambda: [(b"x", b"y", b"z")], "%({x}o)s"),
    ],
    ids=["none", "generator", "text", "triple"],
)
def test_a_connection_whose_client_leaves_is_forgotten_whatever_its_headers(
    run: Any, headers: Any, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers()})
        except (AppProtocolError, ValueError):
            pass
        started.set()
        await receive()
        await receive()

    async def main() -> None:
        caplog.set_level("INFO", "asgireload.access")
        async with serving(app, "builtin", access_log=True, access_log_format=form) as server:
            loop = asyncio.get_running_loop()
            faults: list[Any] = []
            loop.set_exception_handler(lambda _, fault: faults.append(fault.get("exception")))
            client = await server.connect()
            client.send(GET)
            await started.wait()
            client.writer.transport.abort()
            await asyncio.sleep(0.3)
            left = server.count(Field.CONNECTIONS), server.count(Field.EXCHANGES)
            server.live.connections.clear()  # else the harness waits for them, in vain
            assert left == (0, 0), faults

    run(main())
