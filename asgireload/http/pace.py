"""Gives the event loop a turn where an application only sends, or only asks. Pure.

`send` waits for a client that is slow to read, and for nothing else. An application that does nothing but send to a
fast client would keep everybody else of its worker waiting, and one whose client has left would never hear of it.
"""

from collections.abc import Callable
from typing import Final

UNWAITED_CALLS: Final = 64
"""Calls after which the loop gets a turn if none of them had to wait."""
UNWAITED_NS: Final = 10_000_000
"""Nanoseconds after which it gets one in any case."""
LOOKS_AT_CLOCK: Final = 8
"""Every so many calls: the clock costs as much as a short message."""


class Pace:
    """Of one request or WebSocket."""

    __slots__ = ("_calls", "_since_ns")

    def __init__(self) -> None:
        self._calls = 0
        """Calls since the last one that had to wait, and when the first of them was made."""
        self._since_ns = 0

    def note_wait(self) -> None:
        """The application has waited here: others had their turn."""
        self._calls = 0

    def must_yield(self, now_ns: Callable[[], int]) -> bool:
        """Count a call that need not wait; return whether it must let others go first all the same."""
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
