"""HTTP/1.1 of one server: how its heads are read and written, what takes a connection over, and when it writes.

One `Http1Wire` for each `Server`. It closes nothing.
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
"""Development: the code that answers is older than what was saved."""


class UpgradedConnection(LiveConnection, Protocol):
    """A `LiveConnection` that has taken over the transport of an HTTP connection. The loop calls it as an
    asyncio.Protocol."""

    def begin(self, data: bytes) -> None:
        """Start, with the bytes that were received behind the request head."""


class UpgradeFactory(Protocol):
    """Makes what takes over a connection after a WebSocket handshake.

    HTTP does not import the protocols that build on it, so whoever joins the parts hands this in.
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
        """Return what makes the protocol for a socket that another worker hands over. Raise ParcelError for what
        cannot go on here."""


class Http1Wire:
    """What the HTTP/1.1 connections of one server share. Use it on the loop of `server` only.

    Without `websockets` a WebSocket handshake is an ordinary request.
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
        """Header lines of a response that lacks them, each behind its name."""
        self.prepared_heads = PreparedHeads(self.default_lines)
        self.turn = TurnScheduler(server.clock.loop, server.clock.now_ns)
        """Decides when the responses of all connections are written."""

    def mark_stale(self) -> None:
        """Say with each response from now on that newer code has been saved."""
        if STALE_LINE not in self.default_lines:
            self.default_lines = (*self.default_lines, STALE_LINE)
            self.prepared_heads = PreparedHeads(self.default_lines)
