"""Reads the headers that a trusted proxy adds to a request: X-Forwarded-* or Forwarded (RFC 7239). Pure.

Only one of the two families is used, and only those fields of it that are configured: a proxy passes on the headers
that it does not write, and then a client has written them.

Chains are read from the right, where the nearest proxy has added its element. The first address that is not that of
a trusted proxy is the client. The elements to the left of it came from that client and are ignored, even if
invalid. An invalid value is dropped as a whole, and the value of the connection is used instead.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from asgireload.config import Config
from asgireload.http.endpoints import Endpoints
from asgireload.http.request import Headers, RequestHead
from asgireload.net.networks import Client, TrustedNetworks, unmapped

MAX_HOPS = 64
"""Elements in one chain. Real chains are shorter; to read a longer one, which only trusted proxies could have
written, would take too much time."""
MAX_ELEMENT_BYTES = 1024
"""Bytes of one element of Forwarded: twice as much as four addresses and names of the greatest length."""
MAX_REMEMBERED_BYTES = 256
"""Larger headers are not cached. Three hops, host and prefix fit."""
_REMEMBERED = 1024
"""Size of the cache, less than 1 MiB: requests of one client have the same headers one after another."""

_PORT = rb"(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?"  # RFC 7239 section 6: a port may be obfuscated
_V4_NODE = re.compile(rb"([0-9.]+)" + _PORT)
_V6_NODE = re.compile(rb"\[([0-9A-Fa-f:.]+)\]" + _PORT)
_BARE_V6_NODE = re.compile(rb"([0-9A-Fa-f:.]+)()")
_HIDDEN_NODE = re.compile(rb"(?i:unknown|_[a-z0-9._-]+)" + _PORT)

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 section 5.6.2
# One parameter with its end. A value with colons or brackets must be quoted, but some proxies do not quote it.
_PARAMETER = re.compile(
    rb"[ \t]*(?:(" + _TOKEN + rb")=(?:([!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]]+)|\"([^\"\\]*)\")[ \t]*)?"
    rb"(?:;|\Z)"
)
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._~-]+)(?::([0-9]{1,5}))?")
_PREFIX = re.compile(rb"(?:/(?!\.\.?(?:/|\Z))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+")
_SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}

_Lines = tuple[tuple[bytes, bytes], ...]
_X_FORWARDED = {
    "for": b"x-forwarded-for",
    "proto": b"x-forwarded-proto",
    "host": b"x-forwarded-host",
    "port": b"x-forwarded-port",
    "prefix": b"x-forwarded-prefix",
}


class Forwarded(NamedTuple):
    """The values that trusted proxies have forwarded; None for a value that is missing or invalid."""

    client: Client | None = None
    """Address and port of the client; the port is 0 if the header has none."""
    scheme: str | None = None
    """`http` or `https`, for a WebSocket, too."""
    host: bytes | None = None
    """The value for the Host header, perhaps with a port."""
    port: bytes | None = None
    """The port for the Host header, in decimal digits."""
    prefix: bytes | None = None
    """The public path of the application, percent-encoded, without a final slash."""


class Forwarding:
    """Which proxies are trusted, and which of their headers are used. `read` is called for each request."""

    __slots__ = ("_names", "_remember", "fields", "networks")

    def __init__(
        self,
        networks: TrustedNetworks,
        headers: str = "x-forwarded",
        fields: Iterable[str] = ("for", "proto"),
    ) -> None:
        """`headers` and `fields` are the values of --forwarded-headers and --forwarded-fields."""
        self.networks = networks
        self.fields = frozenset(fields)
        is_standard = headers == "forwarded"
        self._names = frozenset(
            [b"forwarded"] if is_standard else [_X_FORWARDED[field] for field in self.fields]
        )
        self._remember = lru_cache(maxsize=_REMEMBERED)(
            self._read_standard if is_standard else self._read_x_forwarded
        )

    @classmethod
    def of(cls, config: Config) -> "Forwarding | None":
        """Return the rules of the configuration; None when no proxy is trusted."""
        if not config.proxy_headers or not config.forwarded_allow_ips:
            return None
        networks = TrustedNetworks.parse(config.forwarded_allow_ips)
        return cls(networks, config.forwarded_headers, config.forwarded_fields)

    def read(self, headers: Headers) -> Forwarded | None:
        """Return the values in the headers from a trusted peer; None when there are none."""
        names = self._names
        found: list[tuple[bytes, bytes]] | None = None
        for line in headers:
            if line[0] in names:
                if found is None:
                    found = [line]
                else:
                    found.append(line)
        if found is None:
            return None
        lines = tuple(found)
        if sum([len(value) for _, value in lines]) > MAX_REMEMBERED_BYTES:
            return self._remember.__wrapped__(lines)
        return self._remember(lines)

    def _read_x_forwarded(self, lines: _Lines) -> Forwarded:
        chain: list[bytes] = []
        said: dict[bytes, bytes] = {}
        for name, value in lines:
            if name == b"x-forwarded-for":
                chain.append(value)
            else:
                # The last of several lines or values comes from the nearest proxy.
                said[name] = value.rpartition(b",")[2].strip(b" \t")
        return Forwarded(
            client=self._client_of(chain),
            scheme=_SCHEMES.get(said.get(b"x-forwarded-proto", b"").lower()),
            host=_read_host(said.get(b"x-forwarded-host")),
            port=_read_port(said.get(b"x-forwarded-port")),
            prefix=_read_prefix(said.get(b"x-forwarded-prefix")),
        )

    def _client_of(self, lines: list[bytes]) -> Client | None:
        """Return the first address from the right that is not a trusted proxy, else the leftmost one."""
        client: Client | None = None
        hops = 0
        for line in reversed(lines):
            # An element that was not split off has commas, and is not an address.
            for node in reversed(line.rsplit(b",", MAX_HOPS)):
                hops += 1
                node = node.strip(b" \t")
                if not node:
                    continue  # RFC 9110 section 5.6.1: empty elements of a list mean nothing
                address = read_node(node)
                if address is None or hops > MAX_HOPS:
                    return None
                client = address
                if not self.networks.is_trusted(address):
                    return client
        return client

    def _read_standard(self, lines: _Lines) -> Forwarded | None:
        found = Forwarded()
        hops = 0
        for _, line in reversed(lines):
            end = len(line)
            while end >= 0:
                start = _element_start(line, end)
                if start is None:
                    return None
                element = line[start:end].strip(b" \t")
                end = start - 1
                hops += 1
                if hops > MAX_HOPS:
                    return None
                if not element:
                    continue
                said = _read_parameters(element)
                if said is None:
                    return None
                node = said.get(b"for")
                client = None if node is None else read_node(node)
                if client is None and node is not None and not _HIDDEN_NODE.fullmatch(node):
                    return None
                found = self._believed(client, said)
                # A proxy may hide its client. Then the elements before it cannot be trusted, either.
                if client is None or not self.networks.is_trusted(client):
                    return found
        return found

    def _believed(self, client: Client | None, said: dict[bytes, bytes]) -> Forwarded:
        fields = self.fields
        return Forwarded(
            client=client if "for" in fields else None,
            scheme=_SCHEMES.get(said.get(b"proto", b"").lower()) if "proto" in fields else None,
            host=_read_host(said.get(b"host")) if "host" in fields else None,
        )


def read_node(node: bytes) -> Client | None:
    """Return address and port (0: no port) of a node, or None if the node is not an address.

    The syntax is that of RFC 7239 section 6, and that of X-Forwarded-For, without quotes: `192.0.2.1`,
    `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
    """
    parse: type[IPv4Address | IPv6Address] = IPv4Address
    match = _V4_NODE.fullmatch(node)
    if match is None:
        parse = IPv6Address
        match = _V6_NODE.fullmatch(node) or _BARE_V6_NODE.fullmatch(node)
    if match is None:
        return None
    port = match[2]
    number = int(port) if port and not port.startswith(b"_") else 0
    try:
        address = unmapped(parse(match[1].decode("ascii")))
    except ValueError:
        return None
    return (str(address), number) if number <= 65535 else None


def read_forwarded(
    head: RequestHead, endpoints: Endpoints, forwarding: Forwarding | None
) -> Forwarded | None:
    """Return the forwarded values of a request; None if the peer is not a trusted proxy, or has sent none.

    Whether the peer is trusted is decided once for each connection (`Endpoints.is_trusted_proxy`).
    """
    if endpoints.is_trusted_proxy is None:
        endpoints.is_trusted_proxy = forwarding is not None and forwarding.networks.is_trusted(
            endpoints.client
        )
    return forwarding.read(head.headers) if forwarding and endpoints.is_trusted_proxy else None


def replace_host(headers: Headers, said: Forwarded, *, is_secure: bool) -> Headers:
    """Return headers whose Host header is the one that the client used, as forwarded in `said`.

    The default port, 443 if `is_secure`, else 80, is left out. The list `headers` is not changed; it is returned
    if the Host header is the same.
    """
    own = next((value for name, value in headers if name == b"host"), None)
    host = said.host if said.host is not None else own
    if host is None:
        return headers
    if said.port is not None:
        name = host[: host.index(b"]") + 1] if host.startswith(b"[") else host.partition(b":")[0]
        host = name if said.port == (b"443" if is_secure else b"80") else name + b":" + said.port
    if host == own:
        return headers
    others = [pair for pair in headers if pair[0] != b"host"]
    return [(b"host", host), *others]


def _element_start(line: bytes, end: int) -> int | None:
    """Return the offset of the last element of `line[:end]`; None if quotes are not paired or it is too long.

    The line is read from the right, so that an open quote from the client cannot include the element that the proxy
    has added after it. This requires quoted strings without backslashes, which no valid value here has; an element
    with a backslash is refused.
    """
    lowest = max(0, end - MAX_ELEMENT_BYTES)
    quotes = 0
    position = end
    while True:
        comma = line.rfind(b",", lowest, position)
        quotes += line.count(b'"', max(lowest, comma + 1), position)
        if comma < 0:
            return 0 if lowest == 0 and quotes % 2 == 0 else None
        if quotes % 2 == 0:
            return comma + 1
        position = comma


def _read_parameters(element: bytes) -> dict[bytes, bytes] | None:
    """Return the parameters of one forwarded-element (RFC 7239 section 4); None when malformed."""
    said: dict[bytes, bytes] = {}
    position = 0
    while position < len(element):
        match = _PARAMETER.match(element, position)
        if match is None:
            return None
        position = match.end()
        if match[1] is not None:
            name = match[1].lower()
            if name in said:
                return None
            said[name] = match[2] if match[2] is not None else match[3]
    return said


def _read_host(value: bytes | None) -> bytes | None:
    match = None if value is None else _HOST.fullmatch(value)
    if match is None:
        return None
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode("ascii"))
        except ValueError:
            return None
    return value if match[2] is None or int(match[2]) <= 65535 else None


def _read_port(value: bytes | None) -> bytes | None:
    if value is None or not value.isdigit() or len(value) > 5 or not 0 < int(value) <= 65535:
        return None
    return b"%d" % int(value)


def _read_prefix(value: bytes | None) -> bytes | None:
    # A prefix with empty or dot segments would mean another path, or even another host.
    if value is None or value == b"/":
        return None if value is None else b""
    prefix = value.removesuffix(b"/")
    return prefix if _PREFIX.fullmatch(prefix) is not None else None
