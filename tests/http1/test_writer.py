"""Response framing as values: what a conforming client reads back is what the application sent."""

from typing import Any

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import AppProtocolError
from asgireload.http1.writer import ResponseFramer, frame_error, frame_switch

BASE: dict[str, Any] = {"is_head_request": False, "http_version": "1.1", "close": False}


def begin(status: int = 200, headers: Any = (), body: bytes = b"", **options: Any) -> bytes:
    options.setdefault("more_body", False)
    return ResponseFramer().begin(status, headers, body, **{**BASE, **options})


def test_default_headers_and_date_give_way_to_the_applications() -> None:
    options = {"default_lines": ((b"server", b"server: us\r\n"),), "date_line": b"date: now\r\n"}
    assert begin(body=b"x", **options) == (
        b"HTTP/1.1 200 OK\r\nserver: us\r\ndate: now\r\ncontent-length: 1\r\n\r\nx"
    )
    headers = [(b"Server", b"app"), (b"DATE", b"then")]
    assert begin(headers=headers, body=b"x", **options) == (
        b"HTTP/1.1 200 OK\r\nServer: app\r\nDATE: then\r\ncontent-length: 1\r\n\r\nx"
    )


@pytest.mark.parametrize("status", [204, 304])
def test_responses_without_content_have_none(status: int) -> None:
    data = begin(status, [(b"content-length", b"3")], b"abc")
    assert data.endswith(b"\r\n\r\n")
    assert (b"content-length" in data) is (status == 304)
    assert b"transfer-encoding" not in begin(status, more_body=True)


def test_a_205_says_that_it_has_no_content() -> None:
    assert begin(205, [(b"content-length", b"5")], b"hello") == (
        b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"
    )


def test_a_kept_connection_of_http_1_0_says_so() -> None:
    """RFC 9112 section 9.3: such a client must be told, and needs a length."""
    assert begin(body=b"hello", http_version="1.0") == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\nhello"
    )
    assert begin(body=b"hello", more_body=True, http_version="1.0") == (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    )


def test_the_connection_header_is_the_servers() -> None:
    assert b"connection" not in begin(headers=[(b"connection", b"keep-alive")])
    framer = ResponseFramer()
    data = framer.begin(200, [(b"Connection", b"Close")], b"", more_body=False, **BASE)
    assert data.count(b"connection: close\r\n") == 1
    assert framer.closes


def test_an_unknown_status_has_no_phrase() -> None:
    assert begin(299).startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 999])
def test_a_status_that_is_not_final_is_refused(status: int) -> None:
    with pytest.raises(AppProtocolError):
        begin(status)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a b", b"x")],
        [(b"", b"x")],
        [(b"a:", b"x")],
        [(b"a\n", b"x")],
        [("a", b"x")],
        [(b"a", "x")],
        [(b"a", b"x\ny")],
        [(b"a", b"x\x00")],
        [(b"content-length", b"x")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"transfer-encoding", b"gzip")],
    ],
)
def test_illegal_headers_are_refused(headers: Any) -> None:
    with pytest.raises(AppProtocolError):
        begin(headers=headers, body=b"x")


def test_a_switch_is_framed() -> None:
    assert frame_switch([(b"upgrade", b"x")], date_line=b"date: now\r\n") == (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\ndate: now\r\n\r\n"
    )
    with pytest.raises(AppProtocolError):
        frame_switch([(b"upgrade", b"x\r\n")])


def test_an_error_ends_the_connection() -> None:
    assert frame_error(431, "too large") == (
        b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\nconnection: close\r\n"
        b"\r\ntoo large"
    )


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=50), min_size=1, max_size=5),
    status=st.sampled_from([200, 204, 304, 404, 500]),
    method=st.sampled_from(["GET", "HEAD"]),
    http_version=st.sampled_from(["1.0", "1.1"]),
    announces_length=st.booleans(),
    closes=st.booleans(),
)
def test_a_client_reads_back_what_was_sent(
    pieces: list[bytes],
    status: int,
    method: str,
    http_version: str,
    announces_length: bool,
    closes: bool,
) -> None:
    body = b"".join(pieces)
    headers = [(b"x-a", b"1")]
    if announces_length:
        headers.append((b"content-length", b"%d" % len(body)))
    framer = ResponseFramer()
    data = framer.begin(
        status,
        headers,
        pieces[0],
        more_body=len(pieces) > 1,
        is_head_request=method == "HEAD",
        http_version=http_version,
        close=closes,
    )
    for index, piece in enumerate(pieces[1:], 2):
        data += framer.frame(piece, more_body=index < len(pieces))

    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    if framer.closes:
        client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    received = b""
    while isinstance(event := client.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert received == (b"" if method == "HEAD" or status in (204, 304) else body)
    assert client.trailing_data[0] == b""
    assert framer.closes or not closes
    assert (client.their_state is h11.DONE) is (not framer.closes)


@given(announced=st.integers(0, 20), sizes=st.lists(st.integers(0, 10), min_size=1, max_size=5))
def test_a_body_is_held_to_its_content_length(announced: int, sizes: list[int]) -> None:
    framer = ResponseFramer()
    headers = [(b"content-length", b"%d" % announced)]

    def send_all() -> None:
        more_body = len(sizes) > 1
        framer.begin(200, headers, bytes(sizes[0]), more_body=more_body, **BASE)
        for index, size in enumerate(sizes[1:], 2):
            framer.frame(bytes(size), more_body=index < len(sizes))

    if sum(sizes) == announced:
        send_all()
    else:
        with pytest.raises(AppProtocolError, match="than its Content-Length"):
            send_all()
