"""The drain of one server: its notice, the worker that follows, and the plans for connections that stay open.

`worker/handover.py` sets the worker that follows; connections read it and take times from the plans.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

from asgireload.draining import DrainNotice
from asgireload.http.close_plan import ClosePlan
from asgireload.ipc.parcels import Parcel


class Successor(Protocol):
    """The worker that follows this one, to which connections are handed over during a drain. Used on the loop only.

    A handover has two phases, so that no request is served twice. A connection pauses reading before it is offered.
    It keeps its descriptor, and neither reads nor writes, until `settled` is called. The other worker accepts the
    offer before it reads or writes a byte.

    When the successor is lost, `DrainState.successor` becomes None, and `begin_drain()` of every connection is
    called again: connections then end as in a drain without a successor. `begin_drain()` is also called again when
    another successor replaces one that is lost or full.
    """

    @property
    def is_spent(self) -> bool:
        """Whether the successor is lost or full. It takes no more connections, and may be replaced by another."""

    def enlist(self, turn: Callable[[], None]) -> bool:
        """Call `turn` from the loop when a connection can be offered, in the order of calls of `enlist`.

        Within `turn` the connection may call `take` once. Return True if `turn` will be called in the next turn of
        the loop or soon after. `turn` is not called once the successor is lost.
        """

    def take(self, descriptor: int, parcel: Parcel, settled: Callable[[bool], None]) -> bool:
        """Offer a connection. To be called within a turn only.

        Return False if the connection cannot be offered, because the successor is lost or the parcel is too large;
        the caller keeps the connection. Return True if `settled` will be called, once, later. `settled(True)`: the
        other worker has the connection; close the own descriptor without writing and without shutdown().
        `settled(False)`: the other worker has not touched the connection; the caller keeps it.
        """


class DrainState:
    """The drain of one server, before and after it has begun. Applications see its `notice` in their scopes."""

    __slots__ = (
        "awaits_successor",
        "notice",
        "stream_plan",
        "streams_ended",
        "streams_moved",
        "successor",
        "websocket_plan",
        "websockets_moved",
    )

    def __init__(self, notice: DrainNotice | None = None) -> None:
        self.notice = notice if notice is not None else DrainNotice()
        self.successor: Successor | None = None
        """The worker to which connections are handed over; None when there is none at present."""
        self.awaits_successor = False
        """The last successor is lost, and another one may follow."""
        self.websocket_plan: ClosePlan | None = None
        """When WebSockets that are not handed over are closed; made by the first of them."""
        self.stream_plan: ClosePlan | None = None
        """When event streams that are not handed over are ended; made by the first of them."""
        self.streams_moved = 0
        """Number of event streams that another worker has taken over."""
        self.streams_ended = 0
        """Number of event streams that were ended because of the drain."""
        self.websockets_moved = 0
        """Number of WebSockets that another worker has taken over."""

    def seconds_left(self) -> float:
        """Return the seconds until the deadline of the drain; infinity if it has none."""
        deadline = self.notice.deadline
        return math.inf if deadline is None else max(0.0, deadline - time.monotonic())
