"""Any bytes at the start of a connection: a header, a wish for more, or ProxyHeaderError."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.errors import ProxyHeaderError
from asgireload.net.networks import unmapped
from asgireload.net.proxy_protocol import MAX_HEADER_BYTES, Origin, ProxyHeader, read_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
PORTS = st.integers(0, 65535)
PAIRS = st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)) | st.tuples(
    st.ip_addresses(v=6), st.ip_addresses(v=6)
)
EXTENSIONS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=5)
NEARLY = st.builds(
    lambda start, rest: start + rest,
    st.sampled_from(
        [
            b"",
            b"PROXY ",
            b"PROXY TCP4 ",
            b"PROXY TCP6 ::1 ",
            b"PROXY UNKNOWN",
            SIGNATURE,
            SIGNATURE + b"\x21\x11",
            SIGNATURE + b"\x21\x11\x00\x20" + bytes(12) + b"\x20\x00",
            SIGNATURE + b"\x20",
            SIGNATURE + b"\x21\x31\x01\x00",
        ]
    ),
    st.binary(max_size=300),
)
"""Bytes that get past the first glance."""


def outcome(data):
    try:
        return read_header(data)
    except ProxyHeaderError as error:
        return str(error)


def split_outcome(data, cuts):
    """Read as a socket's reader does, piece by piece; return the outcome as soon as there is one."""
    for end in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        found = outcome(data[:end])
        if found is not None:
            return found
    return None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | NEARLY, st.lists(st.integers(0, 400), max_size=4))
def test_any_bytes_in_any_pieces_mean_the_same(data, cuts):
    whole = outcome(data)
    found = split_outcome(data, cuts)
    if isinstance(whole, ProxyHeader):
        assert whole.size <= min(len(data), MAX_HEADER_BYTES)
    # A malformed start may be refused for another reason before the rest has come.
    assert type(found) is type(whole)
    if not isinstance(whole, str):
        assert found == whole


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_a_reader_never_waits_for_more_than_the_bound(tail):
    for start in (b"PROXY UNKNOWN " + b"x" * 200, SIGNATURE + b"\x21\x11\xff\xff" + bytes(5000)):
        assert outcome(start + tail) is not None


@settings(max_examples=200, deadline=None)
@given(PAIRS, PORTS, PORTS, st.binary(max_size=20))
def test_lines_are_read_back(pair, source, target, rest):
    client, server = pair
    line = f"PROXY TCP{client.version} {client} {server} {source} {target}\r\n".encode()
    origin = Origin((str(unmapped(client)), source), (str(unmapped(server)), target))
    assert read_header(line + rest) == ProxyHeader(len(line), origin)


@settings(max_examples=200, deadline=None)
@given(PAIRS, PORTS, PORTS, EXTENSIONS, st.none() | st.integers(0, 7), st.binary(max_size=20))
def test_binary_headers_are_read_back(pair, source, target, extensions, tls, rest):
    client, server = pair
    extensions = [(kind, value) for kind, value in extensions if kind != 0x20]
    if tls is not None:
        extensions.insert(len(extensions) // 2, (0x20, struct.pack("!BI", tls, 0)))
    body = client.packed + server.packed + struct.pack("!HH", source, target)
    body += b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in extensions)
    family = 0x11 if client.version == 4 else 0x21
    data = SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body
    is_secure = tls is not None and bool(tls & 1)
    origin = Origin((str(unmapped(client)), source), (str(unmapped(server)), target), is_secure)
    assert read_header(data + rest) == ProxyHeader(len(data), origin)
