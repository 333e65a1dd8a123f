"""Strategies for streams of requests: in order, nearly in order, and spliced from the corpus."""

from typing import Any

from hypothesis import strategies as st

from tests.corpus.loading import load_all

CORPUS = [case.data for case in load_all() if len(case.data) < 600]

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE", b"M-SEARCH"]
TARGETS = [b"/", b"/a/b?c=d", b"/%41?", b"http://host:81/x?y", b"http://a", b"//x", b"/a;b=c"]
VERSIONS = [b"1.1", b"1.1", b"1.1", b"1.0", b"1.2"]
LINES = [
    b"Connection: keep-alive",
    b"Connection: close",
    b"connection: x, upgrade",
    b"Upgrade: h2c",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"TE: trailers",
    b"X-Empty:",
    b"x:\t spaced \t",
    b'x: "quoted, \\" text"',
    b"x: \xe9\x80",
    b"Cookie: a=b; c=d",
    b"Content_Length: 3",
]
ODD_LINES = [
    b"Host: a",
    b"Host:",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: +3",
    b"Content-Length : 3",
    b"Content-Length: 3, 3",
    b"Content-Length:",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding",
    b" folded",
    b"\tfolded: x",
    b": x",
    b"x",
    b"",
    b"GET / HTTP/1.1",
    b"0",
]
FRAGMENTS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\0",
    b"\t",
    b" ",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b":",
    b";",
    b",",
    b'"',
    b"\\",
    b"=",
    b"-",
    b"+",
    b"_",
    b"0",
    b"0x",
    b"5",
    b"f",
    b"#",
    b"?",
    b"@",
    b"*",
    b"%",
    b"[",
    b"]",
    b"0\r\n\r\n",
    b"HTTP/1.1\r\n",
    *ODD_LINES,
]
LINE_ENDS = [b"\n", b"\r", b"\r\r\n", b"", b" \r\n", b"\n\r"]


@st.composite
def chunked_bodies(draw: Any, body: bytes) -> bytes:
    """The body in chunks of any size, some with extensions, and perhaps with trailers."""
    pieces = []
    place = 0
    while place < len(body):
        size = draw(st.integers(1, 20))
        piece = body[place : place + size]
        form = draw(st.sampled_from([b"%x", b"%X", b"0%x"]))
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b", b'; c = "d;\\""']))
        pieces.append(form % len(piece) + extension + b"\r\n" + piece + b"\r\n")
        place += size
    trailers = draw(st.lists(st.sampled_from([b"x: y\r\n", b"t:\r\n"]), max_size=2))
    return b"".join([*pieces, b"0\r\n", *trailers, b"\r\n"])


@st.composite
def requests(draw: Any) -> bytes:
    """A request that is in order."""
    version = draw(st.sampled_from(VERSIONS))
    line = b"%b %b HTTP/%b" % (
        draw(st.sampled_from(METHODS)),
        draw(st.sampled_from(TARGETS)),
        version,
    )
    lines = draw(st.lists(st.sampled_from(LINES), max_size=4))
    body = draw(st.binary(max_size=40))
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "chunked" and version != b"1.0":
        lines.append(draw(st.sampled_from([b"Transfer-Encoding: chunked", b"x: y"])))
        if lines[-1] == b"x: y":
            lines.append(b"transfer-encoding:CHUNKED")
        body = draw(chunked_bodies(body))
    elif framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    else:
        body = b""
    if version != b"1.0":
        lines.insert(draw(st.integers(0, len(lines))), b"Host: a:80")
    empty_line = draw(st.sampled_from([b"", b"", b"", b"\r\n"]))
    return empty_line + b"\r\n".join([line, *lines, b"", body])


def _flip(data: bytes, place: int, choice: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << (choice % 8)
    return bytes(changed)


def _insert(data: bytes, place: int, choice: int) -> bytes:
    return data[:place] + FRAGMENTS[choice % len(FRAGMENTS)] + data[place:]


def _replace(data: bytes, place: int, choice: int) -> bytes:
    fragment = FRAGMENTS[choice % len(FRAGMENTS)]
    return data[:place] + fragment + data[place + len(fragment) :]


def _delete(data: bytes, place: int, choice: int) -> bytes:
    return data[:place] + data[place + 1 + choice % 4 :]


def _add_line(data: bytes, place: int, choice: int) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(place % len(lines), ODD_LINES[choice % len(ODD_LINES)])
    return b"\r\n".join(lines)


def _repeat_line(data: bytes, place: int, choice: int) -> bytes:
    lines = data.split(b"\r\n")
    lines.insert(choice % len(lines), lines[place % len(lines)])
    return b"\r\n".join(lines)


def _swap_lines(data: bytes, place: int, choice: int) -> bytes:
    lines = data.split(b"\r\n")
    one, other = place % len(lines), choice % len(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return b"\r\n".join(lines)


def _change_line_end(data: bytes, place: int, choice: int) -> bytes:
    lines = data.split(b"\r\n")
    cut = place % len(lines)
    end = LINE_ENDS[choice % len(LINE_ENDS)]
    return b"\r\n".join(lines[: cut + 1]) + end + b"\r\n".join(lines[cut + 1 :])


MUTATIONS = [
    _flip,
    _insert,
    _replace,
    _delete,
    _add_line,
    _repeat_line,
    _swap_lines,
    _change_line_end,
]


@st.composite
def mutated(draw: Any, originals: st.SearchStrategy[bytes]) -> bytes:
    """One of the originals with a few small changes."""
    data = draw(originals)
    for _ in range(draw(st.integers(0, 3))):
        if data:
            mutate = draw(st.sampled_from(MUTATIONS))
            data = mutate(
                data, draw(st.integers(0, len(data) - 1)), draw(st.integers(0, len(FRAGMENTS) - 1))
            )
    return data


@st.composite
def spliced(draw: Any) -> bytes:
    """Two files of the corpus, cut at any place and put together."""
    front = draw(st.sampled_from(CORPUS))
    back = draw(st.sampled_from(CORPUS))
    return front[: draw(st.integers(0, len(front)))] + back[draw(st.integers(0, len(back))) :]


STREAMS = st.lists(requests(), min_size=1, max_size=3).map(b"".join)
ANY_STREAMS = st.one_of(mutated(STREAMS), mutated(st.sampled_from(CORPUS)), mutated(spliced()))
"""What a client may send: mostly requests, mostly with something wrong."""
