"""The deadlines of an HTTP connection, and the one timer that serves all of them.

`Deadlines` is pure: it holds times of the event loop's clock, in seconds, and does not use the loop. A busy
connection changes a deadline with each request, and to move a timer of the loop costs more than to store a number.
So `ConnectionTimer` is armed for the earliest deadline so far. When it fires, the connection finds out which
deadlines have passed.
"""

import asyncio
import math
from enum import Enum, auto
from typing import Final

from asgireload.http.timer_wheel import COARSE_FROM, TimerWheel, Waiting

NEVER: Final = math.inf
CLOCK_TICK: Final = 0.001
"""Seconds. Event loops fire a timer up to one tick of their clock early. Without this tolerance the timer would be
armed and fire again and again until the deadline."""


class Expired(Enum):
    """The deadline that has passed."""

    NOTHING = auto()
    REQUEST = auto()
    """The application took longer than `request_timeout`."""
    WAIT = auto()
    """The wait of the connection's state (`Deadlines.wait`) timed out."""


class Deadlines:
    """The deadlines of one connection, by the clock of the event loop. NEVER: the deadline is not set."""

    __slots__ = ("_unbound_wait", "_unsent_bytes", "request", "wait", "write")

    def __init__(self) -> None:
        self.wait = NEVER
        """Deadline for what the connection waits for: a request head, the rest of a body, or another request."""
        self.request = NEVER
        """Deadline for the end of the response (`request_timeout`)."""
        self.write = NEVER
        """Deadline for the client to read some of the bytes that were written (`write_timeout`)."""
        self._unbound_wait = NEVER
        """The value of `wait` before `bound_wait`; NEVER when it was not called."""
        self._unsent_bytes = 0

    @property
    def earliest(self) -> float:
        """The earliest deadline; NEVER if none is set."""
        return min(self.wait, self.request, self.write)

    def bound_wait(self, deadline: float) -> None:
        """Set `wait` for a drain in which no worker follows that could take the connection."""
        if self._unbound_wait == NEVER:
            self._unbound_wait = self.wait
        self.wait = deadline

    def unbound_wait(self) -> None:
        """Restore the value of `wait` before `bound_wait`: a worker follows after all."""
        if self._unbound_wait < NEVER:
            self.wait = self._unbound_wait
            self._unbound_wait = NEVER

    def forget_bound(self) -> None:
        """Forget the value of `wait` before `bound_wait`: it belonged to another wait."""
        self._unbound_wait = NEVER

    def begin_write(self, deadline: float, unsent_bytes: int) -> None:
        """Set `write`, and remember that `unsent_bytes` wait for the client."""
        self.write = deadline
        self._unsent_bytes = unsent_bytes

    def extend_write(self, deadline: float, unsent_bytes: int) -> bool:
        """Set `write` if fewer bytes wait for the client than at the last call; return whether they are fewer."""
        if unsent_bytes >= self._unsent_bytes:
            return False
        self.begin_write(deadline, unsent_bytes)
        return True

    def take_expired(self, now: float) -> Expired:
        """Return which of `request` and `wait` has passed at `now`, and set that to NEVER. `request` goes first."""
        if now >= self.request:
            self.request = NEVER
            return Expired.REQUEST
        if now >= self.wait:
            self.wait = NEVER
            return Expired.WAIT
        return Expired.NOTHING


class ConnectionTimer(Deadlines):
    """The deadlines of one connection, and the timer that calls `on_deadline` of the connection.

    `arm` and `disarm` take the connection as an argument, because an attribute would be a reference cycle.
    """

    __slots__ = ("_at", "_loop", "_slot", "_timer", "_wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel) -> None:
        super().__init__()
        self._loop = loop
        self._wheel = wheel
        self._at = NEVER
        """When the connection is called next; NEVER while the timer is not armed."""
        self._timer: asyncio.TimerHandle | None = None
        self._slot = 0
        """The slot in the timer wheel, which is used instead of a timer of the loop for deadlines that are far
        away; 0 when the wheel is not used."""

    @property
    def is_armed(self) -> bool:
        """True from `arm` until `disarm`."""
        return self._at < NEVER

    def arm(self, connection: Waiting, deadline: float) -> None:
        """Call `on_deadline` of `connection` at `deadline`, or earlier if the timer is armed for an earlier time.

        A deadline on the timer wheel may be late by the resolution of the wheel.
        """
        if self._at > deadline:
            self.disarm(connection)
            self._at = deadline
            if deadline - self._loop.time() < COARSE_FROM:
                self._timer = self._loop.call_at(deadline, connection.on_deadline)
            else:
                self._slot = self._wheel.put(connection, deadline)

    def disarm(self, connection: Waiting) -> None:
        """Cancel the timer. The deadlines stay as they are."""
        self._at = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._slot:
            self._wheel.remove(connection, self._slot)
            self._slot = 0
