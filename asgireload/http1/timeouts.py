"""When an HTTP connection is given up: its deadlines by name, and the one timer that serves them.

`Deadlines` is pure: it holds times of the event loop's clock in seconds, and touches no loop. A busy connection
moves a deadline with each request, and a timer of the loop costs more to move than a number. So `ConnectionTimer`
is armed for the earliest deadline that it has seen. When it fires, the connection looks which of them has passed.
"""

import asyncio
import math
from enum import Enum, auto
from typing import Final

from asgireload.http.timer_wheel import COARSE_FROM, TimerWheel, Waiting

NEVER: Final = math.inf
CLOCK_TICK: Final = 0.001
"""Seconds. Event loops fire a timer up to one tick of their clock early; otherwise it would spin that long."""


class Expired(Enum):
    NOTHING = auto()
    REQUEST = auto()
    """The application took longer than `request_timeout`."""
    WAIT = auto()
    """What the state of the connection waits for did not come in time."""


class Deadlines:
    """The deadlines of one connection; NEVER: not set."""

    __slots__ = ("_unbound_wait", "_unsent_bytes", "request", "wait", "write")

    def __init__(self) -> None:
        self.wait = NEVER
        """Of what the state waits for: a request head, the rest of a body, or another request."""
        self.request = NEVER
        """Of the end of the response."""
        self.write = NEVER
        """Of the client's taking some of the bytes that wait for it."""
        self._unbound_wait = NEVER
        """What `wait` was before a drain bounded it."""
        self._unsent_bytes = 0

    @property
    def earliest(self) -> float:
        return min(self.wait, self.request, self.write)

    def bound_wait(self, deadline: float) -> None:
        """Let a drain set `wait`, where no worker follows that could take the connection."""
        if self._unbound_wait == NEVER:
            self._unbound_wait = self.wait
        self.wait = deadline

    def unbound_wait(self) -> None:
        """Set `wait` to what it was before `bound_wait`: a worker follows after all."""
        if self._unbound_wait < NEVER:
            self.wait = self._unbound_wait
            self._unbound_wait = NEVER

    def forget_bound(self) -> None:
        """Keep `wait` as it is: what it was before belongs to another wait."""
        self._unbound_wait = NEVER

    def begin_write(self, deadline: float, unsent_bytes: int) -> None:
        """Note that `unsent_bytes` wait for the client."""
        self.write = deadline
        self._unsent_bytes = unsent_bytes

    def extend_write(self, deadline: float, unsent_bytes: int) -> bool:
        """Set `write` anew if fewer bytes wait than at the last look; return whether they are fewer."""
        if unsent_bytes >= self._unsent_bytes:
            return False
        self.begin_write(deadline, unsent_bytes)
        return True

    def take_expired(self, now: float) -> Expired:
        """Return which of `request` and `wait` has passed at `now`, and set it to NEVER."""
        if now >= self.request:
            self.request = NEVER
            return Expired.REQUEST
        if now >= self.wait:
            self.wait = NEVER
            return Expired.WAIT
        return Expired.NOTHING


class ConnectionTimer(Deadlines):
    """Calls `on_deadline` of its connection, which passes itself: a reference to it would be a circle."""

    __slots__ = ("_at", "_loop", "_slot", "_timer", "_wheel")

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: TimerWheel) -> None:
        super().__init__()
        self._loop = loop
        self._wheel = wheel
        self._at = NEVER
        """When the connection is called next."""
        self._timer: asyncio.TimerHandle | None = None
        self._slot = 0
        """Of the wheel, which stands in for the timer of the loop when the deadline is far away."""

    @property
    def is_armed(self) -> bool:
        return self._at < NEVER

    def arm(self, connection: Waiting, deadline: float) -> None:
        """Have `connection` called at `deadline`, or sooner."""
        if self._at > deadline:
            self.disarm(connection)
            self._at = deadline
            if deadline - self._loop.time() < COARSE_FROM:
                self._timer = self._loop.call_at(deadline, connection.on_deadline)
            else:
                self._slot = self._wheel.put(connection, deadline)

    def disarm(self, connection: Waiting) -> None:
        self._at = NEVER
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif self._slot:
            self._wheel.remove(connection, self._slot)
            self._slot = 0
