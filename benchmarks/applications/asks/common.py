"""What several scripts ask with. Each script gets the port as its argument and fails by an exception."""

import http.client
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

PORT = int(sys.argv[1])
HTTP = f"http://127.0.0.1:{PORT}"
WS = f"ws://127.0.0.1:{PORT}"
TIMEOUT = 30.0


def get(path: str, expected: str) -> str:
    """Return the body of a page, which must hold `expected`."""
    with urllib.request.urlopen(HTTP + path, timeout=TIMEOUT) as response:
        body = response.read().decode()
    must_hold(body, expected)
    return body


def must_hold(text: str, expected: str) -> None:
    if expected not in text:
        raise AssertionError(f"{expected!r} is not in {text[:300]!r}")


def echoes(path: str) -> None:
    """Send a text over a WebSocket and have it sent back."""
    from websockets.sync.client import connect

    with connect(WS + path, open_timeout=TIMEOUT, proxy=None) as socket:
        socket.send("a word")
        answer = socket.recv(TIMEOUT)
        must_hold(str(answer), "echo a word")


@contextmanager
def page_and_socket(
    path: str, socket_path: Callable[[str], str], subprotocols: Callable[[str], list[str]]
) -> Iterator["ClientConnection"]:
    """Get a page, then open its WebSocket over the same connection, so that one worker has both.

    What a page has begun is in the memory of one worker; with several, a proxy must bring a client back to it.
    """
    from websockets.sync.client import connect

    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT)
    connection.request("GET", path)
    page = connection.getresponse().read().decode()
    sock = connection.sock
    assert sock is not None, "the server has closed the connection"
    with connect(
        WS + socket_path(page),
        sock=sock,
        subprotocols=subprotocols(page) or None,
        open_timeout=TIMEOUT,
        proxy=None,
    ) as socket:
        yield socket


def found(pattern: str, page: str) -> str:
    match = re.search(pattern, page)
    if match is None:
        raise AssertionError(f"{pattern} is not in {page[-2000:]}")
    return match[1]
