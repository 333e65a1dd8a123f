"""Who may use the admin surface: pure rules over the method, the path and the headers of a request.

A Unix socket is guarded by the permissions of its file, so whoever could open it has full rights.
Over TCP three kinds of stranger are kept out, and each rule below names the one it is for:

- a web page whose host name was pointed at 127.0.0.1 after it was loaded (DNS rebinding);
- a web page that sends a request across sites from a browser on this machine (request forgery);
- anyone on the network, when the address is not loopback: a bearer token is required (RFC 6750).

Reading the token file is left to `token_file`, answering a refusal to `api`.
"""

import hmac
import re
from collections.abc import Iterable

import msgspec

from asgireload.errors import ConfigError
from asgireload.net.addresses import is_loopback

PROBE_PATHS = frozenset({"/live", "/ready"})
"""Open without a token: orchestrators' probes cannot carry one, and the answers tell no secret."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
"""A Host header: a name or bracketed IPv6 address, perhaps with a port (RFC 9110 section 7.2)."""

Headers = Iterable[tuple[bytes, bytes]]
"""As in an ASGI scope: names in lower case."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is turned away; `detail` is shown to the client and never repeats a token."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def check_binding(host: str, token: str | None) -> None:
    """Raise ConfigError when the admin surface would be open to the network without a token."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"admin_host {host!r} is not a loopback address, so the admin port needs a token: "
            "give --admin-token-file, or use --admin-host 127.0.0.1"
        )


class AccessPolicy(msgspec.Struct, frozen=True):
    """The rules of one admin listener. Made by `for_unix` or `for_tcp`."""

    host: str | None
    """The address the TCP listener was asked to bind; None for a Unix socket."""
    token: str | None = None

    @classmethod
    def for_unix(cls) -> "AccessPolicy":
        return cls(host=None)

    @classmethod
    def for_tcp(cls, host: str, token: str | None) -> "AccessPolicy":
        """Raise ConfigError when `host` is not loopback and there is no token."""
        check_binding(host, token)
        return cls(host=host, token=token)

    def judge(self, method: str, path: str, headers: Headers) -> Refusal | None:
        """Return why the request is refused, or None when it may go on."""
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
        """Against DNS rebinding: the browser still sends the name under which it knows the page.

        A listener that is not on loopback is reached under names that we cannot know (a service name,
        a proxy's). There the token does this job: a foreign page does not have it, and a browser never
        adds it by itself.
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
    """The header values that the rules look at; a repeated header is kept as often as it came."""

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
    """The name in the only Host header, in lower case and without brackets and port."""
    if len(hosts) != 1:
        return None
    match = _HOST.fullmatch(hosts[0])
    return match["name"].strip("[]").lower() if match else None


def _judge_origin(origins: list[str], hosts: list[str]) -> Refusal | None:
    """Against request forgery: a page may talk only to the listener it came from.

    `Origin: null` (sandboxed frames, files, redirects across sites) matches no host. Both headers leave
    out the default port, so they can be compared as text (RFC 6454 section 6.2).
    """
    for origin in origins:
        scheme, separator, authority = origin.partition("://")
        is_web = bool(separator) and scheme.lower() in {"http", "https"}
        if not is_web or [authority.lower()] != [host.lower() for host in hosts]:
            return Refusal(403, "The Origin header does not match Host: cross-site use is refused.")
    return None


def _judge_fetch_site(method: str, fetch_sites: list[str]) -> Refusal | None:
    """Against request forgery from browsers that tell where a request comes from (Fetch Metadata).

    Reading is left alone: a link to the status page should work from anywhere, and without CORS headers
    a foreign page cannot see the answer.
    """
    if method in {"GET", "HEAD"}:
        return None
    if all(site in {"same-origin", "none"} for site in fetch_sites):
        return None
    return Refusal(403, "Sec-Fetch-Site says that the request comes from another site.")
