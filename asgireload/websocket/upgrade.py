"""Make WebSocket connections: after an HTTP handshake, or for a socket that another worker hands over."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import cast

from asgireload.http.endpoints import Endpoints, resumed_endpoints
from asgireload.http.request import RequestHead
from asgireload.http1.resuming import Resuming
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.parcels import WebSocketParcel
from asgireload.websocket.connection import WebSocketConnection
from asgireload.websocket.handover import Resumption
from asgireload.websocket.settings import WebSocketSettings


class WebSocketUpgrade:
    """The `UpgradeFactory` for the WebSockets of one server."""

    __slots__ = ("settings",)

    def __init__(self, settings: WebSocketSettings) -> None:
        self.settings = settings

    def __call__(
        self, wire: Http1Wire, transport: asyncio.Transport, endpoints: Endpoints, head: RequestHead
    ) -> WebSocketConnection:
        """Return a new connection on `transport`, which the caller starts by `begin` or `resume`."""
        return WebSocketConnection(wire, self.settings, transport, endpoints, head)

    def resumed_protocol(
        self, wire: Http1Wire, parcel: WebSocketParcel
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return the factory of the protocol that continues the connection in `parcel`. Raise ParcelError."""
        return partial(self._resume, wire, Resumption(parcel))

    def _resume(self, wire: Http1Wire, resumption: Resumption) -> asyncio.BaseProtocol:
        def begin(transport: asyncio.Transport) -> None:
            endpoints = resumed_endpoints(transport, resumption.facts)
            connection = self(wire, transport, endpoints, resumption.head)
            transport.set_protocol(cast("asyncio.BaseProtocol", connection))
            connection.resume(resumption)

        return Resuming(wire.server.clock.loop, begin)
