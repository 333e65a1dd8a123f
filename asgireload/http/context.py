"""What every connection of one server shares: settings, application, drain notice, counters.

A `ServingContext` is built once per event loop, by the worker or by the supervisor for its admin
application, and handed to each connection. It accepts nothing and closes nothing by itself: whoever
owns the listeners makes connections, and whoever drains calls `begin_drain()`, `cut()` and `abort()`
on the members of `connections`.
"""

import asyncio
import contextvars
import heapq
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, Literal, Protocol

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, ASGIApp
from asgireload.draining import DrainNotice
from asgireload.http.access_log import AccessLog
from asgireload.http.close_plan import ClosePlan
from asgireload.http.eager_start import FirstSteps
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.late_heads import LateHeads
from asgireload.http.request import RequestHead, RequestLimits
from asgireload.http.request_id import RequestIds
from asgireload.http.timer_wheel import TimerWheel
from asgireload.http1.head_cache import HeadCache
from asgireload.http1.parsers import ParserName, fields_parser
from asgireload.http1.write_scheduling import TurnScheduler
from asgireload.http1.writer import PreparedHeads
from asgireload.ipc.messages import OpenWork
from asgireload.ipc.parcels import Parcel
from asgireload.ipc.scoreboard import Field, Limit, Record

error_logger = logging.getLogger("asgireload.error")

_EXCHANGES: Final = int(Field.EXCHANGES)
_REQUESTS_TOTAL: Final = int(Field.REQUESTS_TOTAL)
_SECOND_NS: Final = 1_000_000_000
ROOM_FRACTION: Final = 64
"""One in so many connections is closed at once when there are too many."""
ROOM_IDLE_SECONDS = 0.5
"""A connection that has waited for less may have its request on the way."""
OVERLOAD_LOG_INTERVAL: Final = 1.0


SessionName = Literal["builtin", "wsproto"]
"""Who reads and writes the frames of a WebSocket; see `websocket/sessions.py`."""

STALE_LINE: Final = (b"asgireload-stale", b"asgireload-stale: 1\r\n")
"""Development: the code that answers is older than what was saved."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)  # each is code to compile at a start
class HttpSettings:
    """The slice of the configuration that connections read. Times are seconds, sizes bytes."""

    parser: ParserName = "builtin"
    root_path: str = ""
    default_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Added to a response that lacks them; names are lowercase. The server header is one of them."""
    date_header: bool = True
    keep_alive_timeout: float = 5.0
    """How long a connection may wait between two requests."""
    head_timeout: float = 15.0
    """How long a client may take over one request head, and over its first byte."""
    body_timeout: float = 60.0
    """How long a client may pause in the middle of a request body."""
    write_timeout: float = 60.0
    """How long a client may read nothing while bytes wait for it."""
    request_timeout: float | None = None
    """How long the application may take from a request's head to the end of its response."""
    request_limits: RequestLimits = field(default_factory=RequestLimits)
    forwarding: Forwarding | None = None
    """Which proxies are believed when they say for whom they ask; None: nobody."""
    host_rules: HostRules | None = None
    """Which Host headers are served; None: any."""
    limit_concurrency: int | None = None
    """Beyond so many connections or exchanges a request is answered with 503."""
    limit_connections: int | None = None
    """From so many connections on, idle ones are closed to make room, and then none accepted."""
    sendfile: bool = False
    """Offer http.response.pathsend and zerocopysend. Frameworks use them as soon as they are offered, and then no
    middleware sees the body of a file."""
    debug_extension: bool = False
    """Offer http.response.debug to applications under test."""
    drain_grace: float = 2.0
    """How long an idle connection still gets an answer after the drain began."""
    websocket: bool = True
    ws_session: SessionName = "builtin"
    """Who reads and writes frames."""
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
    ws_close_window: float = 5.0
    """Over how long a drain spreads the closes of WebSockets, and the ends of event streams, at most."""
    event_stream_handover: bool = True
    """Whether event streams move to the worker that follows."""
    event_stream_notice: float = 10.0
    """How long a drain leaves an event stream that does not move, at most half of its time."""
    ws_handover_timeout: float = 5.0
    """How long an application may take to give its state."""
    ws_handover_max_state: int = 64 * 1024


class LiveConnection(Protocol):
    """What a drain may ask of a connection. Every call returns at once and may be repeated."""

    @property
    def idle_since(self) -> float | None:
        """Since when the connection waits for a request, on the loop's clock; None while it is in use."""

    def make_way(self) -> None:
        """Close an idle connection because there are too many."""

    def hold(self) -> None:
        """Begin no request until `release`, or until it is handed over; `context.is_held` is set."""

    def release(self) -> None:
        """Go on; `context.is_held` is not set any more."""

    def begin_drain(self) -> None:
        """End politely: called once after `context.drain` was set."""

    def cut(self) -> None:
        """The deadline passed: tell the application and the client, and close within about a second. Whoever calls
        cancels the application a moment later (`ServingContext.cancel_background`)."""

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included."""

    def open_work(self, now_ns: int) -> OpenWork:
        """Return what a drain waits for here, for people."""


class Successor(Protocol):
    """The worker that follows this one, to which connections go during a drain. Used on the loop only.

    A handover has two phases, so that nothing is ever served twice. Who offers a connection pauses its
    reading first and then touches nothing, keeping the descriptor, until `settled` is called; the other
    worker says that it takes it before it reads or writes a byte.

    When the successor is gone, `ServingContext.successor` becomes None and every connection's
    `begin_drain()` is called once more: it then ends as it does without one. So it is when another takes the
    place of one that is gone or full.
    """

    @property
    def is_spent(self) -> bool:
        """Whether it takes nothing more, so that another may be named in its place: it is gone, or full."""

    def enlist(self, turn: Callable[[], None]) -> bool:
        """Call `turn` from the loop when there is room for an offer, in the order of enlisting.

        Within `turn` the connection may call `take`, once; it need not. True: that is in the next turn of
        the loop or soon after. It is not called once the successor is gone.
        """

    def take(self, descriptor: int, parcel: Parcel, settled: Callable[[bool], None]) -> bool:
        """Offer a connection; to be called within a turn only.

        False: never (gone, the parcel is too large); keep it. True: `settled` is called
        once, later. With True: the connection is the other's, which has not touched it before; close the
        own descriptor, without shutdown() and without a word. With False: it came back untouched; go on
        with it.
        """


class UpgradedConnection(LiveConnection, Protocol):
    """A `LiveConnection` that has taken over the transport of an HTTP connection. The loop calls it as an
    asyncio.Protocol."""

    def begin(self, data: bytes) -> None:
        """Start, with the bytes that were received behind the request head."""


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
        "_overload_log_at",
        "_overloads",
        "access_log",
        "app",
        "asgi",
        "awaits_successor",
        "background",
        "close_plan",
        "connections",
        "default_lines",
        "drain",
        "first_steps",
        "heads",
        "http_extensions",
        "http_scope",
        "is_held",
        "late_heads",
        "loop",
        "named",
        "now_ns",
        "on_request_limit",
        "on_room",
        "parse_fields",
        "prepared_heads",
        "raw_root_path",
        "record",
        "request_ids",
        "request_limit",
        "settings",
        "speaks_websocket",
        "state",
        "stream_plan",
        "streams_ended",
        "streams_moved",
        "successor",
        "timer_wheel",
        "turn",
        "variables",
        "websocket_factory",
        "websockets_moved",
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
        access_log: AccessLog | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.raw_root_path = settings.root_path.encode()
        """What a path is put behind in scopes: it includes the root path, as the specification asks."""
        self.loop = loop
        self.state = state
        self.record = record if record is not None else Record.detached()
        self.drain = drain if drain is not None else DrainNotice()
        self.request_limit = request_limit
        self.on_request_limit = on_request_limit
        self.websocket_factory = websocket_factory
        self.speaks_websocket = settings.websocket and websocket_factory is not None
        self.connections: set[LiveConnection] = set()
        self.timer_wheel = TimerWheel(loop)
        self.first_steps = FirstSteps(loop)
        self.now_ns: Callable[[], int] = time.monotonic_ns
        """The clock of what is measured, and of the turn. Compiled, an attribute is found at once, and a name of
        another module in a dictionary."""
        self.turn = TurnScheduler(loop, self.now_ns)
        self.late_heads = LateHeads(loop)
        self.background: set[asyncio.Task[None]] = set()
        """Tasks in which applications run, also behind a finished response or for a client that has left."""
        self.access_log = access_log
        self.request_ids = request_ids
        self.default_lines = tuple(
            (name, name + b": " + value + b"\r\n") for name, value in settings.default_headers
        )
        self.prepared_heads = PreparedHeads(self.default_lines)
        self.is_held = False
        """Newer code is on its way: connections begin no request."""
        self._date_line = b""
        self._date_until = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self.http_extensions: dict[str, Any] = {
            "asgireload.drain": self.drain,
            "http.response.early_hint": {},
        }
        """What every scope of HTTP/1.1 offers; each gets a copy."""
        if settings.sendfile:
            self.http_extensions["http.response.pathsend"] = {}
            self.http_extensions["http.response.zerocopysend"] = {}
        if settings.debug_extension:
            self.http_extensions["http.response.debug"] = {}
        self.asgi = {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION}
        self.http_scope: dict[str, Any] = {
            "type": "http",
            "asgi": self.asgi,
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "root_path": settings.root_path,
            "headers": [],
            "client": None,
            "server": None,
            "extensions": self.http_extensions,
        }
        """What `http_scope` makes scopes of."""
        self.heads = HeadCache()
        self.parse_fields = fields_parser(settings.parser)
        self.on_room: Callable[[], None] | None = None
        """Called when a connection has ended; set by whoever waits for room."""
        self.variables = contextvars.copy_context()
        """What tasks that run applications begin with."""
        self.named = 0
        """Connections whose tasks have a name."""
        self.successor: Successor | None = None
        """Set while a drain has a worker to hand connections to."""
        self.awaits_successor = False
        """The one that there was is gone, and perhaps another takes its place."""
        self.close_plan: ClosePlan | None = None
        """Of the WebSockets that a drain closes; made by the first of them."""
        self.stream_plan: ClosePlan | None = None
        """The same of its event streams that do not move."""
        self.streams_moved = 0
        """How many of its event streams another worker goes on with."""
        self.streams_ended = 0
        """How many were ended because the worker leaves."""
        self.websockets_moved = 0
        """How many of them another worker goes on with."""
        self._overloads = 0
        self._overload_log_at = 0.0

    def register(self, connection: LiveConnection, *, is_new: bool = True) -> None:
        """Know a connection until `unregister`. One that is not new came from another worker."""
        self.connections.add(connection)
        self.record.count_connection(is_new=is_new)

    def replace(self, old: LiveConnection, new: LiveConnection) -> None:
        """`new` goes on with the socket of `old`; the counters do not move."""
        self.connections.discard(old)
        self.connections.add(new)

    def unregister(self, connection: LiveConnection) -> None:
        """Forget a connection whose socket is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.record.uncount_connection()
            self._wake_if_idle()
            if self.on_room is not None:
                self.on_room()

    def has_room(self, pending: int = 0) -> bool:
        """Whether another connection may be accepted; closes some idle ones when there are too many.

        `pending` are accepted and not registered yet.
        The ones closed are those that have been idle for longest, several at once, so that a flood
        does not cost a search for each connection.
        """
        limit = self.settings.limit_connections
        if limit is None or len(self.connections) + pending < limit:
            return True
        self.record.count_limit(Limit.CONNECTIONS)
        latest = self.loop.time() - ROOM_IDLE_SECONDS
        idle = [
            (since, id(connection), connection)
            for connection in self.connections
            if (since := connection.idle_since) is not None and since <= latest
        ]
        for _, _, connection in heapq.nsmallest(max(limit // ROOM_FRACTION, 1), idle):
            connection.make_way()
        return bool(idle)

    def has_space(self, pending: int) -> bool:
        """Whether one more connection fits beside those here and `pending` ones; closes none for it."""
        limit = self.settings.limit_connections
        return limit is None or len(self.connections) + pending < limit

    def admits(self) -> bool:
        """Whether a request may go to the application; False when `limit_concurrency` is exceeded."""
        limit = self.settings.limit_concurrency
        if limit is None or (
            len(self.connections) <= limit and self.record.values[_EXCHANGES] <= limit
        ):
            return True
        self.record.count_limit(Limit.CONCURRENCY)
        self._overloads += 1
        now = self.loop.time()
        if now >= self._overload_log_at:
            # An overload is no moment for a line about each request.
            error_logger.warning(
                "Exceeded concurrency limit. %d requests were answered with 503", self._overloads
            )
            self._overloads = 0
            self._overload_log_at = now + OVERLOAD_LOG_INTERVAL
        return False

    def mark_stale(self) -> None:
        """Say with each response from now on that newer code has been saved."""
        if STALE_LINE not in self.default_lines:
            self.default_lines = (*self.default_lines, STALE_LINE)
            self.prepared_heads = PreparedHeads(self.default_lines)

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
        left = [task for task in self.background if not task.cancelling()]
        for task in left:
            # One that is cancelled before its first step never comes to the end of what it runs.
            task.add_done_callback(self.remove_background)
            task.cancel()
        return len(left)

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
        record = self.record
        record.requests += 1
        if self.request_limit is not None and record.values[_REQUESTS_TOTAL] >= self.request_limit:
            self.request_limit = None
            if self.on_request_limit is not None:
                self.on_request_limit()

    def date_line(self, now_ns: int) -> bytes:
        """Return the Date header line, terminated, or b"" when switched off.

        It is formatted at most once a second of `now_ns`, which the caller has asked for already: an idle
        server has no timer to wake for.
        """
        if now_ns >= self._date_until:
            if self.settings.date_header:
                wall = time.time()
                self._date_line = b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
                self._date_until = now_ns + int((1.0 - wall % 1.0) * _SECOND_NS)
            else:
                self._date_until = 1 << 63
        return self._date_line
