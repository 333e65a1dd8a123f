"""Who talks to whom over a connection, as ASGI scopes and the logs want it."""

import asyncio
import ssl
from typing import Any

from asgireload.http.tls_extension import describe_tls
from asgireload.ipc.parcels import Facts
from asgireload.net.networks import Client
from asgireload.net.proxy_protocol import Origin


class Endpoints:
    """Both ends of a connection and its scheme, read from the transport once.

    `client` is None for a Unix socket; `server` is then (path, None). `client_label` is "ip:port" for
    the logs. `ssl_object` is None where no TLS is spoken. An `origin`, from a PROXY header, says who is at
    the ends of the client's own connection, of which the transport is only the last leg.
    """

    __slots__ = (
        "_label",
        "_tls",
        "client",
        "is_encrypted",
        "is_secure",
        "is_trusted_proxy",
        "server",
        "ssl_object",
    )

    def __init__(self, transport: asyncio.BaseTransport, origin: Origin | None = None) -> None:
        self.is_encrypted = transport.get_extra_info("sslcontext") is not None
        """This transport speaks TLS."""
        self.ssl_object: ssl.SSLObject | None = (
            transport.get_extra_info("ssl_object") if self.is_encrypted else None
        )
        self._tls: dict[str, Any] | None = None
        self.is_secure = self.is_encrypted
        """The client speaks TLS, if not with us then with the proxy."""
        self.is_trusted_proxy: bool | None = None
        """Whether the client's forwarded headers are believed; None until that was asked once."""
        if origin is not None:
            self.client: Client | None = origin.client
            self.server: tuple[str, int | None] | None = origin.server
            self.is_secure = self.is_encrypted or origin.is_secure
        else:
            self.client = _client_of(transport)
            self.server = _server_of(transport)
            if self.client is None and not _is_local(transport):
                # It has left before it was asked for its address: nobody that anything is known of.
                self.is_trusted_proxy = False
        self._label: str | None = None

    @property
    def client_label(self) -> str:
        if self._label is None:
            self._label = label_of(self.client)
        return self._label

    def facts(self) -> Facts:
        """Return what another worker has to know of a plaintext connection that it takes over."""
        # A Unix socket, which has no port, has a peer without an address.
        is_known = self.client is not None or self.server is None or self.server[1] is None
        return Facts(self.client, self.server, self.is_secure, is_known)

    @property
    def tls(self) -> dict[str, Any] | None:
        """What the ASGI extension `tls` tells, made once for all scopes; None where no TLS is spoken."""
        if self._tls is None and self.ssl_object is not None:
            self._tls = describe_tls(self.ssl_object)
        return self._tls


def resumed_endpoints(transport: asyncio.BaseTransport, facts: Facts) -> Endpoints:
    """Return the ends of a plaintext connection as the worker knew them that handed it over."""
    server = facts.server
    endpoints = Endpoints(transport, Origin(facts.client, server or ("", None), facts.is_secure))
    endpoints.server = server
    if not facts.is_peer_known:
        endpoints.is_trusted_proxy = False
    return endpoints


def label_of(client: Client | None) -> str:
    """Return the client of a connection or scope as log lines show it; empty for a Unix socket's."""
    return f"{client[0]}:{client[1]}" if client else ""


# A Unix socket has a path, str or bytes for an abstract one; the peer's is empty.


def _client_of(transport: asyncio.BaseTransport) -> Client | None:
    peer = transport.get_extra_info("peername")
    if isinstance(peer, (tuple, list)) and len(peer) >= 2:
        return str(peer[0]), int(peer[1])
    return None


def _server_of(transport: asyncio.BaseTransport) -> tuple[str, int | None] | None:
    own = transport.get_extra_info("sockname")
    if isinstance(own, (tuple, list)) and len(own) >= 2:
        return str(own[0]), int(own[1])
    if own:
        return own.decode(errors="replace") if isinstance(own, bytes) else str(own), None
    return None


def _is_local(transport: asyncio.BaseTransport) -> bool:
    """Whether this is a Unix socket."""
    return not isinstance(transport.get_extra_info("sockname"), (tuple, list))
