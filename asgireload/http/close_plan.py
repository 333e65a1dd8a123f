"""When each WebSocket and event stream of a worker that leaves is closed, and when a client should come back. Pure.

Clients that are closed in one moment come back in one moment, with a handshake, an authentication and a
query for what they have missed each. So their closes are spread: each gets a place of its own in a row, and
somewhere within that place it is closed.
"""

from asgireload.draining import DrainReason

CLOSE_SPACING = 0.02
"""Seconds between two closes: fifty a second, from each worker that drains, are no storm. Few clients need not
wait for the whole window, and a reload not for them."""

BACK_SOON = (0.1, 1.0)
"""Seconds after which a client should come back while another worker serves; the closes are spread already."""
BACK_LATER = (1.0, 5.0)
"""When the server stops: that is about what it takes to start one."""


class ClosePlan:
    """The closes of one drain. Times are on the loop's clock, `jitter` is from 0 to below 1.

    `count` are to be closed from `begun_at` on, within `window` seconds.
    """

    __slots__ = ("_begun_at", "_count", "_next", "_window")

    def __init__(self, begun_at: float, count: int, window: float) -> None:
        self._begun_at = begun_at
        self._count = count
        self._window = window
        self._next = 0

    def next_at(self, jitter: float) -> float:
        """Return when the next one is closed."""
        at = self._begun_at + span(self._count, self._window) * (self._next + jitter) / self._count
        self._next += 1
        return at

    @property
    def is_full(self) -> bool:
        """All that were counted have their time; see `late_close_at`."""
        return self._next >= self._count


def late_close_at(now: float, count: int, window: float, jitter: float) -> float:
    """Return when one is closed that was not counted, one of `count` that are open."""
    return now + span(count, window) * jitter


def span(count: int, window: float) -> float:
    """Return over how many seconds `count` closes are spread."""
    return min(window, count * CLOSE_SPACING)


def close_reason(reason: DrainReason, jitter: float) -> str:
    """Return what the close frame says, with a hint that a program can read: a number before `ms`."""
    is_stop = reason.websocket_code == 1001
    shortest, longest = BACK_LATER if is_stop else BACK_SOON
    milliseconds = round(1000 * (shortest + (longest - shortest) * jitter))
    what = "server stopping" if is_stop else "service restart"
    return f"{what}; reconnect in about {milliseconds} ms"
