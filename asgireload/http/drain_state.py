"""How one server leaves: the drain notice, the worker that follows, and what became of connections that stay open.

`worker/handover.py` names the worker that follows; connections read it and take their places in the plans.
"""

import math
import time
from collections.abc import Callable
from typing import Protocol

from asgireload.draining import DrainNotice
from asgireload.http.close_plan import ClosePlan
from asgireload.ipc.parcels import Parcel


class Successor(Protocol):
    """The worker that follows this one, to which connections go during a drain. Used on the loop only.

    A handover has two phases, so that nothing is ever served twice. Who offers a connection pauses its
    reading first and then touches nothing, keeping the descriptor, until `settled` is called; the other
    worker says that it takes it before it reads or writes a byte.

    When the successor is gone, `DrainState.successor` becomes None and every connection's
    `begin_drain()` is called once more: it then ends as it does without one. So it is when another takes the
    place of one that is gone or full.
    """

    @property
    def is_spent(self) -> bool:
        """Whether it takes nothing more, so that another may be named in its place: it is gone, or full."""

    def enlist(self, turn: Callable[[], None]) -> bool:
        """Call `turn` from the loop when there is room for an offer, in the order of enlisting.

        Within `turn` the connection may call `take`, once; it need not. True: that is in the next turn of
        the loop or soon after. It is not called once the successor is gone.
        """

    def take(self, descriptor: int, parcel: Parcel, settled: Callable[[bool], None]) -> bool:
        """Offer a connection; to be called within a turn only.

        False: never (gone, the parcel is too large); keep it. True: `settled` is called
        once, later. With True: the connection is the other's, which has not touched it before; close the
        own descriptor, without shutdown() and without a word. With False: it came back untouched; go on
        with it.
        """


class DrainState:
    """The drain of one server, before and after it has begun. `notice` is what applications see of it."""

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
        """Set while a drain has a worker to hand connections to."""
        self.awaits_successor = False
        """The successor that there was is gone, and perhaps another takes its place."""
        self.websocket_plan: ClosePlan | None = None
        """When the WebSockets that a drain closes are closed; made by the first of them."""
        self.stream_plan: ClosePlan | None = None
        """When event streams end that do not move; made by the first of them."""
        self.streams_moved = 0
        """How many event streams another worker goes on with."""
        self.streams_ended = 0
        """How many event streams were ended because the worker leaves."""
        self.websockets_moved = 0
        """How many WebSockets another worker goes on with."""

    def seconds_left(self) -> float:
        """Return the time until the deadline of the drain; infinite where it has none."""
        deadline = self.notice.deadline
        return math.inf if deadline is None else max(0.0, deadline - time.monotonic())
