"""Decides when an application that calls `send` or `receive` in a loop must let the event loop run. Pure.

`send` waits only for a client that is slow to read. An application that only sends, to a fast client, would block
all other clients of its worker; if its client left, the application would never learn of it.
"""

from collections.abc import Callable
from typing import Final

UNWAITED_CALLS: Final = 64
"""Calls without a wait after which the event loop gets a turn."""
UNWAITED_NS: Final = 10_000_000
"""Nanoseconds without a wait after which the event loop gets a turn, also after fewer calls."""
LOOKS_AT_CLOCK: Final = 8
"""The clock is read once in so many calls: a reading costs as much as a short message."""


class Pace:
    """Counts the calls of `send` and `receive` for one request or WebSocket."""

    __slots__ = ("_calls", "_since_ns")

    def __init__(self) -> None:
        self._calls = 0
        """Calls since the last one that had to wait."""
        self._since_ns = 0
        """When the first of them was made."""

    def note_wait(self) -> None:
        """Note that the application waits, so that the event loop runs."""
        self._calls = 0

    def must_yield(self, now_ns: Callable[[], int]) -> bool:
        """Count a call that does not wait; return whether it must let the event loop run.

        `now_ns`: the monotonic clock in nanoseconds, which is called only when its time is needed.
        """
        calls = self._calls
        self._calls = calls + 1
        if calls % LOOKS_AT_CLOCK:
            return False
        now = now_ns()
        if not calls:
            self._since_ns = now
            return False
        if calls < UNWAITED_CALLS and now - self._since_ns < UNWAITED_NS:
            return False
        self._calls = 0
        return True
