"""Who owns a connection that is on its way from one worker to another. Pure: no socket, no clock.

Of each offer there are two ends. At every moment exactly one of them may serve the connection:

    old: OFFERED ──taken──▶ given away           new: HELD ──said "mine"──▶ TAKEN
         OFFERED ──refused, withdrawn──▶ kept         HELD ──refused──▶ dropped

Between the new one's word and its arrival nobody but the new one serves: it has said "mine" before it
touches the connection, and the old one touches nothing until it has heard. What remains is the end of a
side in the middle:

- The new one ends: all it said lies in the old one's queue and is heard first; it touched nothing else. The
  rest is kept by the old one.
- The old one leaves it at that (the new one is stuck, or the drain deadline is there): it says that it
  withdraws, and from one instant on the new one cannot say anything (`ipc.passage.Passage.withdraw`). The
  new one drops what it could not say that it takes.
- The old one is killed: it ends without having withdrawn, so it has not gone on with anything it had
  offered. The new one takes what it could not say that it takes.
"""

from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import Generic, TypeVar

import msgspec

WINDOW = 64
"""Offers that are not settled at one time. It bounds what a stuck successor can hold up, keeps the messages
within the socket's buffer (`ipc.passage.INLINE_LIMIT`), and is enough to keep both sides busy: a slice of
either's work is less."""

Turn = Callable[[], None]
Settle = Callable[[bool], None]
Item = TypeVar("Item")


class Offers(msgspec.Struct):
    """The old worker's side: who waits for a turn, and what was offered and not settled."""

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
        """Put `turn` at the end of the queue. True: there is room for all that wait, this one included."""
        if not self.is_open:
            return False
        self.waiting.append(turn)
        return len(self.unsettled) + len(self.waiting) <= WINDOW

    def next_turn(self) -> Turn | None:
        """Return whose turn it is, taken from the queue; None when nobody waits or there is no room."""
        return self.waiting.popleft() if self.waiting and self.has_room else None

    def offer(self, settle: Settle) -> int:
        """Number a new offer. There must be room."""
        assert self.has_room
        self._last += 1
        self.unsettled[self._last] = settle
        return self._last

    def retract(self, number: int) -> None:
        """Forget an offer that could not be sent."""
        del self.unsettled[number]

    def settle(self, taken: Iterable[int], refused: Iterable[int]) -> list[tuple[Settle, bool]]:
        """Return whom to tell what. A number that is unknown, or was settled, is passed over."""
        told: list[tuple[Settle, bool]] = []
        for numbers, is_taken in ((taken, True), (refused, False)):
            for number in numbers:
                settle = self.unsettled.pop(number, None)
                if settle is not None:
                    told.append((settle, is_taken))
        self._count(told)
        return told

    def forget_waiting(self) -> None:
        """Nobody here gets another turn: they go elsewhere. What is offered can still be settled."""
        self.waiting.clear()

    def end(self, *, keeps: bool) -> list[tuple[Settle, bool]]:
        """End it: who waits is forgotten, and what is not settled is kept here, or counts as taken."""
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
    """What becomes of connections that the new worker holds."""

    BEGIN = auto()
    """They are its own: serve them."""
    DROP = auto()
    """They are the old one's: close the descriptors, touch nothing."""


class Claims(msgspec.Struct, Generic[Item]):
    """The new worker's side: what it holds and has not yet said that it takes, by number."""

    held: dict[int, Item] = msgspec.field(default_factory=dict)
    is_withdrawn: bool = False
    is_mute: bool = False
    """Nothing can be said any more; what this means is known at end of file."""

    def hold(self, number: int, item: Item) -> None:
        self.held[number] = item

    def said(self) -> list[Item]:
        """It was said that all that is held is taken: return that, to begin with."""
        return self._release()

    def withdrawn(self) -> None:
        self.is_withdrawn = True

    def muted(self) -> None:
        self.is_mute = True

    def ended(self) -> tuple[Fate, list[Item]]:
        """End of file: return what becomes of what is still held."""
        return Fate.DROP if self.is_withdrawn else Fate.BEGIN, self._release()

    def given_up(self) -> list[Item]:
        """This side ends it: the old one will see end of file, and keeps what is returned."""
        return self._release()

    def _release(self) -> list[Item]:
        items = list(self.held.values())
        self.held.clear()
        return items
