"""Which worker takes the next connection, where all accept from one socket.

All of them are woken for it, and who is first takes it. A worker that shares its processor with the clients is
always second: of connections that are opened at once, and stay open, nearly all would be its sibling's, and their
requests would wait for that one while another is idle. So a worker that has more connections than a sibling
lets that one go first.
"""

from asgireload.ipc.scoreboard import Field, Scoreboard

_CONNECTIONS = int(Field.CONNECTIONS)
LEAD = 4
"""Connections by which a worker may be ahead; with many, an eighth more than the others have."""
LEAD_FRACTION = 8
LOOK_INTERVAL = 4
"""A worker looks at the others again when it has so many connections more than when it last did."""


def is_ahead(mine: int, fewest: int) -> bool:
    """Return whether a worker with `mine` connections should let one with `fewest` go first. Pure."""
    return mine - fewest >= max(LEAD, fewest // LEAD_FRACTION)


class Balance:
    """Compares the worker whose record has `index` with the others on the scoreboard."""

    def __init__(self, scoreboard: Scoreboard, index: int) -> None:
        self._scoreboard = scoreboard
        self._index = index
        self._values = scoreboard.record(index).values
        self._look_at = LOOK_INTERVAL

    def is_ahead(self, pending: int) -> bool:
        """`pending`: connections on their way that are not counted yet."""
        mine = self._values[_CONNECTIONS] + pending
        if mine < self._look_at:
            return False
        fewest = self._scoreboard.fewest_connections(besides=self._index)
        if fewest is not None and is_ahead(mine, fewest):
            return True
        self._look_at = mine + LOOK_INTERVAL
        return False
