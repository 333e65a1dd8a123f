"""What is open now in one server: connections, the calls of its application, and their counts.

`Live` accepts nothing and closes nothing by itself: whoever owns the listeners makes connections, and whoever
drains calls `begin_drain()`, `cut()` and `abort()` on the members of `connections`.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Final, Protocol

from asgireload.http.settings import HttpSettings
from asgireload.ipc.messages import OpenWork
from asgireload.ipc.scoreboard import Field, Limit, Record

_logger = logging.getLogger("asgireload.error")

_EXCHANGES: Final = int(Field.EXCHANGES)
ROOM_FRACTION: Final = 64
"""One in so many connections is closed at once when there are too many."""
ROOM_IDLE_SECONDS = 0.5
"""A connection that has waited for less may have its request on the way."""
OVERLOAD_LOG_INTERVAL: Final = 1.0


class LiveConnection(Protocol):
    """What a drain may ask of a connection. Every call returns at once and may be repeated."""

    @property
    def idle_since(self) -> float | None:
        """Since when the connection waits for a request, on the loop's clock; None while it is in use."""

    def close_idle(self) -> None:
        """Close an idle connection because there are too many."""

    def hold(self) -> None:
        """Begin no request until `release`, or until it is handed over; `Live.is_held` is set."""

    def release(self) -> None:
        """Go on; `Live.is_held` is not set any more."""

    def begin_drain(self) -> None:
        """End politely: called once after the drain notice was set, and again whenever another worker follows, or
        none does any more."""

    def cut(self) -> None:
        """The deadline passed: tell the application and the client, and close within about a second. Whoever calls
        cancels the application a moment later (`Live.cancel_background`)."""

    def abort(self) -> None:
        """Drop the connection now, unsent bytes included."""

    def open_work(self, now_ns: int) -> OpenWork:
        """Return what a drain waits for here, for people."""


class Live:
    """The open connections and running applications of one server. Use it on its own event loop only.

    Counts go to `record`, which other processes read; without one they stay here.
    """

    __slots__ = (
        "_idle_waiters",
        "_limit_concurrency",
        "_limit_connections",
        "_loop",
        "_overload_log_at",
        "_overloads",
        "background",
        "connections",
        "is_held",
        "named",
        "on_room",
        "record",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: HttpSettings,
        record: Record | None = None,
    ) -> None:
        self._loop = loop
        self._limit_connections = settings.limit_connections
        self._limit_concurrency = settings.limit_concurrency
        self.record = record if record is not None else Record.detached()
        self.connections: set[LiveConnection] = set()
        self.background: set[asyncio.Task[None]] = set()
        """Tasks in which applications run, also behind a finished response or for a client that has left."""
        self.is_held = False
        """Newer code is on its way: connections begin no request."""
        self.on_room: Callable[[], None] | None = None
        """Called when a connection has ended; set by whoever waits for room."""
        self.named = 0
        """Connections whose tasks have a name."""
        self._idle_waiters: list[asyncio.Future[None]] = []
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
        limit = self._limit_connections
        if limit is None or len(self.connections) + pending < limit:
            return True
        self.record.count_limit(Limit.CONNECTIONS)
        latest = self._loop.time() - ROOM_IDLE_SECONDS
        idle = [
            (since, id(connection), connection)
            for connection in self.connections
            if (since := connection.idle_since) is not None and since <= latest
        ]
        for _, _, connection in heapq.nsmallest(max(limit // ROOM_FRACTION, 1), idle):
            connection.close_idle()
        return bool(idle)

    def has_space(self, pending: int) -> bool:
        """Whether one more connection fits beside those here and `pending` ones; closes none for it."""
        limit = self._limit_connections
        return limit is None or len(self.connections) + pending < limit

    def admits(self) -> bool:
        """Whether a request may go to the application; False when `limit_concurrency` is exceeded."""
        limit = self._limit_concurrency
        if limit is None or (
            len(self.connections) <= limit and self.record.values[_EXCHANGES] <= limit
        ):
            return True
        self.record.count_limit(Limit.CONCURRENCY)
        self._overloads += 1
        now = self._loop.time()
        if now >= self._overload_log_at:
            # An overload is no moment for a line about each request.
            _logger.warning(
                "Exceeded concurrency limit. %d requests were answered with 503", self._overloads
            )
            self._overloads = 0
            self._overload_log_at = now + OVERLOAD_LOG_INTERVAL
        return False

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
            waiter = self._loop.create_future()
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
