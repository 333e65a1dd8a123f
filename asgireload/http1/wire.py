"""The HTTP/1.1 part of one server: the parser, caches of heads, the WebSocket implementation and the scheduler of
writes, which all its connections share.

There is one `Http1Wire` for each `Server`. It closes nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from asgireload.http.endpoints import Endpoints
from asgireload.http.live import LiveConnection
from asgireload.http.request import RequestHead
from asgireload.http.server import Server
from asgireload.http1.head_cache import HeadCache
from asgireload.http1.parsers import fields_parser
from asgireload.http1.write_scheduling import TurnScheduler
from asgireload.http1.writer import PreparedHeads
from asgireload.ipc.parcels import WebSocketParcel

STALE_LINE: Final = (b"asgireload-stale", b"asgireload-stale: 1\r\n")
"""Header of responses in development, while the code that runs is older than the saved files."""


class UpgradedConnection(LiveConnection, Protocol):
    """A `LiveConnection` that has taken over the transport of an HTTP connection.

    The event loop calls it as an asyncio.Protocol.
    """

    def begin(self, data: bytes) -> None:
        """Begin with `data`, the bytes that were received after the request head."""


class UpgradeFactory(Protocol):
    """Makes the connection object that takes over after a WebSocket handshake.

    `http1` does not import the protocols that build on it; the factory is passed to `Http1Wire`.
    """

    def __call__(
        self,
        wire: "Http1Wire",
        transport: asyncio.Transport,
        endpoints: Endpoints,
        head: RequestHead,
        /,
    ) -> UpgradedConnection: ...

    def resumed_protocol(
        self, wire: "Http1Wire", parcel: WebSocketParcel
    ) -> Callable[[], asyncio.BaseProtocol]:
        """Return the protocol factory for the socket of a WebSocket that another worker hands over.

        Raise ParcelError for a WebSocket that cannot continue in this worker.
        """


class Http1Wire:
    """The values that the HTTP/1.1 connections of one server share. Use it on the event loop of `server` only.

    Without `websockets`, a WebSocket handshake is an ordinary request.
    """

    __slots__ = (
        "default_lines",
        "head_cache",
        "parse_fields",
        "prepared_heads",
        "server",
        "turn",
        "websockets",
    )

    def __init__(self, server: Server, websockets: UpgradeFactory | None = None) -> None:
        self.server = server
        self.websockets = websockets
        self.parse_fields = fields_parser(server.settings.parser)
        self.head_cache = HeadCache()
        self.default_lines = tuple(
            (name, name + b": " + value + b"\r\n")
            for name, value in server.settings.default_headers
        )
        """Pairs of a header name and its line, added to responses that lack the header."""
        self.prepared_heads = PreparedHeads(self.default_lines)
        self.turn = TurnScheduler(server.clock.loop, server.clock.now_ns)
        """Decides when the responses of all connections are written."""

    def mark_stale(self) -> None:
        """Add STALE_LINE to each response from now on: newer code has been saved."""
        if STALE_LINE not in self.default_lines:
            self.default_lines = (*self.default_lines, STALE_LINE)
            self.prepared_heads = PreparedHeads(self.default_lines)
