"""Assigns scoreboard records to children, and keeps the counts of children that are gone."""

from collections.abc import Iterable
from typing import NamedTuple

from asgireload.ipc.scoreboard import CAPACITY, Record, Scoreboard
from asgireload.supervisor.counter_totals import CounterTotals, Key, Values


class HeldRecord(NamedTuple):
    """A record that is assigned to a child as long as the child lives."""

    number: int
    """The record's index on the scoreboard."""
    record: Record
    key: Key
    """The key under which the child's counts are summed after its exit."""


class ScoreboardRecords:
    """Assigns records to children and takes them back. The caller closes the scoreboard."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self._scoreboard = scoreboard
        self._free = list(range(CAPACITY - 1, -1, -1))
        self._ended = CounterTotals()

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def take(self, key: Key) -> HeldRecord:
        """Return a cleared record. Call only if `has_room`."""
        index = self._free.pop()
        record = self._scoreboard.record(index)
        record.clear()
        return HeldRecord(index, record, key)

    def give_back(self, held: HeldRecord) -> None:
        """Keep the counts, and clear the record, because workers compare their connection counts with it."""
        self._ended.add_ended(held.key, held.record.snapshot())
        held.record.clear()
        self._free.append(held.number)

    def totals(self, living: Iterable[HeldRecord]) -> dict[Key, Values]:
        """Return the sums of ended children, with the records of living children added."""
        return self._ended.totals((held.key, held.record.snapshot()) for held in living)
