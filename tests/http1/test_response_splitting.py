"""What an application passes on from a client never becomes a line of the answer that it did not mean."""

from typing import Any

import pytest

from tests.http.server import serving

INJECTED = (b"x\r\nset-cookie: forged=1", b"x\nset-cookie: forged=1", b"x\rset-cookie: forged=1")
SPLIT = b"x\r\n\r\nHTTP/1.1 200 OK\r\nset-cookie: forged=1\r\n\r\n"
VALUES = (*INJECTED, SPLIT, b"x\x00set-cookie: forged=1")
NAMES = tuple(value.replace(b"x", b"x-a: b", 1) for value in INJECTED)

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n"
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: chat\r\n\r\n"
)


def assert_not_injected(reply: bytes) -> None:
    """Whatever a client makes of bare CR and LF, it finds no line that begins with the forged name."""
    lines = reply.replace(b"\r", b"\n").replace(b"\x00", b"\n").split(b"\n")
    assert not any(line.startswith(b"set-cookie") for line in lines)
    assert (
        sum(line.startswith(b"HTTP/1.") and not line.endswith(b"103 Early Hints") for line in lines)
        == 1
    )


def ask(run: Any, app: Any, request: bytes) -> bytes:
    replies: list[bytes] = []

    async def main() -> None:
        async with serving(app, "builtin") as server:
            replies.append(await server.exchange(request))

    run(main())
    assert_not_injected(replies[0])
    return replies[0]


@pytest.mark.parametrize(
    "header", [*((b"location", value) for value in VALUES), *((name, b"c") for name in NAMES)]
)
def test_a_header_with_a_line_break_costs_the_response(run: Any, header: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 302, "headers": [header]})
        await send({"type": "http.response.body"})

    assert ask(run, app, REQUEST).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(
    "status", [0, 99, 100, 101, 199, 600, 1000, -200, None, "OK", "200\r\nset-cookie: forged=1"]
)
def test_a_status_that_is_none_costs_the_response(run: Any, status: Any) -> None:
    """A 1xx status, too: the client would take the next response for this one's."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status})
        await send({"type": "http.response.body", "body": b"x"})

    assert ask(run, app, REQUEST).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("value", VALUES)
def test_an_early_hint_with_a_line_break_is_not_sent(run: Any, value: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"<a>; rel=preload", value]})

    reply = ask(run, app, REQUEST)
    assert reply.startswith(b"HTTP/1.1 500 ")
    assert b"preload" not in reply


@pytest.mark.parametrize(
    "header", [*((b"x-sum", value) for value in VALUES), *((name, b"c") for name in NAMES)]
)
def test_a_trailer_with_a_line_break_breaks_the_response_off(run: Any, header: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [header]})

    assert ask(run, app, REQUEST).endswith(b"4\r\nbody\r\n0\r\n")


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("place", ["header", "subprotocol"])
def test_a_line_break_in_the_answer_to_a_handshake_fails_it(
    run: Any, place: str, value: bytes
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if place == "header":
            await send({"type": "websocket.accept", "headers": [(b"x-a", value)]})
        else:
            await send({"type": "websocket.accept", "subprotocol": value.decode()})

    assert ask(run, app, HANDSHAKE).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("value", VALUES)
def test_a_line_break_in_a_denial_of_a_handshake_fails_it(run: Any, value: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        start = {"type": "websocket.http.response.start", "status": 401}
        await send({**start, "headers": [(b"www-authenticate", value)]})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    assert ask(run, app, HANDSHAKE).startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize("value", [b"0", b"5, 5", b"+2", b"0x2", b"2\r\nset-cookie: forged=1"])
def test_a_length_that_is_not_the_bodys_costs_the_response(run: Any, value: bytes) -> None:
    """Else the client would take the end of this body for the next response, or wait for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", value)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ab"})

    assert ask(run, app, REQUEST).startswith(b"HTTP/1.1 500 ")
