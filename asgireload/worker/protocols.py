"""Which protocol a connection speaks: picked here, for new connections and for those of another worker.

A new one speaks HTTP/1.1; a WebSocket handshake may change that (`ServingContext.websocket_factory`). What a client
has agreed to in a TLS handshake, or says with its first bytes, would be looked at here, too.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from asgireload.errors import ParcelError
from asgireload.http.context import ServingContext
from asgireload.http1.connection import (
    HttpConnection,
    http_protocol,
    resumed_http_protocol,
    resumed_stream_protocol,
)
from asgireload.ipc.parcels import EventStreamParcel, HttpParcel, Parcel, WebSocketParcel
from asgireload.net.proxy_protocol import Origin
from asgireload.websocket.connection import resumed_websocket_protocol
from asgireload.websocket.handover import Resumption


def new_protocol(context: ServingContext, origin: Origin | None = None) -> asyncio.BaseProtocol:
    """Return the protocol of a new connection, for its transport of the event loop.

    `origin`: whom a PROXY header names as the ends of the connection.
    """
    return http_protocol(context, origin)


def inline_protocol(context: ServingContext) -> HttpConnection:
    """Return the protocol of a connection whose socket the event loop has not got: call `begin_directly`."""
    return HttpConnection(context, None)


def resumed_protocol(context: ServingContext, parcel: Parcel) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes the protocol that goes on with a connection of another worker.

    Raise ParcelError where none can.
    """
    match parcel:
        case HttpParcel():
            return partial(resumed_http_protocol, context, parcel)
        case EventStreamParcel():
            return partial(resumed_stream_protocol, context, parcel)
        case WebSocketParcel():
            if not context.speaks_websocket:
                raise ParcelError("WebSockets are switched off here")
            return partial(resumed_websocket_protocol, context, Resumption(parcel))
