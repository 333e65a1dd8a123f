"""What a turn of the event loop has answered is written when the turn is over, one connection behind the other.

A write wakes whoever reads at the other end, a proxy or a client on the same machine, and waking somebody who
has gone to sleep on another CPU costs more than the write. Several writes without work between them meet a reader
that is awake, and several pieces of a response are one write. So what applications send in a turn leaves at its
end, one connection after the other.

An application that computes for long keeps everything of its worker waiting, also what the turn has answered
before it. Where that was seen, responses are written at once for a while.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

LONGEST_NS: Final = 1_000_000
"""Nanoseconds after which the first response waits for no more than the application that runs."""
BLOCKED_NS: Final = 4_000_000
"""Nanoseconds; a response that has waited for so long has waited for an application that computes."""
AT_ONCE_AFTER_BLOCK: Final = 1000
"""Responses that are written at once after that."""


class Sender(Protocol):
    def release_outgoing(self) -> bool:
        """Write what there is to write; return whether there was something."""


class Outbox:
    """Calls everybody who has something to write, at the end of the turn. One for each loop."""

    __slots__ = ("_at_once", "_is_due", "_loop", "_now_ns", "_since_ns", "_waiting")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._loop = loop
        self._now_ns = now_ns
        self._at_once = 0
        """So many responses yet do not wait."""
        self._waiting: list[Sender] = []
        self._since_ns = 0
        self._is_due = False
        """The end of the turn is waited for."""

    def enlist(self, sender: Sender, now_ns: int) -> None:
        """Have `sender` called once: at the end of this turn, or sooner. `now_ns`: by the same clock."""
        if self._at_once and not self._waiting:
            self._at_once -= 1
            sender.release_outgoing()
            return
        if not self._waiting:
            self._since_ns = now_ns
            if not self._is_due:
                self._is_due = True
                self._loop.call_soon(self._end_turn)
        self._waiting.append(sender)
        self.hurry(now_ns)

    def hurry(self, now_ns: int) -> None:
        """Call everybody now where the first has waited for too long."""
        if self._waiting and now_ns - self._since_ns > LONGEST_NS:
            self._flush(now_ns)

    def _end_turn(self) -> None:
        self._is_due = False
        if self._waiting:
            self._flush(self._now_ns())

    def _flush(self, now_ns: int) -> None:
        waiting, self._waiting = self._waiting, []
        has_waited = False
        for sender in waiting:
            if sender.release_outgoing():
                has_waited = True
        if has_waited and now_ns - self._since_ns > BLOCKED_NS:
            self._at_once = AT_ONCE_AFTER_BLOCK
