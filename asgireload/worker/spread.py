"""Spread connections over several handover targets."""

from functools import partial

from asgireload.ipc.parcels import Parcel
from asgireload.worker.offers import Settle, Turn
from asgireload.worker.sender import HandoverSender


class Spread:
    """Several handover targets that act as one `Successor`: each in turn gets a connection.

    The set of targets is fixed. When a target takes nothing more, or another is named, `Handover` makes a new
    `Spread`, and connections ask the new one for a turn.
    """

    def __init__(self, senders: list[HandoverSender]) -> None:
        self.senders = senders
        self._next = 0
        self._giving: HandoverSender | None = None
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
        """Give no more turns. Connections that were offered can still be settled. Idempotent."""
        self._is_retired = True
        for sender in self.senders:
            sender.retire()

    def _give(self, sender: HandoverSender, turn: Turn) -> None:
        self._giving = sender
        try:
            turn()
        finally:
            self._giving = None
