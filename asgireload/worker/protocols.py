"""Choose the protocol of a connection, for new connections and for those taken over from another worker.

A new connection speaks HTTP/1.1; a WebSocket handshake may change that (`Http1Wire.websockets`). A choice by ALPN
in the TLS handshake, or by the client's first bytes, belongs here as well.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from asgireload.errors import ParcelError
from asgireload.http1.connection import (
    HttpConnection,
    http_protocol,
    resumed_http_protocol,
    resumed_stream_protocol,
)
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.parcels import EventStreamParcel, HttpParcel, Parcel, WebSocketParcel
from asgireload.net.proxy_protocol import Origin


def new_protocol(wire: Http1Wire, origin: Origin | None = None) -> asyncio.BaseProtocol:
    """Return the protocol of a new connection, to be given to the event loop with its socket.

    `origin` is the two ends of the connection that a PROXY header names; None without a PROXY header.
    """
    return http_protocol(wire, origin)


def inline_protocol(wire: Http1Wire) -> HttpConnection:
    """Return the protocol of a connection that is served inline. The caller calls its `begin_inline`."""
    return HttpConnection(wire, None)


def resumed_protocol(wire: Http1Wire, parcel: Parcel) -> Callable[[], asyncio.BaseProtocol]:
    """Return the factory of the protocol that continues a connection of another worker.

    Raise ParcelError when this worker cannot continue it.
    """
    match parcel:
        case HttpParcel():
            return partial(resumed_http_protocol, wire, parcel)
        case EventStreamParcel():
            return partial(resumed_stream_protocol, wire, parcel)
        case WebSocketParcel():
            if wire.websockets is None:
                raise ParcelError("WebSockets are switched off here")
            return wire.websockets.resumed_protocol(wire, parcel)
