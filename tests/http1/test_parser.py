"""Both parsers: the same events for the same bytes, however they are split, and the same refusals."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import PeerError
from asgireload.http.request import RequestHead, RequestLimits
from asgireload.http1.parsers import fields_parser
from asgireload.http1.reader import RequestReader

PARSERS = ["builtin", "httptools", "h11"]
LIMIT = 4096


class Recorder:
    """Writes down what a parser calls; pieces of one body are joined."""

    def __init__(self, *, takes_websocket: bool = False) -> None:
        self.events: list[Any] = []
        self.takes_websocket = takes_websocket
        self.is_taken = False

    def on_head(self, head: RequestHead) -> bool:
        self.events.append(
            (
                head.method,
                head.raw_path,
                head.query_string,
                head.http_version,
                tuple(head.headers),
                head.keep_alive,
                head.expects_continue,
                head.is_websocket,
                head.content_length,
                head.chunked,
            )
        )
        self.is_taken = self.takes_websocket and head.is_websocket
        return self.is_taken

    def on_body(self, data: bytes) -> None:
        assert data
        if isinstance(self.events[-1], bytes):
            self.events[-1] += data
        else:
            self.events.append(data)

    def on_complete(self) -> None:
        self.events.append("complete")


def reader(name: Any, sink: Recorder) -> RequestReader:
    return RequestReader(sink, fields_parser(name), RequestLimits(line=2048, head=LIMIT))


def parse(name: str, *pieces: bytes, takes_websocket: bool = False) -> tuple[list[Any], Any]:
    """Return the events, and the bytes left behind an upgrade or the status of a refusal."""
    recorder = Recorder(takes_websocket=takes_websocket)
    requests = reader(name, recorder)
    rest = b""
    try:
        for piece in pieces:
            rest += piece
            while rest and not recorder.is_taken:
                rest = requests.feed(rest)
    except PeerError as error:
        return recorder.events, error.status
    return recorder.events, rest if recorder.is_taken else None


@pytest.fixture(params=PARSERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, *headers, b"", body))


def head_of(name: str, data: bytes) -> Any:
    events, refusal = parse(name, data)
    assert refusal is None
    return events[0]


@pytest.mark.parametrize(
    ("target", "raw_path", "query", "host"),
    [
        (b"/a%20b/c?x=1&y", b"/a%20b/c", b"x=1&y", b"h"),
        (b"/?", b"/", b"", b"h"),
        (b"//double", b"//double", b"", b"h"),
        (b"/a?b?c", b"/a", b"b?c", b"h"),
        (b"http://other:81/a/b?q", b"/a/b", b"q", b"other:81"),
        (b"HTTP://other", b"/", b"", b"other"),
        (b"http://other?q", b"/", b"q", b"other"),
    ],
)
def test_targets_are_split(
    name: str, target: bytes, raw_path: bytes, query: bytes, host: bytes
) -> None:
    head = head_of(name, request(b"GET " + target + b" HTTP/1.1", b"Host: h"))
    assert head[1:3] == (raw_path, query)
    assert head[4] == ((b"host", host),)


def test_a_higher_minor_version_is_read_as_the_one_we_speak(name: str) -> None:
    assert head_of(name, request(b"GET / HTTP/1.2", b"Host: a"))[3] == "1.1"


def test_options_may_ask_about_the_server_itself(name: str) -> None:
    assert head_of(name, request(b"OPTIONS * HTTP/1.1", b"Host: h"))[1] == b"*"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(b"GET / HTTP/1.1"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Host: a"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a@b"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a/b"), 400),
        (request(b"GET / HTTP/1.0", b"Host: a", b"Host: b"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Content-Length: 1"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 1, 1"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: +1"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: -1"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 1_0"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: " + b"9" * 25), 400),
        (
            request(
                b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Transfer-Encoding: chunked"
            ),
            400,
        ),
        (
            request(
                b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 3"
            ),
            400,
        ),
        (request(b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: xchunked"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"), 501),
        (request(b"GET / HTTP/1.1", b"Host : a"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b" folded: b"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"x: a\x00b"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"x: a\x01b"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"x: a\rb"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"x@: a"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b": a"), 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"no colon"), 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (request(b"GET /#fragment HTTP/1.1", b"Host: a"), 400),
        (request(b"GET nothing HTTP/1.1", b"Host: a"), 400),
        (request(b"GET * HTTP/1.1", b"Host: a"), 400),
        (request(b"GET http://u@a/ HTTP/1.1", b"Host: a"), 400),
        (request(b"GET http:///a HTTP/1.1", b"Host: a"), 400),
        (request(b"GET /\xff HTTP/1.1", b"Host: a"), 400),
        (request(b"GET /a b HTTP/1.1", b"Host: a"), 400),
        (request(b"CONNECT a:80 HTTP/1.1", b"Host: a"), 501),
        (request(b"GET / HTTP/2.0", b"Host: a"), 505),
        (request(b"GET /", b"Host: a"), 400),
        (request(b"get / HTTP/1.1", b"Host: a"), 501),
        (request(b"FROB / HTTP/1.1", b"Host: a"), 501),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (request(b"GET / HTTP/1.1", b"Host: a", b"x: " + b"y" * LIMIT), 431),
        (request(b"GET / HTTP/1.1", b"Host: a", *[b"x: " + b"y" * 90] * 50), 431),
        (b"GET /" + b"a" * (2 * LIMIT), 414),
    ],
)
@pytest.mark.parametrize("split", ["whole", "bytes"])
def test_bad_heads_are_refused_alike(name: str, data: bytes, status: int, split: str) -> None:
    pieces = [data] if split == "whole" else [bytes((byte,)) for byte in data]
    if len(data) > LIMIT and split == "whole":
        pieces = [data[:100], data[100:]]
    events, refusal = parse(name, *pieces)
    assert (events, refusal) == ([], status)


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"1\r\na\n0\r\n\r\n", b"f" * 30 + b"\r\n"]
)
def test_bad_chunks_are_refused_alike(name: str, body: bytes) -> None:
    data = request(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", body=body)
    events, refusal = parse(name, data)
    assert refusal == 400
    assert "complete" not in events


def test_chunk_extensions_and_trailers_are_bounded(name: str) -> None:
    start = request(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", body=b"1")
    pieces = [b"x" * 1000] * (2 * LIMIT // 1000 + 2)
    assert parse(name, start + b";" + b"x" * 100, *pieces)[1] == 400
    assert parse(name, start + b"\r\na\r\n0\r\nt: " + b"x" * 100, *pieces)[1] == 431


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        (b"1.1", b"x: y", True),
        (b"1.1", b"Connection: close", False),
        (b"1.1", b"Connection: foo, CLOSE", False),
        (b"1.1", b"Connection: keep-alive", True),
        (b"1.0", b"x: y", False),
        (b"1.0", b"Connection: keep-alive", True),
    ],
)
def test_what_follows_a_last_request_is_dropped(
    name: str, version: bytes, header: bytes, kept: bool
) -> None:
    data = request(b"GET / HTTP/" + version, b"Host: a", header)
    events, refusal = parse(name, data + data, data)
    assert refusal is None
    assert events[0][5] is kept
    assert events.count("complete") == (3 if kept else 1)


WEBSOCKET = request(b"GET /ws HTTP/1.1", b"Host: a", b"Connection: Upgrade", b"Upgrade: WebSocket")


def test_bytes_behind_a_websocket_handshake_are_handed_back(name: str) -> None:
    events, rest = parse(name, WEBSOCKET + b"\x81\x80abc", b"more", takes_websocket=True)
    assert len(events) == 1
    assert rest == b"\x81\x80abcmore"
    assert parse(name, WEBSOCKET, takes_websocket=True)[1] == b""


@pytest.mark.parametrize(
    "body_headers",
    [(), (b"Content-Length: 5",), (b"Transfer-Encoding: chunked",)],
)
def test_an_upgrade_that_nobody_takes_is_an_ordinary_request(
    name: str, body_headers: tuple[bytes, ...]
) -> None:
    """Its body is a body, and what follows is the next request."""
    upgrade = (b"Host: a", b"Connection: upgrade", b"Upgrade: h2c")
    body = {
        0: b"",
        1: b"hello" if b"Length" in b"".join(body_headers) else b"5\r\nhello\r\n0\r\n\r\n",
    }
    data = request(b"POST / HTTP/1.1", *upgrade, *body_headers, body=body[len(body_headers)])
    data += request(b"GET /next HTTP/1.1", b"Host: a")
    for pieces in ([data], [bytes((byte,)) for byte in data]):
        events, refusal = parse(name, *pieces)
        assert refusal is None
        assert [event for event in events if isinstance(event, bytes)] == [b"hello"] * len(
            body_headers
        )
        assert events[-2][1] == b"/next"
        assert events[-1] == "complete"


def test_a_partial_head_is_known(name: str) -> None:
    parser = reader(name, Recorder())
    assert not parser.has_partial_head
    parser.feed(b"\r")
    assert not parser.has_partial_head, "so far, half an empty line"
    parser.feed(b"\n\r\nGE")
    assert parser.has_partial_head
    parser.feed(b"T / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not parser.has_partial_head


TOKEN = st.text("abcXYZ019-_", min_size=1, max_size=8).map(lambda text: b"x-" + text.encode())
VALUE = st.text("aZ09 ,;=\"'\t\xe9", max_size=20).map(lambda text: text.strip().encode("latin-1"))
FILLER = st.lists(st.tuples(TOKEN, VALUE), max_size=4)


@st.composite
def requests(draw: Any) -> bytes:
    """One well-formed request that does not end its connection."""
    method = draw(st.sampled_from([b"GET", b"POST", b"DELETE", b"M-SEARCH", b"OPTIONS"]))
    target = draw(st.sampled_from([b"/", b"/a/b?c=d", b"/%41", b"http://host/x?y"]))
    headers = [b"Host: h:80"] + [name + b":" + value for name, value in draw(FILLER)]
    body = draw(st.binary(max_size=200))
    if draw(st.booleans()):
        headers.append(b"Connection: upgrade")
        headers.append(b"Upgrade: h2c")
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "length":
        headers.append(b"content-LENGTH: %d" % len(body))
    elif framing == "chunked":
        headers.append(b"Transfer-Encoding: Chunked")
        size = draw(st.integers(1, 50))
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        chunks = b"".join(b"%x;e=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        body = chunks + b"0\r\n" + draw(st.sampled_from([b"", b"t: v\r\n"])) + b"\r\n"
    else:
        body = b""
    blank = draw(st.sampled_from([b"", b"\r\n"]))
    return blank + request(method + b" " + target + b" HTTP/1.1", *headers, body=body)


@settings(max_examples=150, deadline=None)
@given(stream=st.lists(requests(), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 3000)))
def test_bytes_split_anywhere_mean_the_same_to_both_parsers(
    stream: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(stream)
    places = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    expected = parse("h11", data)
    assert expected[1] is None
    assert expected[0].count("complete") == len(stream)
    for name in PARSERS:
        assert parse(name, data) == expected
        assert parse(name, *pieces) == expected
        assert parse(name, *[bytes((byte,)) for byte in data]) == expected


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200), prefix=st.sampled_from([b"", b"GET / HTTP/1.1\r\nHost: a\r\n"])
)
def test_any_bytes_are_parsed_or_refused(data: bytes, prefix: bytes) -> None:
    for name in PARSERS:
        _, refusal = parse(name, prefix + data)
        assert refusal is None or 400 <= refusal <= 505
