"""Each field of each message that has the wrong type is an error that names it."""

import asyncio
from typing import Any

import pytest

from asgireload.errors import AppProtocolError
from tests.http.server import serving
from tests.http.test_exchange import GET

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPT = {"type": "websocket.accept"}

HTTP: list[tuple[list[Any], Any, str]] = [
    *(
        ([], message, "an ASGI message is a dict with a type")
        for message in (None, 5, "text", [], {}, {"status": 200})
    ),
    *(([], {"type": kind}, "the type of an ASGI message is a str") for kind in (None, 5, b"x")),
    *(
        ([], {**START, "status": status}, "the status of http.response.start must be an int")
        for status in (None, "200", 200.0, b"200", True, [200])
    ),
    ([], {"type": "http.response.start"}, "the status of http.response.start must be an int"),
    *(
        ([], {**START, "headers": headers}, "headers must be pairs of bytes")
        for headers in (5, "text", b"bytes", None)
    ),
    *(
        ([START], {**BODY, "body": body}, f"must be bytes, not {type(body).__name__}")
        for body in (5, 0, True, None, "text", [1, 2], 1.5, {"a": 1})
    ),
    *(
        ([{**START, "headers": headers}], BODY, "a header is a pair of name and value")
        for headers in ([5], [(b"a",)], [(b"a", b"b", b"c")], [None])
    ),
    *(
        ([{**START, "headers": headers}], BODY, "header names and values must be bytes")
        for headers in ([("a", "b")], [(b"a", 5)], ["ab"], {b"ab": b"c"})
    ),
    ([{**START, "status": 99}], BODY, "99 is not the status of a final response"),
    *(
        ([], {"type": "http.response.early_hint", "links": links}, text)
        for links, text in ((5, "links must be a list"), ("a", "links must be"), ([5], "bytes"))
    ),
    *(
        ([START], {"type": "http.response.pathsend", "path": path}, "pathsend needs a path")
        for path in (None, 5, [])
    ),
    *(
        ([START], {"type": "http.response.zerocopysend", "file": file}, "zerocopysend needs")
        for file in (None, "name", [])
    ),
    ([], {"type": "http.response.unknown"}, "'http.response.unknown' is not allowed"),
]
WEBSOCKET: list[tuple[list[Any], Any, str]] = [
    *(([], message, "an ASGI message is a dict with a type") for message in (None, 5, {})),
    *(([], {"type": kind}, "the type of an ASGI message is a str") for kind in (None, 5)),
    *(
        ([], {**ACCEPT, "headers": headers}, "headers must be pairs of bytes")
        for headers in (5, "text")
    ),
    ([], {**ACCEPT, "headers": [5]}, "headers must be a list of pairs of bytes"),
    ([], {**ACCEPT, "headers": [("a", "b")]}, "header names and values must be bytes"),
    *(([], {**ACCEPT, "subprotocol": name}, "subprotocol") for name in (5, b"chat")),
    *(
        ([ACCEPT], {"type": "websocket.send", "text": text}, "text must be a str")
        for text in (5, b"bytes")
    ),
    *(
        ([ACCEPT], {"type": "websocket.send", "bytes": data}, "bytes must be bytes")
        for data in (5, "text", [1])
    ),
    ([ACCEPT], {"type": "websocket.send"}, "needs either text or bytes"),
    *(
        ([ACCEPT], {"type": "websocket.close", "code": code}, "close code")
        for code in ("1000", 1000.0)
    ),
    ([ACCEPT], {"type": "websocket.close", "reason": 5}, "reason is a str"),
    *(
        (
            [{"type": "websocket.http.response.start", "status": 403, "headers": []}],
            {"type": "websocket.http.response.body", "body": body},
            "must be bytes",
        )
        for body in (5, "text")
    ),
    ([], {"type": "websocket.http.response.start", "status": "403"}, "denial response needs"),
]
CASES = [(GET, *case) for case in HTTP] + [(HANDSHAKE, *case) for case in WEBSOCKET]


@pytest.mark.parametrize(("request_", "before", "message", "text"), CASES)
def test_a_malformed_message_is_refused_with_a_reason(
    request_: bytes, before: list[Any], message: Any, text: str
) -> None:
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for sent in before:
            await send(sent)
        try:
            await send(message)
        except BaseException as error:  # noqa: BLE001 - told to the test
            raised.append(error)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(request_)
            await server.wait_until(lambda: raised)

    asyncio.run(main())
    assert isinstance(raised[0], AppProtocolError), raised
    assert text in str(raised[0])


@pytest.mark.parametrize("body", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_whatever_holds_bytes_is_a_body(body: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({**BODY, "body": body})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            assert (await client.read_response())[2] == b"x"

    asyncio.run(main())
