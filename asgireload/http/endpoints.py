"""The addresses of both ends of a connection, for ASGI scopes and logs."""

import asyncio
import ssl
from typing import Any

from asgireload.http.tls_extension import describe_tls
from asgireload.ipc.parcels import Facts
from asgireload.net.networks import Client
from asgireload.net.proxy_protocol import Origin


class Endpoints:
    """Both ends of a connection and its scheme, read from the transport once.

    `client` is None for a Unix socket; `server` is then (path, None). `client_label` is "ip:port" for the logs, or
    empty. `ssl_object` is None without TLS. `origin`, from a PROXY header, has the ends of the connection from the
    client to the proxy, which replace those of the transport.
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
        """This transport uses TLS."""
        self.ssl_object: ssl.SSLObject | None = (
            transport.get_extra_info("ssl_object") if self.is_encrypted else None
        )
        self._tls: dict[str, Any] | None = None
        self.is_secure = self.is_encrypted
        """The client uses TLS, with this server or with the proxy that has sent the PROXY header."""
        self.is_trusted_proxy: bool | None = None
        """Whether forwarded headers of the client are trusted; None until `read_forwarded` decides."""
        if origin is not None:
            self.client: Client | None = origin.client
            self.server: tuple[str, int | None] | None = origin.server
            self.is_secure = self.is_encrypted or origin.is_secure
        else:
            self.client = _client_of(transport)
            self.server = _server_of(transport)
            if self.client is None and not _is_local(transport):
                # The client left before its address was read, so it cannot be trusted.
                self.is_trusted_proxy = False
        self._label: str | None = None

    @property
    def client_label(self) -> str:
        """The client as log lines show it; see `label_of`."""
        if self._label is None:
            self._label = label_of(self.client)
        return self._label

    def facts(self) -> Facts:
        """Return the values for another worker that takes over a plaintext connection; see `resumed_endpoints`."""
        # The peer of a Unix socket, whose `server` has no port, has no address.
        is_known = self.client is not None or self.server is None or self.server[1] is None
        return Facts(self.client, self.server, self.is_secure, is_known)

    @property
    def tls(self) -> dict[str, Any] | None:
        """The value of the ASGI extension `tls`, made once for all scopes; None without TLS."""
        if self._tls is None and self.ssl_object is not None:
            self._tls = describe_tls(self.ssl_object)
        return self._tls


def resumed_endpoints(transport: asyncio.BaseTransport, facts: Facts) -> Endpoints:
    """Return the ends of a plaintext connection from the `facts` of the worker that has handed it over."""
    server = facts.server
    endpoints = Endpoints(transport, Origin(facts.client, server or ("", None), facts.is_secure))
    endpoints.server = server
    if not facts.is_peer_known:
        endpoints.is_trusted_proxy = False
    return endpoints


def label_of(client: Client | None) -> str:
    """Return "ip:port" of a client for log lines; an empty string for None (a Unix socket)."""
    return f"{client[0]}:{client[1]}" if client else ""


# The address of a Unix socket is a path, str, or bytes for an abstract socket; that of the peer is empty.


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
    """Return whether the transport has a Unix socket."""
    return not isinstance(transport.get_extra_info("sockname"), (tuple, list))
