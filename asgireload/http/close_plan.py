"""Spreads the closes of the WebSockets and event streams of a worker that drains over time. Pure.

Clients that are closed at the same moment reconnect at the same moment, each with a handshake, an authentication
and a query for what it has missed. So the time is divided into equal parts, one for each connection, and a
connection is closed at a random time within its part.
"""

from asgireload.draining import DrainReason

CLOSE_SPACING = 0.02
"""Seconds between two closes, on average: fifty a second, from each worker that drains, do no harm. With few
clients the closes, and so the reload, take less than the whole window."""

BACK_SOON = (0.1, 1.0)
"""Least and most seconds until a client should reconnect, when another worker serves. The closes are spread
already."""
BACK_LATER = (1.0, 5.0)
"""The same when the server stops: about the time that it takes to start a server."""


class ClosePlan:
    """The closes of one drain: `count` connections from `begun_at` on, within `window` seconds.

    Times are by the clock of the loop; `jitter` is a random number from 0 to below 1.
    """

    __slots__ = ("_begun_at", "_count", "_next", "_window")

    def __init__(self, begun_at: float, count: int, window: float) -> None:
        self._begun_at = begun_at
        self._count = count
        self._window = window
        self._next = 0

    def next_at(self, jitter: float) -> float:
        """Return when the next connection is closed."""
        at = self._begun_at + span(self._count, self._window) * (self._next + jitter) / self._count
        self._next += 1
        return at

    @property
    def is_full(self) -> bool:
        """True when `count` connections have their times; further ones take `late_close_at`."""
        return self._next >= self._count


def late_close_at(now: float, count: int, window: float, jitter: float) -> float:
    """Return when a connection is closed that the plan has not counted; `count` connections are open."""
    return now + span(count, window) * jitter


def span(count: int, window: float) -> float:
    """Return over how many seconds `count` closes are spread, at most `window`."""
    return min(window, count * CLOSE_SPACING)


def close_reason(reason: DrainReason, jitter: float) -> str:
    """Return the reason for the close frame. A program can read the time to reconnect: the number before `ms`."""
    is_stop = reason.websocket_code == 1001
    shortest, longest = BACK_LATER if is_stop else BACK_SOON
    milliseconds = round(1000 * (shortest + (longest - shortest) * jitter))
    what = "server stopping" if is_stop else "service restart"
    return f"{what}; reconnect in about {milliseconds} ms"
