"""Pings of one WebSocket, and what becomes of a client that does not answer them (RFC 6455 section 5.5.2)."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from asgireload.http.clock import Clock
from asgireload.websocket.sessions import Session
from asgireload.websocket.settings import WebSocketSettings

SECOND_LOOK_SECONDS: Final = 0.01
"""Enough for the loop to look at its sockets once before a pong is found missing."""


class PingedConnection(Protocol):
    """What `KeepAlive` asks of its connection."""

    def is_write_paused(self) -> bool:
        """Whether the client reads too little of what was written."""

    def is_reading_paused(self) -> bool:
        """Whether a pong could not be seen at present."""

    def write(self, data: bytes) -> None:
        """Write a ping frame."""

    def note_ping_timeout(self) -> None:
        """No pong has come in time: end the connection."""


class KeepAlive:
    """Sends a ping every `ping_interval` seconds, and gives its pong `ping_timeout` seconds.

    It does nothing before `begin`, and nothing after `stop`.
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
        """When the timer fires on the loop's clock, or would have before `stop`; not every loop's timers tell."""
        self.was_readable = False
        """The socket was read all the time since the last ping; whoever pauses reading sets it to False."""

    def begin(self, ping_at: float | None) -> None:
        """Begin to send pings. `ping_at`: where another worker was with that when it handed the connection over."""
        if ping_at is None or self._settings.ping_interval is None:
            self._arm()
        else:
            self._set_timer(
                max(ping_at, self._clock.loop.time()),
                self._look_for_pong if self._session.is_pong_awaited else self._send_ping,
            )

    def stop(self) -> None:
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
            # The stall watch keeps the time of a client that does not read.
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
        # When something kept the loop busy for long, uvloop runs timers before it looks at sockets.
        self._timer = self._clock.loop.call_later(SECOND_LOOK_SECONDS, self._check_pong)

    def _check_pong(self) -> None:
        self._timer = None
        if not self._session.is_pong_awaited or not self.was_readable:
            # While the application does not receive, a pong could not be seen. The ping still makes
            # the kernel notice a peer that is gone.
            self._arm()
        else:
            self._connection.note_ping_timeout()
