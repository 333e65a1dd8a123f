"""Which requests the admin interface allows: pure rules over the method, the path and the headers of a request.

A Unix socket is protected by the permissions of its file, so every client that can connect has full rights.
Over TCP three kinds of clients are refused, and each rule below names the kind that it is for:

- a web page whose host name was pointed at 127.0.0.1 after it was loaded (DNS rebinding);
- a web page that sends a request across sites from a browser on this machine (request forgery);
- any client on the network, when the address is not loopback: a bearer token is required (RFC 6750).

`token_file` reads the token file, and `api` answers refused requests.
"""

import hmac
import re
from collections.abc import Iterable

import msgspec

from asgireload.errors import ConfigError
from asgireload.net.addresses import is_loopback

PROBE_PATHS = frozenset({"/live", "/ready"})
"""Allowed without a token: probes of orchestrators cannot carry one, and the answers contain no secret."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
"""A Host header: a name or a bracketed IPv6 address, with an optional port (RFC 9110 section 7.2)."""

Headers = Iterable[tuple[bytes, bytes]]
"""Headers as in an ASGI scope, with names in lower case."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is refused; `detail` is shown to the client and never contains a token."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def check_binding(host: str, token: str | None) -> None:
    """Raise ConfigError when the admin interface would be open to the network without a token."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"admin_host {host!r} is not a loopback address, so the admin port needs a token: "
            "give --admin-token-file, or use --admin-host 127.0.0.1"
        )


class AccessPolicy(msgspec.Struct, frozen=True):
    """The access rules of one admin listener, made by `for_unix` or `for_tcp`."""

    host: str | None
    """The configured address of the TCP listener; None for a Unix socket."""
    token: str | None = None

    @classmethod
    def for_unix(cls) -> "AccessPolicy":
        return cls(host=None)

    @classmethod
    def for_tcp(cls, host: str, token: str | None) -> "AccessPolicy":
        """Return the rules of a TCP listener. Raise ConfigError when `host` is not loopback and there is no
        token."""
        check_binding(host, token)
        return cls(host=host, token=token)

    def judge(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Return why the request is refused, or None when it is allowed."""
        if self.host is None:
            return None
        seen = _Seen.collect(headers)
        return (
            self._judge_host(self.host, seen.hosts)
            or _judge_origin(seen.origins, seen.hosts)
            or _judge_fetch_site(method, seen.fetch_sites)
            or self._judge_token(path, seen.authorizations)
        )

    def _judge_host(self, bound: str, hosts: list[str]) -> Refusal | None:
        """Against DNS rebinding: the browser sends the host name of the page in the Host header.

        A listener that is not on loopback is reached under names that the server cannot know (a service name, the
        name of a proxy). There the token prevents DNS rebinding: a foreign page does not have the token, and
        browsers never add it on their own.
        """
        if not is_loopback(bound):
            return None
        name = _host_name(hosts)
        if name is None:
            return Refusal(403, "The request needs exactly one valid Host header.")
        if is_loopback(name) or name == bound.strip("[]").lower():
            return None
        return Refusal(
            403,
            f"Host {name!r} is not this admin listener; use localhost or a loopback address.",
        )

    def _judge_token(self, path: str, authorizations: list[str]) -> Refusal | None:
        if self.token is None or path in PROBE_PATHS:
            return None
        if not authorizations:
            challenge = b'Bearer realm="asgireload"'
            return Refusal(
                401,
                "This listener needs `Authorization: Bearer TOKEN`.",
                ((b"www-authenticate", challenge),),
            )
        scheme, _, credentials = authorizations[0].partition(" ")
        is_genuine = hmac.compare_digest(
            credentials.strip().encode("latin-1"), self.token.encode("utf-8")
        )
        if len(authorizations) == 1 and scheme.lower() == "bearer" and is_genuine:
            return None
        challenge = b'Bearer realm="asgireload", error="invalid_token"'
        return Refusal(401, "The bearer token is not valid.", ((b"www-authenticate", challenge),))


class _Seen(msgspec.Struct):
    """The header values that the rules examine, with one entry for each occurrence of a header."""

    hosts: list[str]
    origins: list[str]
    fetch_sites: list[str]
    authorizations: list[str]

    @classmethod
    def collect(cls, headers: Headers) -> "_Seen":
        seen = cls([], [], [], [])
        lists = {
            b"host": seen.hosts,
            b"origin": seen.origins,
            b"sec-fetch-site": seen.fetch_sites,
            b"authorization": seen.authorizations,
        }
        for name, value in headers:
            if name in lists:
                lists[name].append(value.decode("latin-1").strip())
        return seen


def _host_name(hosts: list[str]) -> str | None:
    """Return the name in the Host header, in lower case, without brackets and port; None unless there is exactly
    one valid Host header."""
    if len(hosts) != 1:
        return None
    match = _HOST.fullmatch(hosts[0])
    return match["name"].strip("[]").lower() if match else None


def _judge_origin(origins: list[str], hosts: list[str]) -> Refusal | None:
    """Against request forgery: a page may send requests only to the listener that it was loaded from.

    `Origin: null` (sandboxed frames, files, redirects across sites) matches no host. Both headers omit the default
    port, so they can be compared as text (RFC 6454 section 6.2).
    """
    for origin in origins:
        scheme, separator, authority = origin.partition("://")
        is_web = bool(separator) and scheme.lower() in {"http", "https"}
        if not is_web or [authority.lower()] != [host.lower() for host in hosts]:
            return Refusal(403, "The Origin header does not match Host: cross-site use is refused.")
    return None


def _judge_fetch_site(method: str, fetch_sites: list[str]) -> Refusal | None:
    """Against request forgery, from browsers that send Fetch Metadata headers.

    GET and HEAD are allowed: a link to the status page should work from any page, and without CORS headers a
    foreign page cannot read the answer.
    """
    if method in {"GET", "HEAD"}:
        return None
    if all(site in {"same-origin", "none"} for site in fetch_sites):
        return None
    return Refusal(403, "Sec-Fetch-Site says that the request comes from another site.")
