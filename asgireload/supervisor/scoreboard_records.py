"""Which child has which record of the scoreboard, and what those have counted that are gone."""

from collections.abc import Iterable
from typing import NamedTuple

from asgireload.ipc.scoreboard import CAPACITY, Record, Scoreboard
from asgireload.supervisor.counter_totals import CounterTotals, Key, Values


class HeldRecord(NamedTuple):
    """A record that belongs to a child as long as it lives."""

    number: int
    """Its index on the scoreboard."""
    record: Record
    key: Key
    """What the child's counts are added to when it is gone."""


class ScoreboardRecords:
    """Gives records to children, and takes them back. The scoreboard is the caller's to close."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._free = list(range(CAPACITY - 1, -1, -1))
        self._ended = CounterTotals()

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def take(self, key: Key) -> HeldRecord:
        """Return a cleared record. Call only when there is room."""
        index = self._free.pop()
        record = self._scoreboard.record(index)
        record.clear()
        return HeldRecord(index, record, key)

    def give_back(self, held: HeldRecord) -> None:
        """Keep what was counted there, and clear the record: others compare their connections with it."""
        self._ended.add_ended(held.key, held.record.snapshot())
        held.record.clear()
        self._free.append(held.number)

    def totals(self, living: Iterable[HeldRecord]) -> dict[Key, Values]:
        """Return the sums of those that are gone with the records of those that live."""
        return self._ended.totals((held.key, held.record.snapshot()) for held in living)
