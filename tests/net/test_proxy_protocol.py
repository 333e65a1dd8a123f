"""The PROXY header, versions 1 and 2: bytes in, who talks to whom out."""

import struct

import pytest

from asgireload.errors import ProxyHeaderError
from asgireload.net.proxy_protocol import (
    MAX_HEADER_BYTES,
    MAX_LINE_BYTES,
    Origin,
    ProxyHeader,
    read_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 4711, 443)
V4_ORIGIN = Origin(("192.0.2.1", 4711), ("198.51.100.2", 443))
V4_TLS_ORIGIN = Origin(V4_ORIGIN.client, V4_ORIGIN.server, is_secure=True)


def binary(family=0x11, body=V4, *, command=0x21, length=None):
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body


def extension(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def tls(client):
    return extension(
        0x20,
        struct.pack("!BI", client, 0) + extension(0x22, b"shop.example") + extension(0x21, b""),
    )


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n", V4_ORIGIN),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Origin(("255.255.255.255", 65535), ("255.255.255.255", 65535)),
        ),
        (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Origin(("0.0.0.0", 0), ("0.0.0.0", 0))),
        (
            b"PROXY TCP6 2001:DB8:0:0::1 ::1 1 2\r\n",
            Origin(("2001:db8::1", 1), ("::1", 2)),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
            Origin(("192.0.2.1", 1), ("::1", 2)),
        ),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 anything at all 1 2\r\n", None),
        (b"PROXY UNKNOWN " + b"f" * (MAX_LINE_BYTES - 16) + b"\r\n", None),
    ],
)
def test_lines(line, origin):
    assert read_header(line + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(line), origin)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "does not begin"),
        (b"\x16\x03\x01", "does not begin"),
        (b"proxy TCP4 192.0.2.1 192.0.2.1 1 1\r\n", "does not begin"),
        (b"PROXY\r\n", "does not begin"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1\n", "malformed"),
        (b"PROXY  TCP4 192.0.2.1 192.0.2.1 1 1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 1 \r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1\t192.0.2.1 1 1\r\n", "malformed"),
        (b"PROXY TCP5 192.0.2.1 192.0.2.1 1 1\r\n", "malformed"),
        (b"PROXY UDP4 192.0.2.1 192.0.2.1 1 1\r\n", "malformed"),
        (b"PROXY UNKNOWNS\r\n", "malformed"),
        (b"PROXY UNKNOWN a\rb\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::1 1 1\r\n", "address"),
        (b"PROXY TCP6 192.0.2.1 ::1 1 1\r\n", "address"),
        (b"PROXY TCP4 192.0.2.256 192.0.2.1 1 1\r\n", "address"),
        (b"PROXY TCP4 192.0.2.01 192.0.2.1 1 1\r\n", "address"),
        (b"PROXY TCP6 ::1::1 ::1 1 1\r\n", "address"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 65536 1\r\n", "port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.1 1 01\r\n", "port"),
        (b"PROXY UNKNOWN " + b"f" * (MAX_LINE_BYTES - 15) + b"\r\n", "longer than 107"),
        (b"PROXY " + b"x" * 101, "longer than 107"),
    ],
)
def test_malformed_lines(line, error):
    with pytest.raises(ProxyHeaderError, match=error):
        read_header(line)


@pytest.mark.parametrize(
    ("data", "origin"),
    [
        (binary(), V4_ORIGIN),
        (
            binary(0x21, bytes(15) + b"\1" + bytes(15) + b"\2" + struct.pack("!HH", 1, 2)),
            Origin(("::1", 1), ("::2", 2)),
        ),
        (
            binary(
                0x21,
                bytes(10) + b"\xff\xff\xc0\0\2\1" + bytes(15) + b"\2" + struct.pack("!HH", 1, 2),
            ),
            Origin(("192.0.2.1", 1), ("::2", 2)),
        ),
        (
            binary(0x31, bytes(108) + b"/run/shop.sock".ljust(108, b"\0")),
            Origin(None, ("/run/shop.sock", None)),
        ),
        (
            binary(0x31, bytes(108) + b"\0abstract".ljust(108, b"\0")),
            Origin(None, ("\0abstract", None)),
        ),
        (binary(0x00, b""), None),
        (binary(0x00, b"whatever"), None),
        (binary(0x11, b"", command=0x20), None),
        (binary(0xFF, b"to be ignored", command=0x20), None),
        (binary(0x12, V4, command=0x20), None),
        (binary(body=V4 + extension(0x04, b"padding")), V4_ORIGIN),
        (
            binary(body=V4 + extension(0x02, b"shop.example") + extension(0xEA, b"\1vpce")),
            V4_ORIGIN,
        ),
        (binary(body=V4 + tls(client=1)), V4_TLS_ORIGIN),
        (binary(body=V4 + tls(client=0)), V4_ORIGIN),
        (binary(body=V4 + extension(0x04, b"") + tls(client=7)), V4_TLS_ORIGIN),
        (binary(body=V4 + extension(0x04, bytes(MAX_HEADER_BYTES - 16 - 12 - 3))), V4_ORIGIN),
    ],
)
def test_binary_headers(data, origin):
    assert read_header(data + b"\x16\x03\x01") == ProxyHeader(len(data), origin)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (binary(command=0x11), "version and command 0x11"),
        (binary(command=0x31), "version and command 0x31"),
        (binary(command=0x22), "version and command 0x22"),
        (binary(0x12), "datagrams"),
        (binary(0x22, bytes(36)), "datagrams"),
        (binary(0x32, bytes(216)), "datagrams"),
        (binary(0x13), "family 0x13"),
        (binary(0x01), "family 0x01"),
        (binary(0x41), "family 0x41"),
        (binary(length=11), "too short for its addresses"),
        (binary(0x21, bytes(35)), "too short for its addresses"),
        (binary(0x31, bytes(215)), "too short for its addresses"),
        (binary(length=MAX_HEADER_BYTES - 15), "longer than 4096"),
        (binary(length=0xFFFF), "longer than 4096"),
        (binary(body=V4 + b"\x04\x00"), "ends within an extension"),
        (binary(body=V4 + b"\x04\x00\x05abcd"), "longer than itself"),
        (binary(body=V4 + extension(0x20, b"\1\0\0\0")), "TLS is too short"),
        (SIGNATURE[:-1] + b"X", "does not begin"),
    ],
)
def test_malformed_binary_headers(data, error):
    with pytest.raises(ProxyHeaderError, match=error):
        read_header(data)


@pytest.mark.parametrize(
    "data",
    [
        b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
        b"PROXY UNKNOWN\r\n",
        binary(body=V4 + tls(client=1)),
        binary(0x00, b"", command=0x20),
    ],
)
def test_a_part_of_a_header_asks_for_more(data):
    assert [read_header(data[:size]) for size in range(len(data))] == [None] * len(data)


def test_a_fault_shows_before_the_rest_has_come():
    with pytest.raises(ProxyHeaderError, match="does not begin"):
        read_header(b"G")
    with pytest.raises(ProxyHeaderError, match="version and command"):
        read_header(SIGNATURE + b"\x01")
    with pytest.raises(ProxyHeaderError, match="longer than"):
        read_header(SIGNATURE + b"\x21\x11\xff\xff")
