"""Checks Host headers against the hosts that are served, so that applications may build links from them. Pure.

Names are compared without case, port and final dot; addresses are compared by value.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address

from asgireload.config import Config
from asgireload.config.kinds import ANYBODY, HostPattern, MismatchError
from asgireload.errors import ConfigError
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarding, read_forwarded
from asgireload.http.request import RequestHead

MAX_HOST_BYTES = 261
"""The longest domain name, 253 bytes (RFC 1035 section 2.3.4), with a final dot, a colon and a port."""
_REMEMBERED_HOSTS = 256
"""Size of the cache of results, at most 64 KiB of names: clients use the same few hosts."""

_LABEL = "[A-Za-z0-9_-]+"
_HOST = re.compile(rf"(\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*)\.?(?::[0-9]*)?")


class HostRules:
    """The hosts that are served."""

    __slots__ = ("_judge", "names", "suffixes")

    def __init__(self, names: frozenset[str], suffixes: tuple[str, ...]) -> None:
        """`names` are in lowercase, IPv6 addresses in brackets; `suffixes` begin with a dot. See `parse`."""
        self.names = names
        self.suffixes = suffixes
        self._judge = lru_cache(maxsize=_REMEMBERED_HOSTS)(self._judge_anew)

    @classmethod
    def parse(cls, patterns: Iterable[str]) -> "HostRules | None":
        """Return the rules for patterns such as `example.com`, `*.example.com`, `localhost` and `[::1]`.

        Return None when every host is served. Raise ConfigError, which names the pattern, for an invalid one.
        """
        names: set[str] = set()
        suffixes: list[str] = []
        kind = HostPattern()
        for pattern in patterns:
            try:
                text = kind.read(pattern)
            except MismatchError as error:
                raise ConfigError(f"allowed host {pattern!r}: expected {error}") from None
            if text == ANYBODY:
                return None
            if text.startswith("*"):
                suffixes.append(text[1:])
            else:
                names.add(text)
        return cls(frozenset(names), tuple(suffixes)) if names or suffixes else None

    @classmethod
    def of(cls, config: Config) -> "HostRules | None":
        """Return the rules for `allowed_hosts`; None when every host is served. Raise ConfigError as `parse`."""
        return cls.parse(config.allowed_hosts)

    def allows(self, host: bytes | None) -> bool:
        """Return whether a request with this Host header is served. `host` is None for a request without one."""
        return host is not None and len(host) <= MAX_HOST_BYTES and self._judge(host)

    def _judge_anew(self, host: bytes) -> bool:
        match = _HOST.fullmatch(host.decode("latin-1"))
        if match is None:
            return False
        name = match[1].lower()
        if name.startswith("["):
            try:
                name = f"[{IPv6Address(name[1:-1])}]"
            except ValueError:
                return False
        return name in self.names or name.endswith(self.suffixes)


def names_served_host(
    head: RequestHead, endpoints: Endpoints, rules: HostRules, forwarding: Forwarding | None
) -> bool:
    """Return whether the host of a request is served: the one that a trusted proxy forwards, or the Host header."""
    if forwarding is not None and "host" in forwarding.fields:
        said = read_forwarded(head, endpoints, forwarding)
        if said is not None and said.host is not None:
            return rules.allows(said.host)
    return rules.allows(next((value for name, value in head.headers if name == b"host"), None))
