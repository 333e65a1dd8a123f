"""What is made of the answers around each save. Pure.

Versions are whole numbers that grow with each save. Times are monotonic seconds.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

PROBES = (0.001, 0.020, 0.100)
"""Seconds after a save at which somebody asks for the page."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 0.45
"""Between seeing the new page and the next save. Irregular: a fixed one would fall into step with servers that
look once a second."""


@dataclass(frozen=True, slots=True)
class Save:
    version: int
    at: float
    """When the file was closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One question over a connection of its own, with what came of it."""

    asked_at: float
    ended_at: float
    version: int | None = None
    failure: str = ""
    """refused, reset, empty, late or wrong; then there is no version."""
    probe: float | None = None
    """The offset of PROBES it belongs to; None: one of the steady questions."""
    save: int = 0
    """The version of the save that a probe followed."""


@dataclass(frozen=True, slots=True)
class Judgement:
    fresh_ms: tuple[float, ...]
    """Of each save that was noticed: from the close of the file to the first new answer."""
    missed: int
    """Saves that no answer ever showed."""
    failures: dict[str, int]
    """Steady questions without an answer, by kind."""
    stale: int
    """Old answers to steady questions that were asked after a newer one had been seen."""
    probes: dict[float, dict[str, int]]
    """For each offset how many came out as new, old, or as which failure."""
    asked: int


def pauses(count: int, seed: int) -> list[float]:
    """Return the pauses before each save; the same for every server."""
    chance = random.Random(seed)
    return [chance.uniform(SHORTEST_PAUSE, LONGEST_PAUSE) for _ in range(count)]


def judge(saves: Sequence[Save], answers: Sequence[Answer]) -> Judgement:
    """Return latencies and counts of one session."""
    steady = [answer for answer in answers if answer.probe is None]
    good = sorted((a for a in answers if a.version is not None), key=lambda a: a.ended_at)
    fresh, missed = [], 0
    for save in saves:
        seen = next((a for a in good if a.version is not None and a.version >= save.version), None)
        if seen is None:
            missed += 1
        else:
            fresh.append((seen.ended_at - save.at) * 1000)
    return Judgement(
        tuple(fresh),
        missed,
        dict(Counter(answer.failure for answer in steady if answer.failure)),
        _count_stale(steady, good),
        {offset: _probe(offset, answers) for offset in PROBES},
        len(steady),
    )


def _count_stale(steady: Sequence[Answer], good: Sequence[Answer]) -> int:
    """Walk through time once: what was asked, and what had been seen by then."""
    stale, newest, index = 0, -1, 0
    for answer in sorted(steady, key=lambda answer: answer.asked_at):
        while index < len(good) and good[index].ended_at <= answer.asked_at:
            newest = max(newest, good[index].version or 0)
            index += 1
        if answer.version is not None and answer.version < newest:
            stale += 1
    return stale


def _probe(offset: float, answers: Sequence[Answer]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for answer in answers:
        if answer.probe == offset:
            is_new = answer.version is not None and answer.version >= answer.save
            found[answer.failure or ("new" if is_new else "old")] += 1
    return dict(found)
