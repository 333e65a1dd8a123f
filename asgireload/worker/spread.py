"""Several workers that follow side by side, as one."""

from functools import partial

from asgireload.ipc.parcels import Parcel
from asgireload.worker.offers import Settle, Turn
from asgireload.worker.sender import Sender


class Spread:
    """Workers that follow side by side, as one (a `Successor`): each in turn gets a connection.

    It does not change. When one of them takes nothing more, or another is named, a new one takes its place, and
    connections ask that one for their turn.
    """

    def __init__(self, senders: list[Sender]) -> None:
        self.senders = senders
        self._next = 0
        self._giving: Sender | None = None
        self._is_retired = False

    @property
    def is_spent(self) -> bool:
        return self._is_retired or all(sender.is_spent for sender in self.senders)

    def enlist(self, turn: Turn) -> bool:
        for _ in self.senders:
            sender = self.senders[self._next]
            self._next = (self._next + 1) % len(self.senders)
            if sender.is_open:
                return sender.enlist(partial(self._give, sender, turn))
        return False

    def take(self, descriptor: int, parcel: Parcel, settled: Settle) -> bool:
        return self._giving is not None and self._giving.take(descriptor, parcel, settled)

    def retire(self) -> None:
        """Give no more turns. What was offered can still be settled."""
        self._is_retired = True
        for sender in self.senders:
            sender.retire()

    def _give(self, sender: Sender, turn: Turn) -> None:
        self._giving = sender
        try:
            turn()
        finally:
            self._giving = None
