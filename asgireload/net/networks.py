"""Which peers are believed when they speak for somebody else: proxies by address, network or socket.

Pure. The same value judges forwarded headers and PROXY headers; each has an option of its own.
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
"""Parsed addresses that are kept. A text is at most as long as an address with its zone, so this is
bounded memory; a chain of proxies names the same few again and again."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class TrustedNetworks(msgspec.Struct, frozen=True):
    """Peers that are believed. Made by `parse`; `TrustedNetworks()` believes nobody."""

    everybody: bool = False
    unix: bool = False
    """Peers on Unix sockets: who may connect is decided by the directory of the socket."""
    v4: tuple[ipaddress.IPv4Network, ...] = ()
    v6: tuple[ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(cls, entries: str | Iterable[str]) -> "TrustedNetworks":
        """Read addresses, networks, `unix` and `*`, as a text with commas or one by one.

        An IPv6 entry that means IPv4 addresses (RFC 4291 section 2.5.5.2) is taken as those. Raise
        ConfigError, naming the entry.
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
        """Whether the peer with this address (None: on a Unix socket) is believed."""
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
    """Return the IPv4 address that ::ffff:192.0.2.1 stands for, where a socket speaks both; else the same."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
