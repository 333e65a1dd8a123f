"""What a turn of the event loop has answered is written when the turn is over, one connection behind the other.

A write wakes whoever reads at the other end, a proxy or a client on the same machine, and waking somebody who
has gone to sleep on another CPU costs more than the write. Several writes without work between them meet a reader
that is awake. So where a turn brings requests of several connections, their responses leave together; where it
brings one, that leaves as soon.
"""

import asyncio
import time
from collections.abc import Callable

LONGEST_NS = 1_000_000
"""Nanoseconds that the first response waits at most while others are being made."""


class Outbox:
    """Calls everybody who has something to write, at the end of the turn. One for each loop."""

    __slots__ = ("_is_due", "_loop", "_since_ns", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Callable[[], None]] = []
        self._since_ns = 0
        self._is_due = False
        """The end of the turn is waited for."""

    def enlist(self, write: Callable[[], None]) -> None:
        """Have `write` called once: at the end of this turn, or sooner."""
        now_ns = time.monotonic_ns()
        if not self._waiting:
            self._since_ns = now_ns
            if not self._is_due:
                self._is_due = True
                self._loop.call_soon(self._end_turn)
        self._waiting.append(write)
        if now_ns - self._since_ns > LONGEST_NS:
            self._flush()

    def _end_turn(self) -> None:
        self._is_due = False
        self._flush()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write()
