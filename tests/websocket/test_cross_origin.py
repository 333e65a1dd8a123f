"""A browser lets any page open a WebSocket anywhere, and sends cookies along. Who is refused, the
application decides; the example of docs/explanation/security.md does."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.http.server import serving

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "security.md"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: shop.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)


async def greet(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close"})


def of_the_page() -> Any:
    """Return what the example on the page defines."""
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), names)
    return names["OwnPagesOnly"]


def open_from(run: Any, app: Any, origin: bytes) -> bytes:
    """Return the first line of the answer to a handshake with these Origin lines."""
    lines: list[bytes] = []

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(HANDSHAKE % origin)
            lines.append((await client.read_until(b"\r\n")).strip())

    run(main())
    return lines[0]


def test_without_a_check_every_page_may_connect(run: Any) -> None:
    for origin in (b"", b"Origin: https://evil.example\r\n", b"Origin: null\r\n"):
        assert open_from(run, greet, origin) == b"HTTP/1.1 101 Switching Protocols"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"Origin: https://shop.example\r\n", b"101 Switching Protocols"),
        (b"", b"101 Switching Protocols"),  # no browser
        (b"Origin: https://evil.example\r\n", b"403 Forbidden"),
        (b"Origin: http://shop.example\r\n", b"403 Forbidden"),
        (b"Origin: https://shop.example.evil.example\r\n", b"403 Forbidden"),
        (b"Origin: null\r\n", b"403 Forbidden"),
        (
            b"Origin: https://shop.example\r\nOrigin: https://evil.example\r\n",
            b"403 Forbidden",
        ),
    ],
)
def test_the_example_lets_only_its_own_pages_in(run: Any, origin: bytes, status: bytes) -> None:
    guard = of_the_page()(greet, {b"https://shop.example"})
    assert open_from(run, guard, origin) == b"HTTP/1.1 " + status
