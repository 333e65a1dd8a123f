"""Close one WebSocket of a draining worker at its time in the close plan, and between two messages.

`http/close_plan.py` computes the time. This module waits for it.
"""

import asyncio
import random
from typing import Final, Protocol

from asgireload.http.clock import Clock
from asgireload.http.close_plan import ClosePlan, late_close_at
from asgireload.http.drain_state import DrainState

QUIET_PATIENCE: Final = 1.0
"""Seconds for which a close waits, at most, while the application answers a message."""
QUIET_INTERVAL: Final = 0.005
"""Seconds between two checks whether the application still answers."""


class DrainedConnection(Protocol):
    """The interface that `DrainClose` uses of its connection."""

    def count_to_close(self) -> int:
        """Return how many WebSockets of this worker the drain closes, this one included."""

    def count_open(self) -> int:
        """Return how many WebSockets this worker has."""

    def is_answering(self) -> bool:
        """Return whether the connection is open and the client may be waiting for an answer: the application does
        not wait for a message, or there are unread bytes."""

    def close_for_drain(self) -> None:
        """Close the connection now, with the code for the reason of the drain."""


class DrainClose:
    """The planned close of one connection in a drain. Call `cancel` when the connection ends in another way.

    `window` is the number of seconds over which the closes of a drain are spread, at most.
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
        """Whether a close is planned."""
        return self._timer is not None

    def begin(self, *, is_late: bool) -> None:
        """Plan the close. With `is_late` the plan did not count this connection, since it was to be handed over."""
        now = self._clock.loop.time()
        window = min(self._window, self._drain.seconds_left() / 2)  # clients have to answer, too
        jitter = random.random()  # it only spreads load, so it need not be secret
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
        """Plan the close after `patience` seconds; the connection calls `cancel` if it is handed over before."""
        self._timer = self._clock.loop.call_later(patience, self._begin_late)

    def cancel(self) -> None:
        """Cancel the planned close. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_late(self) -> None:
        self.begin(is_late=True)

    def _close_when_quiet(self, latest: float) -> None:
        """Close between two messages, at `latest` at the latest: a client whose message is not answered cannot know
        whether it was handled. Messages still in the network are not seen."""
        loop = self._clock.loop
        if self._connection.is_answering() and loop.time() < latest:
            self._timer = loop.call_later(QUIET_INTERVAL, self._close_when_quiet, latest)
        else:
            self._connection.close_for_drain()
