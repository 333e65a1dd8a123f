"""What every connection of one server shares: settings, application, drain notice, counters.

A `ServingContext` is built once per event loop, by the worker or by the supervisor for its admin
application, and handed to each connection. It accepts nothing and closes nothing by itself: whoever
owns the listeners makes connections, and whoever drains calls `begin_drain()`, `cut()` and `abort()`
on the members of `connections`.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol

from asgireload.asgi import ASGIApp
from asgireload.draining import DrainNotice
from asgireload.http.endpoints import Endpoints
from asgireload.http.parser import ParserName, RequestHead
from asgireload.ipc.scoreboard import Field, Record

access_logger = logging.getLogger("asgireload.access")
error_logger = logging.getLogger("asgireload.error")

_CONNECTIONS = int(Field.CONNECTIONS)
_CONNECTIONS_TOTAL = int(Field.CONNECTIONS_TOTAL)
_REQUESTS_TOTAL = int(Field.REQUESTS_TOTAL)
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """The slice of the configuration that connections read. Times are seconds, sizes bytes."""

    parser: ParserName = "h11"
    root_path: str = ""
    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Added to a response that lacks them; names are lowercase. The server header is one of them."""
    date_header: bool = True
    keep_alive_timeout: float = 5.0
    """How long a connection may wait between two requests."""
    head_timeout: float = 30.0
    """How long a client may take over one request head, and over its first byte."""
    head_bytes_limit: int = 64 * 1024
    """Largest request line with headers: room for several 8 KiB cookies, little for an attacker."""
    access_log: bool = True
    limit_concurrency: int | None = None
    """Beyond so many connections or exchanges a request is answered with 503."""
    drain_grace: float = 2.0
    """How long an idle connection still gets an answer after the drain began."""
    websocket: bool = True
    ws_max_size: int = 16 * 1024 * 1024
    ws_max_frame_size: int | None = None
    """None: a frame may be as large as a message."""
    ws_max_fragments: int = 1024
    ws_max_inflation_ratio: int | None = 200
    ws_max_queue: int = 32
    """Messages held for an application that does not receive; no more is decoded or read then."""
    ws_ping_interval: float | None = 20.0
    ws_ping_timeout: float | None = 20.0
    ws_per_message_deflate: bool = True
    ws_close_timeout: float = 2.0
    """How long the peer's answer to a close frame is awaited."""
    write_timeout: float = 60.0
    """How long a client may take nothing of what waits for it."""


class LiveConnection(Protocol):
    """What a drain may ask of a connection. Every call returns at once and may be repeated."""

    def begin_drain(self) -> None:
        """End politely: called once after `context.drain` was set."""

    def cut(self) -> None:
        """The deadline passed: cancel the application, tell the client, close within about a second."""

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included."""


class UpgradedConnection(asyncio.Protocol, ABC):
    """A `LiveConnection` that has taken over the transport of an HTTP connection."""

    @abstractmethod
    def begin(self, data: bytes) -> None:
        """Start, with the bytes that were received behind the request head."""

    @abstractmethod
    def begin_drain(self) -> None: ...

    @abstractmethod
    def cut(self) -> None: ...

    @abstractmethod
    def abort(self) -> None: ...


class UpgradeFactory(Protocol):
    """Makes what takes over a connection.

    HTTP does not import the protocols that build on it, so whoever joins the parts hands this in.
    """

    def __call__(
        self,
        context: "ServingContext",
        transport: asyncio.Transport,
        endpoints: Endpoints,
        head: RequestHead,
        /,
    ) -> UpgradedConnection: ...


class ServingContext:
    """The one value connections receive. Use it on its own event loop only.

    `state` is the lifespan state; each scope gets a shallow copy, and none at all when it is None
    (the application has no lifespan). `on_request_limit` is called once, when the record has counted
    `request_limit` requests. Without `websocket_factory` (`WebSocketConnection`), or with
    `settings.websocket` off, a WebSocket handshake is an ordinary request.
    """

    __slots__ = (
        "_date_line",
        "_date_until",
        "_idle_waiters",
        "app",
        "background",
        "connections",
        "default_lines",
        "drain",
        "log_access",
        "loop",
        "on_request_limit",
        "record",
        "request_limit",
        "settings",
        "speaks_websocket",
        "state",
        "websocket_factory",
    )

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        loop: asyncio.AbstractEventLoop,
        *,
        state: dict[str, Any] | None = None,
        record: Record | None = None,
        drain: DrainNotice | None = None,
        request_limit: int | None = None,
        on_request_limit: Callable[[], None] | None = None,
        websocket_factory: UpgradeFactory | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.loop = loop
        self.state = state
        self.record = record if record is not None else Record.detached()
        self.drain = drain if drain is not None else DrainNotice()
        self.request_limit = request_limit
        self.on_request_limit = on_request_limit
        self.websocket_factory = websocket_factory
        self.speaks_websocket = settings.websocket and websocket_factory is not None
        self.connections: set[LiveConnection] = set()
        self.background: set[asyncio.Task[None]] = set()
        """Applications that still run although their response is complete or their client has left."""
        self.log_access = settings.access_log and access_logger.isEnabledFor(logging.INFO)
        self.default_lines = tuple(
            (name, name + b": " + value + b"\r\n") for name, value in settings.default_headers
        )
        self._date_line = b""
        self._date_until = 0
        self._idle_waiters: list[asyncio.Future[None]] = []

    def register(self, connection: LiveConnection) -> None:
        self.connections.add(connection)
        values = self.record.values
        values[_CONNECTIONS] += 1
        values[_CONNECTIONS_TOTAL] += 1

    def replace(self, old: LiveConnection, new: LiveConnection) -> None:
        """`new` goes on with the socket of `old`; the counters do not move."""
        self.connections.discard(old)
        self.connections.add(new)

    def unregister(self, connection: LiveConnection) -> None:
        """Forget a connection whose socket is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.record.values[_CONNECTIONS] -= 1
            self._wake_if_idle()

    def add_background(self, task: "asyncio.Task[None]") -> None:
        """Keep a task alive, and the drain waiting for it, until it ends."""
        self.background.add(task)
        # Its own `finally` is not enough: a task cancelled before its first step never runs it.
        task.add_done_callback(self.remove_background)

    def remove_background(self, task: "asyncio.Task[None]") -> None:
        self.background.discard(task)
        self._wake_if_idle()

    def cancel_background(self) -> int:
        """Cancel what still runs behind finished responses, at the drain deadline; return how many."""
        for task in self.background:
            task.cancel()
        return len(self.background)

    @property
    def is_idle(self) -> bool:
        """True when no connection is open and no application runs."""
        return not self.connections and not self.background

    async def wait_idle(self) -> None:
        """Return once `is_idle`; at once if it is so now. Has no deadline of its own; cancel freely."""
        while not self.is_idle:
            waiter = self.loop.create_future()
            self._idle_waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._idle_waiters:
                    self._idle_waiters.remove(waiter)

    def _wake_if_idle(self) -> None:
        if self._idle_waiters and self.is_idle:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def count_request(self) -> None:
        """Count a request handed to the application and tell the worker when its limit is reached."""
        values = self.record.values
        values[_REQUESTS_TOTAL] += 1
        if self.request_limit is not None and values[_REQUESTS_TOTAL] >= self.request_limit:
            self.request_limit = None
            if self.on_request_limit is not None:
                self.on_request_limit()

    def date_line(self, now_ns: int) -> bytes:
        """Return the Date header line, terminated, or b"" when switched off.

        It is formatted at most once a second of `now_ns`, a `time.monotonic_ns()` the caller has
        taken already: an idle server has no timer to wake for.
        """
        if now_ns >= self._date_until:
            if self.settings.date_header:
                wall = time.time()
                self._date_line = b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
                self._date_until = now_ns + int((1.0 - wall % 1.0) * _SECOND_NS)
            else:
                self._date_until = 1 << 63
        return self._date_line
