"""Who talks to whom over a connection, as ASGI scopes and the logs want it."""

import asyncio
import ssl
from typing import Any

from asgireload.http.tls_extension import describe_tls


class Endpoints:
    """Both ends of a connection and its scheme, read from the transport once.

    `client` is None for a Unix socket; `server` is then (path, None). `client_label` is "ip:port" for
    the logs. `ssl_object` is None where no TLS is spoken.
    """

    __slots__ = ("_tls", "client", "client_label", "is_secure", "server", "ssl_object")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        own = transport.get_extra_info("sockname")
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        # A Unix socket has a path, str or bytes for an abstract one; the peer's is empty.
        if isinstance(peer, (tuple, list)) and len(peer) >= 2:
            self.client = (str(peer[0]), int(peer[1]))
        if isinstance(own, (tuple, list)) and len(own) >= 2:
            self.server = (str(own[0]), int(own[1]))
        elif own:
            self.server = (
                own.decode(errors="replace") if isinstance(own, bytes) else str(own),
                None,
            )
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        self.ssl_object: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        self._tls: dict[str, Any] | None = None
        self.client_label = f"{self.client[0]}:{self.client[1]}" if self.client else ""

    @property
    def tls(self) -> dict[str, Any] | None:
        """What the ASGI extension `tls` tells, made once for all scopes; None where no TLS is spoken."""
        if self._tls is None and self.ssl_object is not None:
            self._tls = describe_tls(self.ssl_object)
        return self._tls
