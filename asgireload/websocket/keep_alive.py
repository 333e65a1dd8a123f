"""Send pings on one WebSocket, and end it when the client does not answer them (RFC 6455 section 5.5.2)."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from asgireload.http.clock import Clock
from asgireload.websocket.sessions import Session
from asgireload.websocket.settings import WebSocketSettings

SECOND_LOOK_SECONDS: Final = 0.01
"""Seconds in which the loop polls its sockets at least once before a pong counts as missing."""


class PingedConnection(Protocol):
    """The interface that `KeepAlive` uses of its connection."""

    def is_write_paused(self) -> bool:
        """Return whether writing is paused because the client reads too slowly."""

    def is_reading_paused(self) -> bool:
        """Return whether reading is paused, so that a pong cannot be received."""

    def write(self, data: bytes) -> None:
        """Write a ping frame."""

    def note_ping_timeout(self) -> None:
        """End the connection, because no pong has come in time."""


class KeepAlive:
    """Sends a ping every `ping_interval` seconds, and waits `ping_timeout` seconds for its pong.

    Active from `begin` until `stop`. A setting of None switches pings, or the timeout, off.
    """

    __slots__ = (
        "_clock",
        "_connection",
        "_session",
        "_settings",
        "_timer",
        "ping_at",
        "was_readable",
    )

    def __init__(
        self,
        clock: Clock,
        settings: WebSocketSettings,
        session: Session,
        connection: PingedConnection,
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._connection = connection
        self._session = session
        self._timer: asyncio.TimerHandle | None = None
        self.ping_at: float | None = None
        """The loop time at which the timer fires, or would have without `stop`. Kept here, because the timers of
        some loops do not expose it."""
        self.was_readable = False
        """The socket was read without a pause since the last ping. The connection sets this to False when it pauses
        reading."""

    def begin(self, ping_at: float | None) -> None:
        """Begin to send pings. `ping_at` is the `KeepAlive.ping_at` of the worker that handed the connection over,
        or None for a new connection."""
        if ping_at is None or self._settings.ping_interval is None:
            self._arm()
        else:
            self._set_timer(
                max(ping_at, self._clock.loop.time()),
                self._look_for_pong if self._session.is_pong_awaited else self._send_ping,
            )

    def stop(self) -> None:
        """Send no more pings. `ping_at` keeps its value. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        interval = self._settings.ping_interval
        if interval is not None:
            self._set_timer(self._clock.loop.time() + interval, self._send_ping)

    def _set_timer(self, at: float, callback: Callable[[], None]) -> None:
        self.ping_at = at
        self._timer = self._clock.loop.call_at(at, callback)

    def _send_ping(self) -> None:
        self._timer = None
        if self._connection.is_write_paused():
            # The stall watch handles a client that does not read.
            self._arm()
            return
        self.was_readable = not self._connection.is_reading_paused()
        self._connection.write(self._session.ping())
        timeout = self._settings.ping_timeout
        if timeout is None:
            self._arm()
        else:
            self._set_timer(self._clock.loop.time() + timeout, self._look_for_pong)

    def _look_for_pong(self) -> None:
        # After the loop was blocked for long, uvloop runs timers before it polls sockets.
        self._timer = self._clock.loop.call_later(SECOND_LOOK_SECONDS, self._check_pong)

    def _check_pong(self) -> None:
        self._timer = None
        if not self._session.is_pong_awaited or not self.was_readable:
            # Reading was paused since the ping, so a pong may be unread. The ping still makes the kernel notice a
            # peer that is gone.
            self._arm()
        else:
            self._connection.note_ping_timeout()
