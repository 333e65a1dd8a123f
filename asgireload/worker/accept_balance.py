"""Accept balance: decide which worker accepts the next connection when all accept from one socket.

The kernel wakes all workers for a connection, and the fastest one accepts it. A worker that shares its CPU with the
clients is always slower: if many connections are opened at once and stay open, another worker accepts nearly all of
them, and their requests wait for that worker while this one is idle. So a worker that has more connections than
another lets the other accept first.

When connections are short, no imbalance lasts, and letting others accept first only costs wake-ups. So a worker
subtracts from its connections the number of short connections that have ended lately.
"""

import time
from collections.abc import Callable
from typing import Final

from asgireload.ipc.scoreboard import Field, Scoreboard

_CONNECTIONS: Final = int(Field.CONNECTIONS)
_CONNECTIONS_TOTAL: Final = int(Field.CONNECTIONS_TOTAL)
_TAKEN_OVER_TOTAL: Final = int(Field.TAKEN_OVER_TOTAL)
LEAD: Final = 4
"""The lead in connections from which a worker is ahead, when the other worker has few."""
LEAD_FRACTION: Final = 8
"""When the other worker has many connections, the lead is this fraction (an eighth) of their number."""
LOOK_INTERVAL: Final = 4
"""Connections more or fewer than at the last comparison with the other workers after which a worker compares
again."""
LATELY: Final = 0.01
"""Seconds; a connection that began and ended within three times this is short."""
WHO_INTERVAL: Final = 0.5
"""Seconds between two checks for new workers; a new worker is left out until the next check."""


def is_ahead(mine: int, fewest: int) -> bool:
    """Return whether a worker with `mine` connections should let a worker with `fewest` accept first. Pure."""
    return mine - fewest >= max(LEAD, fewest // LEAD_FRACTION)


class Turnover:
    """Counts the short connections that have ended lately, if `lately` is called often.

    Ended connections alone are not enough: when all clients disconnect and reconnect at once, the new connections
    may stay. So as many connections must also have begun before those that begin now.
    """

    def __init__(self) -> None:
        self._since = float("-inf")
        self._before = self._older = (0, 0)

    def lately(self, begun: int, ended: int, now: float) -> int:
        """Return the number of short connections that have ended lately; 0 after a pause between calls.

        `begun` and `ended` count all connections until `now`, in seconds on any clock.
        """
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
        """Return whether this worker should let another accept first.

        `pending` is the number of accepted connections that the record does not count yet.
        """
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
