"""Parse the PROXY header, in which a proxy at the level of TCP names its client. Pure.

Source: haproxy.org, proxy-protocol.txt, sections 2.1 (version 1, a line of text) and 2.2 (version 2, binary).
`worker/proxy_header.py` reads the header from a socket.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address

import msgspec

from asgireload.errors import ProxyHeaderError
from asgireload.net.networks import Client, unmapped

MAX_LINE_BYTES = 107
"""The longest line of version 1, with its end (section 2.1)."""
MAX_HEADER_BYTES = 4096
"""The longest header of version 2 that is accepted. The fixed part and addresses take 232 bytes at most; the rest
is for the extensions of proxies, which take some hundred bytes: names, identifiers, a certificate's subject."""

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
_LINE_START = b"PROXY "
_LINE = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) ([0-9]{1,5}) ([0-9]{1,5})\r\n"
)
_UNKNOWN_LINE = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")

_LOCAL = 0x20
_PROXY = 0x21
_UNSPECIFIED = 0x00
_TCP4 = struct.Struct("!4s4sHH")
_TCP6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct("!108s108s")
_FAMILIES = {0x11: _TCP4, 0x21: _TCP6, 0x31: _UNIX}
_DATAGRAM_FAMILIES = (0x12, 0x22, 0x32)

_EXTENSION = struct.Struct("!BH")
_TLS_EXTENSION = 0x20  # PP2_TYPE_SSL
_TLS_EXTENSION_FIXED_BYTES = 5
_CLIENT_SPOKE_TLS = 0x01  # PP2_CLIENT_SSL


class Origin(msgspec.Struct, frozen=True):
    """The two ends of the client's connection to the proxy."""

    client: Client | None
    """The client's address; None for a Unix socket."""
    server: tuple[str, int | None]
    """The address that the client connected to; a path and None for a Unix socket."""
    is_secure: bool = False
    """The client uses TLS to the proxy."""


class ProxyHeader(msgspec.Struct, frozen=True):
    """A complete PROXY header."""

    size: int
    """The length of the header in bytes; bytes after it belong to the connection."""
    origin: Origin | None
    """None if the proxy itself is the client (a health check), or does not know its client: the addresses of the
    socket are used then."""


def read_header(data: bytes) -> ProxyHeader | None:
    """Parse the PROXY header at the start of `data`; return None if the header is incomplete.

    Raise ProxyHeaderError as soon as `data` cannot be a PROXY header.
    """
    if data.startswith(_LINE_START):
        return _read_line(data)
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if _LINE_START.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def _read_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, MAX_LINE_BYTES) + 1
    if not end:
        if len(data) >= MAX_LINE_BYTES:
            raise ProxyHeaderError(f"the PROXY line is longer than {MAX_LINE_BYTES} bytes")
        return None
    line = data[:end]
    if _UNKNOWN_LINE.fullmatch(line) is not None:
        return ProxyHeader(end, None)
    match = _LINE.fullmatch(line)
    if match is None:
        raise ProxyHeaderError("the PROXY line is malformed")
    parse = IPv4Address if match[1] == b"TCP4" else IPv6Address
    try:
        client = str(unmapped(parse(match[2].decode("ascii"))))
        server = str(unmapped(parse(match[3].decode("ascii"))))
    except ValueError:
        raise ProxyHeaderError("the PROXY line has an address that is none") from None
    return ProxyHeader(end, Origin((client, _read_port(match[4])), (server, _read_port(match[5]))))


def _read_port(digits: bytes) -> int:
    port = int(digits)
    if port > 65535 or str(port).encode() != digits:
        raise ProxyHeaderError("the PROXY line has a port that is none")
    return port


def _read_binary(data: bytes) -> ProxyHeader | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"PROXY version and command {data[12]:#04x} are not known")
    if len(data) < _FIXED.size:
        return None
    _, command, family, length = _FIXED.unpack_from(data)
    size = _FIXED.size + length
    if size > MAX_HEADER_BYTES:
        raise ProxyHeaderError(f"the PROXY header is longer than {MAX_HEADER_BYTES} bytes")
    addresses = _FAMILIES.get(family)
    if command == _PROXY:
        if family in _DATAGRAM_FAMILIES:
            raise ProxyHeaderError("the PROXY header speaks of datagrams, this is a stream")
        if addresses is None and family != _UNSPECIFIED:
            raise ProxyHeaderError(f"PROXY address family {family:#04x} is not known")
        if addresses is not None and length < addresses.size:
            raise ProxyHeaderError("the PROXY header is too short for its addresses")
    if len(data) < size:
        return None
    if command == _LOCAL or addresses is None:
        # The rest of the header must be ignored (section 2.2).
        return ProxyHeader(size, None)
    body = data[_FIXED.size : size]
    is_secure = _spoke_tls(body[addresses.size :])
    if addresses is _UNIX:
        path = addresses.unpack_from(body)[1]
        # An abstract name begins with NUL (unix(7)), a path ends with it.
        name = path.rstrip(b"\0") if path.startswith(b"\0") else path.partition(b"\0")[0]
        return ProxyHeader(size, Origin(None, (name.decode(errors="replace"), None), is_secure))
    source, target, source_port, target_port = addresses.unpack_from(body)
    parse = IPv4Address if addresses is _TCP4 else IPv6Address
    client = str(unmapped(parse(source)))
    server = str(unmapped(parse(target)))
    return ProxyHeader(size, Origin((client, source_port), (server, target_port), is_secure))


def _spoke_tls(extensions: bytes) -> bool:
    """Return whether an extension (section 2.2.1) states that the client used TLS. Raise ProxyHeaderError."""
    is_secure = False
    position = 0
    while position < len(extensions):
        if position + _EXTENSION.size > len(extensions):
            raise ProxyHeaderError("the PROXY header ends within an extension")
        kind, length = _EXTENSION.unpack_from(extensions, position)
        start = position + _EXTENSION.size
        position = start + length
        if position > len(extensions):
            raise ProxyHeaderError("the PROXY header has an extension that is longer than itself")
        if kind == _TLS_EXTENSION:
            if length < _TLS_EXTENSION_FIXED_BYTES:
                raise ProxyHeaderError("the PROXY header's extension about TLS is too short")
            is_secure = bool(extensions[start] & _CLIENT_SPOKE_TLS)
    return is_secure
