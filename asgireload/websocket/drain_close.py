"""When one WebSocket of a worker that drains is closed: at its place in the plan, and between two messages.

`http/close_plan.py` says where its place is. Here it is waited for.
"""

import asyncio
import random
from typing import Final, Protocol

from asgireload.http.clock import Clock
from asgireload.http.close_plan import ClosePlan, late_close_at
from asgireload.http.drain_state import DrainState

QUIET_PATIENCE: Final = 1.0
"""Seconds for which the close of a drain waits for the answer to a message, at most."""
QUIET_INTERVAL: Final = 0.005
"""Seconds until it is looked at again."""


class DrainedConnection(Protocol):
    """What `DrainClose` asks of its connection."""

    def count_to_close(self) -> int:
        """Return how many WebSockets of this worker are closed because it leaves, this one included."""

    def count_open(self) -> int:
        """Return how many WebSockets this worker has."""

    def is_answering(self) -> bool:
        """Whether the connection is open, the client has said something, and the application does not wait for
        more."""

    def close_for_drain(self) -> None:
        """Close it now, as the reason of the drain says."""


class DrainClose:
    """The close that a drain owes one connection. `cancel` it when the connection ends in another way.

    `window`: over how many seconds the closes of a drain are spread, at most.
    """

    __slots__ = ("_clock", "_connection", "_drain", "_timer", "_window")

    def __init__(
        self, clock: Clock, drain: DrainState, window: float, connection: DrainedConnection
    ) -> None:
        self._clock = clock
        self._drain = drain
        self._window = window
        self._connection = connection
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is waited for."""
        return self._timer is not None

    def begin(self, *, is_late: bool) -> None:
        """Close at the time that is due to this connection. `is_late`: it was not counted, since it was to go to
        another worker."""
        now = self._clock.loop.time()
        window = min(self._window, self._drain.seconds_left() / 2)  # clients have to answer, too
        jitter = random.random()  # it spreads load; nobody gains by guessing it
        plan = self._drain.websocket_plan
        if plan is None and not is_late:
            plan = ClosePlan(now, self._connection.count_to_close(), window)
            self._drain.websocket_plan = plan
        if plan is None or is_late or plan.is_full:
            at = late_close_at(now, self._connection.count_open(), window, jitter)
        else:
            at = plan.next_at(jitter)
        patience = min(QUIET_PATIENCE, self._drain.seconds_left() / 4)
        self._timer = self._clock.loop.call_at(at, self._close_when_quiet, at + patience)

    def begin_after(self, patience: float) -> None:
        """Begin in `patience` seconds, if no worker that follows has been named by then."""
        self._timer = self._clock.loop.call_later(patience, self._begin_late)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_late(self) -> None:
        self.begin(is_late=True)

    def _close_when_quiet(self, latest: float) -> None:
        """Close between two messages, or at `latest`: the client of one that goes unanswered cannot know
        whether it was heard. Those that are still on their way cannot be seen from here."""
        loop = self._clock.loop
        if self._connection.is_answering() and loop.time() < latest:
            self._timer = loop.call_later(QUIET_INTERVAL, self._close_when_quiet, latest)
        else:
            self._connection.close_for_drain()
