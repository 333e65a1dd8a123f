"""Counters that outlive children: sums by role, slot and generation. Pure.

A worker's record is reused after its exit, so its counts are added to a sum first. The sums of old generations are
later merged into generation 0, so that a server which reloads every minute does not grow its metrics without bound,
and no total decreases.
"""

from collections.abc import Iterable, Sequence

from asgireload.ipc.scoreboard import FIELD_COUNT, Field

GENERATIONS_KEPT = 4
MERGED = 0
"""The number under which old generations are merged."""

_GAUGES = (
    Field.HEARTBEAT,
    Field.CONNECTIONS,
    Field.WEBSOCKETS,
    Field.EXCHANGES,
    Field.ACCEPTING,
)

Values = tuple[int, ...]
Key = tuple[str, int, int]
"""The name of a role, a slot and a generation."""


class CounterTotals:
    def __init__(self) -> None:
        self._base: dict[Key, list[int]] = {}

    def add_ended(self, key: Key, values: Sequence[int]) -> None:
        """Add the counts of a child that has exited. Gauges are dropped."""
        base = self._base.setdefault(key, [0] * FIELD_COUNT)
        for index in range(FIELD_COUNT):
            if index not in _GAUGES:
                base[index] += values[index]
        self._merge_old()

    def _merge_old(self) -> None:
        generations = sorted({generation for _, _, generation in self._base} - {MERGED})
        for role, slot, generation in list(self._base):
            if generation in generations[:-GENERATIONS_KEPT]:
                merged = self._base.setdefault((role, slot, MERGED), [0] * FIELD_COUNT)
                old = self._base.pop((role, slot, generation))
                for index, value in enumerate(old):
                    merged[index] += value

    def totals(self, living: Iterable[tuple[Key, Sequence[int]]]) -> dict[Key, Values]:
        """Return the sums, with the counts of living children added."""
        sums = {key: list(values) for key, values in self._base.items()}
        for key, values in living:
            target = sums.setdefault(key, [0] * FIELD_COUNT)
            for index in range(FIELD_COUNT):
                if index != Field.HEARTBEAT:
                    target[index] += values[index]
        return {key: tuple(values) for key, values in sums.items()}
