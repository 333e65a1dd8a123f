"""What several scripts ask with. Each script gets the port as its argument and fails by an exception."""

import sys
import urllib.request

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

    with connect(WS + path, open_timeout=TIMEOUT) as socket:
        socket.send("a word")
        answer = socket.recv(TIMEOUT)
        must_hold(str(answer), "echo a word")
