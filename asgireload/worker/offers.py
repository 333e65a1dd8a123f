"""Which of two workers owns a connection during its handover. Pure: no socket, no clock.

The old worker offers connections, the new worker takes them. At every moment at most one of the two may serve a
connection:

    old: OFFERED ──taken──▶ given away           new: HELD ──said "mine"──▶ TAKEN
         OFFERED ──refused, withdrawn──▶ kept         HELD ──refused──▶ dropped

The new worker sends "mine" before it touches a connection, and the old worker touches no connection that it has
offered until it has received an answer. So while "mine" is on its way, only the new worker serves. Three ends in
the middle of a handover remain:

- The new worker ends. All its messages are in the old worker's queue and are read first; the new worker has touched
  no other connection. The old worker keeps the rest.
- The old worker withdraws, because the new worker is stuck or the drain deadline has come. It sends a withdrawal,
  and from one instant on the new worker cannot send (`ipc.passage.Passage.withdraw`). The new worker drops the
  connections for which it could not send "mine".
- The old worker is killed. It ends without a withdrawal, so it has served none of the connections that it had
  offered. The new worker takes the connections for which it could not send "mine".
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Generic, TypeVar

import msgspec

WINDOW = 64
"""The most offers that are not settled at one time. The window bounds how many connections a stuck handover target
can block, and keeps the messages within the socket's buffer (`ipc.passage.INLINE_LIMIT`). It is larger than a
slice of either side, so both sides stay busy."""

Turn = Callable[[], None]
Settle = Callable[[bool], None]
Item = TypeVar("Item")


class Offers(msgspec.Struct):
    """The old worker's side: connections that wait for a turn, and offers that are not settled."""

    waiting: deque[Turn] = msgspec.field(default_factory=deque)
    unsettled: dict[int, Settle] = msgspec.field(default_factory=dict)
    is_open: bool = True
    """Offers can be made."""
    handed_over: int = 0
    came_back: int = 0
    _last: int = 0

    @property
    def has_room(self) -> bool:
        return self.is_open and len(self.unsettled) < WINDOW

    def enlist(self, turn: Turn) -> bool:
        """Append `turn` to the queue; return whether the window has room for all that wait, `turn` included."""
        if not self.is_open:
            return False
        self.waiting.append(turn)
        return len(self.unsettled) + len(self.waiting) <= WINDOW

    def next_turn(self) -> Turn | None:
        """Remove the next turn from the queue and return it; None when the queue is empty or the window full."""
        return self.waiting.popleft() if self.waiting and self.has_room else None

    def offer(self, settle: Settle) -> int:
        """Add an offer and return its number. There must be room."""
        assert self.has_room
        self._last += 1
        self.unsettled[self._last] = settle
        return self._last

    def retract(self, number: int) -> None:
        """Remove an offer that could not be sent."""
        del self.unsettled[number]

    def settle(self, taken: Iterable[int], refused: Iterable[int]) -> list[tuple[Settle, bool]]:
        """Settle offers by number; return their callbacks, each with whether the connection was taken.

        A number that is unknown, or settled already, is ignored.
        """
        told: list[tuple[Settle, bool]] = []
        for numbers, is_taken in ((taken, True), (refused, False)):
            for number in numbers:
                settle = self.unsettled.pop(number, None)
                if settle is not None:
                    told.append((settle, is_taken))
        self._count(told)
        return told

    def forget_waiting(self) -> None:
        """Drop all waiting turns, because the connections go to another target. Offers can still be settled."""
        self.waiting.clear()

    def end(self, *, keeps: bool) -> list[tuple[Settle, bool]]:
        """End the handover: drop waiting turns and settle every offer, as kept here if `keeps`, else as taken.

        Return the callbacks as `settle` does. Idempotent.
        """
        self.is_open = False
        self.waiting.clear()
        told = [(settle, not keeps) for settle in self.unsettled.values()]
        self.unsettled.clear()
        self._count(told)
        return told

    def _count(self, told: list[tuple[Settle, bool]]) -> None:
        taken = sum(is_taken for _, is_taken in told)
        self.handed_over += taken
        self.came_back += len(told) - taken


class Fate(Enum):
    """What the new worker does with the connections that it holds when the passage ends."""

    BEGIN = auto()
    """The new worker owns them: serve them."""
    DROP = auto()
    """The old worker owns them: close the descriptors, and touch nothing else."""


class Claims(msgspec.Struct, Generic[Item]):
    """The new worker's side: connections that it holds and has not reported as taken, by number."""

    held: dict[int, Item] = msgspec.field(default_factory=dict)
    is_withdrawn: bool = False
    is_mute: bool = False
    """The new worker cannot send any more; end of file shows what that means for the held connections."""

    def hold(self, number: int, item: Item) -> None:
        """Hold the connection of offer `number` until it is reported as taken."""
        self.held[number] = item

    def said(self) -> list[Item]:
        """Return all held connections, which were reported as taken, so that the worker begins with them."""
        return self._release()

    def withdrawn(self) -> None:
        """Note that the old worker has withdrawn: it keeps the connections that are still held here."""
        self.is_withdrawn = True

    def muted(self) -> None:
        """Note that nothing can be sent to the old worker any more."""
        self.is_mute = True

    def ended(self) -> tuple[Fate, list[Item]]:
        """At end of file, return the connections that are still held and what becomes of them."""
        return Fate.DROP if self.is_withdrawn else Fate.BEGIN, self._release()

    def given_up(self) -> list[Item]:
        """Return all held connections, because this side ends the handover: the old worker keeps them."""
        return self._release()

    def _release(self) -> list[Item]:
        items = list(self.held.values())
        self.held.clear()
        return items
