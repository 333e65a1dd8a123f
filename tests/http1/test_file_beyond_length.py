"""A file that contradicts the head costs nothing while no byte was written."""

from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import GET_CLOSE


def test_a_file_that_does_not_fit_is_answered_with_500(run: Any, tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"3")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        with path.open("rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            assert (await server.exchange(GET_CLOSE)).startswith(b"HTTP/1.1 500 ")

    run(main())
