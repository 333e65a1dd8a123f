"""Which protocol a connection speaks: picked here, for new connections and for those of another worker.

A new one speaks HTTP/1.1; a WebSocket handshake may change that (`Http1Wire.websockets`). What a client has agreed
to in a TLS handshake, or says with its first bytes, would be looked at here, too.
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
    """Return the protocol of a new connection, for its transport of the event loop.

    `origin`: whom a PROXY header names as the ends of the connection.
    """
    return http_protocol(wire, origin)


def inline_protocol(wire: Http1Wire) -> HttpConnection:
    """Return the protocol of a connection whose socket the event loop has not got: call `begin_inline`."""
    return HttpConnection(wire, None)


def resumed_protocol(wire: Http1Wire, parcel: Parcel) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes the protocol that goes on with a connection of another worker.

    Raise ParcelError where none can.
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
