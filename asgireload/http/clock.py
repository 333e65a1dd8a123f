"""The event loop of one server, its clock, and the timers that its connections share.

A `Clock` has no timer while nothing is due, so that an idle server does not wake up.
"""

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from asgireload.http.eager_start import EagerStarter
from asgireload.http.late_heads import LateHeads
from asgireload.http.timer_wheel import TimerWheel

_SECOND_NS: Final = 1_000_000_000


class Clock:
    """The time of one event loop, and the timers that all its connections share. Use it on `loop` only.

    `has_date`: whether responses get a Date header.
    """

    __slots__ = (
        "_date_line",
        "_date_until",
        "_has_date",
        "eager_starter",
        "late_heads",
        "loop",
        "now_ns",
        "timer_wheel",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, *, has_date: bool = True) -> None:
        self.loop = loop
        self.now_ns: Callable[[], int] = time.monotonic_ns
        """Return the monotonic time in nanoseconds, by which durations are measured. It is an attribute because
        compiled code finds a function of another module only by a look into a dictionary."""
        self.timer_wheel = TimerWheel(loop)
        """Timeouts of connections."""
        self.late_heads = LateHeads(loop)
        """Heads of responses that wait for the first piece of their body."""
        self.eager_starter = EagerStarter(loop)
        """Runs applications at once before Python 3.12, which has eager tasks of its own."""
        self._has_date = has_date
        self._date_line = b""
        self._date_until = 0

    def date_line(self, now_ns: int) -> bytes:
        """Return the Date header line with its CRLF, or b"" without `has_date`.

        The line is formatted at most once a second, when it is asked for; no timer is needed. `now_ns`: the present
        time of `now_ns()`, which callers have already.
        """
        if now_ns >= self._date_until:
            if self._has_date:
                wall = time.time()
                self._date_line = b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
                self._date_until = now_ns + int((1.0 - wall % 1.0) * _SECOND_NS)
            else:
                self._date_until = 1 << 63
        return self._date_line
