"""Headers that can be gone through only once are sent, and are in the access log."""

from typing import Any

import pytest

from tests.http.server import serving
from tests.http.test_exchange import GET_CLOSE


def test_headers_of_a_generator_are_in_the_log(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = ((name, b"1") for name in (b"x-a",))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> None:
        caplog.set_level("INFO", "asgireload.access")
        async with serving(
            app, "builtin", access_log=True, access_log_format="%(s)s %({x-a}o)s"
        ) as server:
            assert b"x-a: 1" in await server.exchange(GET_CLOSE)
        lines = [r.getMessage() for r in caplog.records if r.name == "asgireload.access"]
        assert lines == ["200 1"]

    run(main())
