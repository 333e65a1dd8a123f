"""Decide which peers are trusted as proxies, by address, network or socket. Pure.

The same type is used for forwarded headers and PROXY headers, each with an option of its own.
"""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from asgireload.config.kinds import ANYBODY, UNIX_PEERS, MismatchError, Network
from asgireload.errors import ConfigError

Client = tuple[str, int]
"""Address and port of a peer; None in its place means a Unix socket, whose peers have no address."""

_REMEMBERED_ADDRESSES = 1024
"""Parsed addresses in the cache. An address with its zone has a bounded length, so the cache has, too. Chains of
proxies repeat the same few addresses."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class TrustedNetworks(msgspec.Struct, frozen=True):
    """Trusted peers. Made by `parse`; `TrustedNetworks()` trusts no peer."""

    everybody: bool = False
    unix: bool = False
    """Peers on Unix sockets are trusted; the directory of the socket decides which users can connect."""
    v4: tuple[ipaddress.IPv4Network, ...] = ()
    v6: tuple[ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: str | Iterable[str]) -> "TrustedNetworks":
        """Parse addresses, networks, `unix` and `*`, from a string with commas or from separate entries.

        An IPv4-mapped IPv6 entry (RFC 4291 section 2.5.5.2) means the IPv4 addresses. Raise ConfigError, naming the
        entry.
        """
        if isinstance(entries, str):
            entries = entries.replace(",", " ").split()
        kind = Network()
        words: set[str] = set()
        v4: list[ipaddress.IPv4Network] = []
        v6: list[ipaddress.IPv6Network] = []
        for entry in entries:
            try:
                text = kind.read(entry)
            except MismatchError as error:
                raise ConfigError(f"trusted network {entry!r}: expected {error}") from None
            if text in (ANYBODY, UNIX_PEERS):
                words.add(text)
                continue
            network = ipaddress.ip_network(text)
            if isinstance(network, ipaddress.IPv4Network):
                v4.append(network)
            elif network.subnet_of(_MAPPED):
                low = int(network.network_address) & 0xFFFFFFFF
                v4.append(ipaddress.IPv4Network((low, network.prefixlen - 96)))
            else:
                v6.append(network)
        return cls(ANYBODY in words, UNIX_PEERS in words, tuple(v4), tuple(v6))

    def is_trusted(self, client: Client | None) -> bool:
        """Return whether the peer with this address is trusted; None means a peer on a Unix socket."""
        if self.everybody:
            return True
        if client is None:
            return self.unix
        address = _parse(client[0])
        if isinstance(address, ipaddress.IPv4Address):
            return any(address in network for network in self.v4)
        return address is not None and any(address in network for network in self.v6)


@lru_cache(maxsize=_REMEMBERED_ADDRESSES)
def _parse(host: str) -> Address | None:
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped one such as ::ffff:192.0.2.1; any other address unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
