"""Which worker takes the next connection, where all accept from one socket.

All of them are woken for it, and who is first takes it. A worker that shares its processor with the clients is
always second: of connections that are opened at once, and stay open, nearly all would be its sibling's, and their
requests would wait for that one while another is idle. So a worker that has more connections than a sibling
lets that one go first.

Where connections are short nothing stays uneven, and letting others go first only costs wake-ups. So of a worker's
connections, as many do not count as short ones have ended lately.
"""

import time
from collections.abc import Callable
from typing import Final

from asgireload.ipc.scoreboard import Field, Scoreboard

_CONNECTIONS: Final = int(Field.CONNECTIONS)
_CONNECTIONS_TOTAL: Final = int(Field.CONNECTIONS_TOTAL)
_TAKEN_OVER_TOTAL: Final = int(Field.TAKEN_OVER_TOTAL)
LEAD: Final = 4
"""Connections by which a worker may be ahead; with many, an eighth more than the others have."""
LEAD_FRACTION: Final = 8
LOOK_INTERVAL: Final = 4
"""A worker looks at the others again when it has so many connections more, or fewer, than when it last did."""
LATELY: Final = 0.01
"""Seconds; what began and ended within three times this is short."""
WHO_INTERVAL: Final = 0.5
"""Seconds between two looks for workers that are new: those are left out until then."""


def is_ahead(mine: int, fewest: int) -> bool:
    """Return whether a worker with `mine` connections should let one with `fewest` go first. Pure."""
    return mine - fewest >= max(LEAD, fewest // LEAD_FRACTION)


class Turnover:
    """Tells how many short connections have ended lately, to whoever asks often.

    That many have ended is not enough: clients that all leave and come again at once stay then. So there must have
    been as many that began, before those that begin now.
    """

    def __init__(self) -> None:
        self._since = float("-inf")
        self._before = self._older = (0, 0)

    def lately(self, begun: int, ended: int, now: float) -> int:
        """`begun` and `ended` count all connections until `now`, in seconds on any clock. None, where nobody
        has asked lately."""
        age = now - self._since
        if age >= LATELY:
            counts = (begun, ended)
            self._older = self._before if age < 2 * LATELY else counts
            self._before = counts
            self._since = now
        return min(ended - self._older[1], self._before[0] - self._older[0])


class AcceptBalance:
    """Compares the worker whose record has `index` with the others on the scoreboard."""

    def __init__(
        self, scoreboard: Scoreboard, index: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._scoreboard = scoreboard
        self._index = index
        self._clock = clock
        self._values = scoreboard.record(index).values
        self._looked_with = 0
        self._turnover = Turnover()
        self._below = 0
        self._below_until = float("-inf")

    def is_ahead(self, pending: int) -> bool:
        """`pending`: connections on their way that are not counted yet."""
        values = self._values
        counted = values[_CONNECTIONS]
        mine = counted + pending
        if -LOOK_INTERVAL < mine - self._looked_with < LOOK_INTERVAL:
            return False
        now = self._clock()
        fewest = self._fewest(now)
        if fewest is not None and is_ahead(mine, fewest):
            begun = values[_CONNECTIONS_TOTAL] + values[_TAKEN_OVER_TOTAL]
            short = self._turnover.lately(begun, begun - counted, now)
            if is_ahead(mine - short, fewest):
                return True
        self._looked_with = mine
        return False

    def _fewest(self, now: float) -> int | None:
        if now >= self._below_until:
            self._below = self._scoreboard.accepting_below()
            self._below_until = now + WHO_INTERVAL
        return self._scoreboard.fewest_connections(besides=self._index, below=self._below)
