"""The opening handshake as values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import AppProtocolError, PeerError
from asgireload.http.request import Headers, RequestHead, RequestLine
from asgireload.websocket.deflate import DeflateParameters
from asgireload.websocket.handshake import Handshake, parse_extensions

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def handshake(*headers: tuple[bytes, bytes]) -> Handshake:
    all_headers: Headers = [(b"host", b"a"), *headers]
    return Handshake(RequestHead(RequestLine("GET", None, b"/", b"", "1.1"), all_headers))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((KEY,), 426),
        ((KEY, (b"sec-websocket-version", b"12")), 426),
        ((KEY, (b"sec-websocket-version", b"13, 8")), 426),
        ((KEY, (b"sec-websocket-version", b"013")), 426),
        ((KEY, VERSION, VERSION), 400),
        ((VERSION,), 400),
        ((VERSION, KEY, KEY), 400),
        ((VERSION, (b"sec-websocket-key", b"")), 400),
        ((VERSION, (b"sec-websocket-key", b"c2hvcnQ=")), 400),
        ((VERSION, (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ")), 400),
        ((VERSION, (b"sec-websocket-key", b"dGhlIHNhbXBs ZSBub25jZQ==")), 400),
        ((VERSION, (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==, x")), 400),
        ((VERSION, KEY, (b"sec-websocket-extensions", b"permessage-deflate; =")), 400),
    ],
)
def test_a_bad_handshake_has_a_status(headers: Any, status: int) -> None:
    with pytest.raises(PeerError) as caught:
        handshake(*headers)
    assert caught.value.status == status


def test_subprotocols_of_several_headers_keep_their_order() -> None:
    checked = handshake(
        KEY,
        VERSION,
        (b"sec-websocket-protocol", b"a, b ,"),
        (b"sec-websocket-protocol", b"c"),
    )
    assert checked.subprotocols == ["a", "b", "c"]


def test_the_answer_has_what_was_agreed_on() -> None:
    checked = handshake(KEY, VERSION, (b"sec-websocket-protocol", b"a, b"))
    assert checked.accept_headers("b", DeflateParameters(), [(b"x-one", b"1")]) == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"b"),
        (b"sec-websocket-extensions", b"permessage-deflate"),
        (b"x-one", b"1"),
    ]


def test_a_subprotocol_must_have_been_offered() -> None:
    with pytest.raises(AppProtocolError, match="did not offer the subprotocol 'b'"):
        handshake(KEY, VERSION).accept_headers("b", None, ())


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"content-length",
        b"sec-websocket-accept",
        b"Sec-WebSocket-Extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    ],
)
def test_headers_of_the_handshake_itself_are_the_servers(name: bytes) -> None:
    with pytest.raises(AppProtocolError, match="is the server's to set"):
        handshake(KEY, VERSION).accept_headers(None, None, [(name, b"x")])


@pytest.mark.parametrize("headers", [5, [b"x"], [(b"a", b"b", b"c")], [None]])
def test_headers_of_another_shape_are_refused(headers: Any) -> None:
    with pytest.raises(AppProtocolError, match=r"^headers must be a list of pairs of bytes$"):
        handshake(KEY, VERSION).accept_headers(None, None, headers)


@pytest.mark.parametrize(
    ("value", "offers"),
    [
        ("", []),
        (" , ,", []),
        ("a", [("a", [])]),
        ("a,b ; c", [("a", []), ("b", [("c", None)])]),
        ('a; b="c"; d=e, f', [("a", [("b", "c"), ("d", "e")]), ("f", [])]),
        (r'a; b="\c"', [("a", [("b", "c")])]),
    ],
)
def test_extensions_are_read_by_their_grammar(value: str, offers: Any) -> None:
    assert parse_extensions(value) == offers


@pytest.mark.parametrize(
    "value",
    [
        ";",
        "a;",
        "a;;b",
        "a b",
        "a; b c",
        "a; b=",
        "a; b=,",
        'a; b="',
        'a; b="c',
        'a; b=""',
        'a; b="c d"',
        'a; b="c,d"',
        'a; b="c"d',
        "a=b",
        "ä",
        '"a"',
    ],
)
def test_extensions_that_break_the_grammar_fail_the_handshake(value: str) -> None:
    with pytest.raises(PeerError) as caught:
        parse_extensions(value)
    assert caught.value.status == 400
    assert caught.value.reason.startswith("the Sec-WebSocket-Extensions header is malformed at ")


@given(value=st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_extensions_header_is_read_or_refused(value: str) -> None:
    try:
        offers = parse_extensions(value)
    except PeerError as error:
        error.reason.encode("ascii")
    else:
        assert all(name for name, _ in offers)


@given(
    offers=st.lists(
        st.tuples(
            st.from_regex(r"[a-z-]{1,9}", fullmatch=True),
            st.lists(
                st.tuples(
                    st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
                    st.none() | st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True),
                ),
                max_size=3,
            ),
        ),
        max_size=4,
    ),
    quoted=st.booleans(),
)
def test_what_is_written_is_read(offers: Any, quoted: bool) -> None:
    def show(name: str, value: str | None) -> str:
        if value is None:
            return name
        return f'{name}="{value}"' if quoted else f"{name}={value}"

    header = ", ".join(
        "; ".join([name, *(show(*parameter) for parameter in parameters)])
        for name, parameters in offers
    )
    assert parse_extensions(header) == offers
