"""From what clients noted to figures: losses, lateness, gaps and answers of stale code. Pure."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from benchmarks.common.figures import percentile

from .event_stream import End
from .records import BROKEN, COMPLETION, MOVED, Outcome, Record

STALL = 0.5
"""Seconds beyond the application's own time after which an answer counts as a stall."""
STALE_AFTER = 10.0
"""Seconds after the first answer of a version in which a roll may still let older ones answer. A server that
says, or shows, that its reload is complete is held to that as well."""
BIN = 0.25
"""Seconds of one mark of the time line."""


@dataclass(slots=True)
class Reload:
    """One reload of a trial. Times are seconds of the monotonic clock."""

    version: int
    """What the code answers that it asks for."""
    asked: float
    complete: float | None = None
    """When it was over, as the server's `Completion` tells; None when that was not seen in time, or it failed."""
    verdict: str = ""


@dataclass(slots=True)
class Figures:
    """What one kind of client saw on one server. Times are milliseconds."""

    answered: int = 0
    lost: int = 0
    cut: int = 0
    closed: int = 0
    refused: int = 0
    stalls: int = 0
    stale: int = 0
    moved: int = 0
    """Connections on which another process went on answering."""
    missed: int = 0
    """Numbered events that did not come in their place."""
    twice: int = 0
    """Numbered events that came again."""
    incomplete: int = 0
    """Streams that end by themselves, and did not come whole."""
    p50_ms: float | None = None
    p99_ms: float | None = None
    """Time beyond the application's own."""
    longest_ms: float | None = None
    gap_ms: float | None = None
    """Longest time without an answer to any client of the kind."""
    codes: dict[str, int] = field(default_factory=dict)
    """Close codes of WebSockets, 1006 among them."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Of what was lost, cut or refused."""
    is_absent: bool = False
    """The server does not offer it."""

    @property
    def broken(self) -> int:
        """What a client that never tries again would have to report."""
        return self.lost + self.cut + self.refused


@dataclass(frozen=True, slots=True)
class Mark:
    """One piece of the time line: the latest answer in it, and what broke."""

    at: float
    """Seconds after the start of the trial."""
    late_ms: float
    broken: int
    closed: int


def first_answers(records: Iterable[Record]) -> dict[int, float]:
    """Return when each version answered first."""
    first: dict[int, float] = {}
    for record in records:
        if record.version is not None and record.end < first.get(record.version, float("inf")):
            first[record.version] = record.end
    return first


def is_stale(record: Record, reloads: Iterable[Reload], first: dict[int, float]) -> bool:
    """Return whether the answer came from code that should have been gone when the request was begun."""
    if record.outcome is not Outcome.ANSWERED or record.version is None:
        return False
    for reload in reloads:
        if record.version >= reload.version:
            continue
        if reload.complete is not None and record.asked > reload.complete:
            return True
        seen = first.get(reload.version)
        if seen is not None and record.asked > seen + STALE_AFTER:
            return True
    return False


def longest_gap(ends: Sequence[float]) -> float | None:
    """Return the longest time between two of the sorted times; None for fewer than two."""
    return max((b - a for a, b in itertools.pairwise(ends)), default=None)


def judge_end(end: End, *, is_boundary: bool) -> tuple[Outcome, str]:
    """Return how the end of an event stream counts, and what to say of it.

    Closed is only what a client knows to be whole: the last chunk came, and no event was half there.
    """
    if end is not End.TERMINATED:
        where = "between events" if is_boundary else "inside an event"
        return Outcome.CUT, f"{end.value} {where}, without the last chunk"
    if not is_boundary:
        return Outcome.CUT, "ended properly, but inside an event"
    return Outcome.CLOSED, "ended properly"


def check_numbers(records: Iterable[Record]) -> tuple[int, int]:
    """Return how many numbered events were missed, and how many came twice.

    The numbers of a series begin with 1 and go up by one, across reconnects where a series is a client's whole run.
    One that comes late, behind a higher one, was missed in its place, and is not counted again.
    """
    missed = twice = 0
    seen: dict[str, set[int]] = {}
    highest: dict[str, int] = {}
    for record in records:
        if record.outcome is not Outcome.ANSWERED or record.number is None:
            continue
        numbers = seen.setdefault(record.series, set())
        last = highest.get(record.series, 0)
        if record.number in numbers:
            twice += 1
        elif record.number > last:
            missed += record.number - last - 1
        numbers.add(record.number)
        highest[record.series] = max(last, record.number)
    return missed, twice


def judge(records: Sequence[Record], reloads: Sequence[Reload]) -> dict[str, Figures]:
    """Return the figures of each kind that noted something."""
    first = first_answers(records)
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return {kind: judge_kind(rows, reloads, first) for kind, rows in kinds.items()}


def judge_kind(
    records: Sequence[Record], reloads: Sequence[Reload], first: dict[int, float]
) -> Figures:
    """Return the figures of one kind."""
    counts = Counter(record.outcome for record in records)
    answers = [record for record in records if record.outcome is Outcome.ANSWERED]
    late = sorted(record.late for record in answers)
    gap = longest_gap(sorted(record.end for record in answers))
    ended = [record for record in records if record.outcome in (*BROKEN, Outcome.CLOSED)]
    missed, twice = check_numbers(records)
    broken_answers = counts[Outcome.LOST] + counts[Outcome.CUT]
    return Figures(
        answered=len(answers),
        lost=counts[Outcome.LOST],
        cut=counts[Outcome.CUT],
        closed=counts[Outcome.CLOSED],
        refused=counts[Outcome.REFUSED],
        stalls=sum(seconds > STALL for seconds in late),
        stale=sum(is_stale(record, reloads, first) for record in answers),
        moved=sum(record.detail == MOVED for record in answers),
        missed=missed,
        twice=twice,
        incomplete=broken_answers if records[0].kind == COMPLETION else 0,
        p50_ms=percentile(late, 0.5) * 1e3 if late else None,
        p99_ms=percentile(late, 0.99) * 1e3 if late else None,
        longest_ms=late[-1] * 1e3 if late else None,
        gap_ms=gap * 1e3 if gap is not None else None,
        codes=dict(Counter(record.detail for record in ended if record.detail.isdecimal())),
        reasons=dict(Counter(record.detail for record in ended if record.outcome in BROKEN)),
        is_absent=bool(counts[Outcome.ABSENT]),
    )


COUNTS = (
    "answered", "lost", "cut", "closed", "refused", "stalls", "stale", "moved", "missed", "twice", "incomplete",
)  # fmt: skip


def total(figures: Iterable[Figures]) -> Figures:
    """Return the counts of all kinds together, without times."""
    whole = Figures()
    for one in figures:
        for name in COUNTS:
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
    return whole


def time_line(records: Iterable[Record], began: float) -> list[Mark]:
    """Return the marks of a trial that began then. Pieces in which nothing ended are left out."""
    pieces: dict[int, list[Record]] = {}
    for record in records:
        pieces.setdefault(int((record.end - began) / BIN), []).append(record)
    marks = []
    for place, rows in sorted(pieces.items()):
        answers = [record.late for record in rows if record.outcome is Outcome.ANSWERED]
        broken = sum(record.outcome in BROKEN for record in rows)
        closed = sum(record.outcome is Outcome.CLOSED for record in rows)
        late = max(answers, default=0.0) * 1e3
        marks.append(Mark(round(place * BIN, 2), round(late, 1), broken, closed))
    return marks


AROUND_KILL = 0.3
"""Seconds after a SIGKILL in which the end of a connection can be its work: the kernel closes at once, and a busy
client reads it a little later."""


MOVABLE = ("moving", "with_ids")
"""Kinds whose connection goes to another process in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Kill:
    """One process that was ended with SIGKILL."""

    at: float
    pid: int
    victim: str
    """`successor` or `old`."""
    verdict: str = ""
    """How the reload ended that it fell into."""


def is_explained(record: Record, kills: Iterable[Kill]) -> bool:
    """Return whether what broke was in flight in a process that was killed.

    It was begun before the kill, ended with it, and no other process is known to have had it. Known it is
    once an answer has begun, on a connection that cannot move meanwhile.
    """
    is_known = record.outcome is Outcome.CUT and record.kind not in MOVABLE
    return any(
        record.asked <= kill.at + AROUND_KILL
        and kill.at <= record.end <= kill.at + AROUND_KILL
        and (not is_known or record.worker in (None, kill.pid))
        for kill in kills
    )
