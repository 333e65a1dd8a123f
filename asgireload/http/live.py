"""The open connections of one server, the running calls of its application, and their counts.

`Live` accepts no connection. It closes idle connections when there are too many (`has_room`), and no others: a
drain calls `begin_drain()`, `cut()` and `abort()` on the members of `connections`.
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
"""When there are too many connections, one in this many is closed at once."""
ROOM_IDLE_SECONDS = 0.5
"""A connection is closed for others only if it has been idle for longer: its request may be on its way."""
OVERLOAD_LOG_INTERVAL: Final = 1.0
"""Least seconds between two warnings that `limit_concurrency` is exceeded."""


class LiveConnection(Protocol):
    """The interface of a connection to `Live` and to a drain. Every method returns at once and may be repeated."""

    @property
    def idle_since(self) -> float | None:
        """Time of the loop's clock since when the connection waits for a request; None while it is in use."""

    def close_idle(self) -> None:
        """Close an idle connection because there are too many."""

    def hold(self) -> None:
        """Begin no request until `release`, or until the connection is handed over. `Live.is_held` is set first."""

    def release(self) -> None:
        """Serve requests again after `hold`. `Live.is_held` is cleared first."""

    def begin_drain(self) -> None:
        """Begin to hand the connection over, or to end it without losing a request.

        Called once after the drain notice was set, and again whenever `DrainState.successor` changes.
        """

    def cut(self) -> None:
        """End the connection at the deadline of the drain.

        The application and the client are told, and the connection closes within about a second. The caller cancels
        the application a moment later (`Live.cancel_background`).
        """

    def abort(self) -> None:
        """Drop the connection now. Unsent bytes are lost."""

    def open_work(self, now_ns: int) -> OpenWork:
        """Return a description of the work that a drain waits for on this connection, for logs and status pages.

        `now_ns`: the present time of `Clock.now_ns`.
        """


class Live:
    """The open connections and running applications of one server. Use it on `loop` only.

    Counts are written to `record`, in the scoreboard that other processes read. If it is None, a record in private
    memory is used.
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
        """Tasks in which applications run, also after the response is complete or the client has left."""
        self.is_held = False
        """Connections begin no request, because newer code is about to be loaded."""
        self.on_room: Callable[[], None] | None = None
        """Called when a connection has ended, for an acceptor that waits until `has_room`."""
        self.named = 0
        """Number of connections whose tasks were given a name."""
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._overloads = 0
        self._overload_log_at = 0.0

    def register(self, connection: LiveConnection, *, is_new: bool = True) -> None:
        """Add a connection until `unregister`. `is_new` is False for a connection from another worker."""
        self.connections.add(connection)
        self.record.count_connection(is_new=is_new)

    def replace(self, old: LiveConnection, new: LiveConnection) -> None:
        """Put `new` in the place of `old`, whose socket it has taken over. The counters stay as they are."""
        self.connections.discard(old)
        self.connections.add(new)

    def unregister(self, connection: LiveConnection) -> None:
        """Remove a connection whose socket is closed. Do nothing if it is not registered."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.record.uncount_connection()
            self._wake_if_idle()
            if self.on_room is not None:
                self.on_room()

    def has_room(self, pending: int = 0) -> bool:
        """Return whether another connection may be accepted; close some idle ones when there are too many.

        `pending`: the number of connections that are accepted and not registered yet. The connections that have
        been idle for longest are closed, several at once, so that a flood does not cost a search for each
        connection.
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
        """Return whether one more connection is below `limit_connections`, with `pending` as in `has_room`.

        No connection is closed for it.
        """
        limit = self._limit_connections
        return limit is None or len(self.connections) + pending < limit

    def admits(self) -> bool:
        """Return whether a request may be passed to the application; False if `limit_concurrency` is exceeded."""
        limit = self._limit_concurrency
        if limit is None or (
            len(self.connections) <= limit and self.record.values[_EXCHANGES] <= limit
        ):
            return True
        self.record.count_limit(Limit.CONCURRENCY)
        self._overloads += 1
        now = self._loop.time()
        if now >= self._overload_log_at:
            # Not for each request: logging would add to the overload.
            _logger.warning(
                "Exceeded concurrency limit. %d requests were answered with 503", self._overloads
            )
            self._overloads = 0
            self._overload_log_at = now + OVERLOAD_LOG_INTERVAL
        return False

    def add_background(self, task: "asyncio.Task[None]") -> None:
        """Keep a reference to a task until it ends. A drain waits for it."""
        self.background.add(task)
        # The task's own `finally` is not enough: a task cancelled before its first step never runs it.
        task.add_done_callback(self.remove_background)

    def remove_background(self, task: "asyncio.Task[None]") -> None:
        """Forget a task that has ended. May be called more than once."""
        self.background.discard(task)
        self._wake_if_idle()

    def cancel_background(self) -> int:
        """Cancel the applications that still run at the deadline of a drain; return the number of tasks."""
        left = [task for task in self.background if not task.cancelling()]
        for task in left:
            # A task that is cancelled before its first step never runs the `finally` of `running.run`.
            task.add_done_callback(self.remove_background)
            task.cancel()
        return len(left)

    @property
    def is_idle(self) -> bool:
        """True when no connection is open and no application runs."""
        return not self.connections and not self.background

    async def wait_idle(self) -> None:
        """Return when `is_idle` is true. There is no timeout; the call may be cancelled."""
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
