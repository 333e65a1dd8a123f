"""What is known of one generation when a gate judges it: values and sums of them, no I/O.

A gate sees the figures of the generation that comes and of the one that it follows, over the same window of time:
the time since the running stage began. Traffic is what workers count in the scoreboard. It is read and summed only
while the gate of the running stage reads it (`Gate.reads_traffic`).
"""

from collections.abc import Mapping, Sequence

import msgspec

from asgireload.ipc.scoreboard import LATENCY_BOUNDS, Field
from asgireload.supervisor.counter_totals import Key

_BUCKETS = slice(Field.LATENCY_BUCKET_0, Field.LATENCY_BUCKET_0 + len(LATENCY_BOUNDS) + 1)


class Traffic(msgspec.Struct, frozen=True):
    """What the workers of one generation have served. Every number only grows."""

    requests: int = 0
    """HTTP requests handed to the application."""
    errors_5xx: int = 0
    app_errors: int = 0
    """Exceptions that left the application."""
    latency_ns: int = 0
    """Sum over all responses, in nanoseconds."""
    latency_buckets: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS) + 1)
    """Responses by duration, not cumulative, bounded by `LATENCY_BOUNDS`; the last holds what is slower."""

    def plus(self, other: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + other.requests,
            self.errors_5xx + other.errors_5xx,
            self.app_errors + other.app_errors,
            self.latency_ns + other.latency_ns,
            tuple(map(sum, zip(self.latency_buckets, other.latency_buckets, strict=True))),
        )

    def since(self, before: "Traffic") -> "Traffic":
        """Return what was added since `before`.

        Never negative: the counts of a generation that is no longer kept apart are lost from its sum.
        """
        return Traffic(
            max(0, self.requests - before.requests),
            max(0, self.errors_5xx - before.errors_5xx),
            max(0, self.app_errors - before.app_errors),
            max(0, self.latency_ns - before.latency_ns),
            tuple(
                max(0, now - then)
                for now, then in zip(self.latency_buckets, before.latency_buckets, strict=True)
            ),
        )


def sum_traffic(totals: Mapping[Key, Sequence[int]]) -> dict[int, Traffic]:
    """Return the traffic of each generation, all its slots together.

    `totals`: values of a scoreboard record by role, slot and generation, with those of workers that have ended.
    """
    sums: dict[int, Traffic] = {}
    for (_, _, generation), values in totals.items():
        traffic = Traffic(
            values[Field.REQUESTS_TOTAL],
            values[Field.RESPONSES_5XX_TOTAL],
            values[Field.APP_ERRORS_TOTAL],
            values[Field.LATENCY_NS_TOTAL],
            tuple(values[_BUCKETS]),
        )
        known = sums.get(generation)
        sums[generation] = traffic if known is None else known.plus(traffic)
    return sums


class Window(msgspec.Struct):
    """What was counted when the running stage began, by generation: figures are differences to it."""

    opened_at: float
    """Monotonic seconds."""
    deaths: dict[int, int]
    traffic_from: float | None = None
    """When traffic was read first; None: not yet, or no gate reads it."""
    traffic_until: float = 0.0
    traffic_before: dict[int, Traffic] = msgspec.field(default_factory=dict)
    traffic_now: dict[int, Traffic] = msgspec.field(default_factory=dict)

    def note_traffic(self, traffic: dict[int, Traffic], now: float) -> None:
        if self.traffic_from is None:
            self.traffic_from = now
            self.traffic_before = traffic
        self.traffic_until = now
        self.traffic_now = traffic

    @property
    def traffic_seconds(self) -> float:
        """How long traffic was counted."""
        return self.traffic_until - self.traffic_from if self.traffic_from is not None else 0.0

    def traffic_of(self, generation: int) -> Traffic | None:
        """Return what the generation has served in the window; None: traffic was not read."""
        if self.traffic_from is None:
            return None
        now = self.traffic_now.get(generation, Traffic())
        return now.since(self.traffic_before.get(generation, Traffic()))


class GenerationFigures(msgspec.Struct, frozen=True):
    """One generation as a gate sees it. Times are monotonic seconds."""

    generation: int
    opened_at: float
    """When the window opened."""
    seen_at: float
    """Now."""
    is_loaded: bool = False
    """A template can fork workers of it."""
    is_broken: bool = False
    """It shows a failure instead of the application."""
    changed_at: float = float("-inf")
    """When files were seen to change last, under a watcher."""
    can_start: bool = False
    """A template of it is there or loads, or a worker of it boots or serves."""
    places: int = 0
    """Slots of the server that are to stay."""
    serving: int = 0
    """Slots that serve it and change to nothing else."""
    changing: int = 0
    """Slots that are to serve it and do not yet."""
    ready: int = 0
    """Its workers that accept connections."""
    others_accepting: int = 0
    """Workers of all other generations that have not stopped accepting."""
    deaths: int = 0
    """Its workers that ended in the window without being told to, ready or not."""
    traffic: Traffic | None = None
    """None: not read yet, or no gate reads it."""
    traffic_seconds: float = 0.0
    """How long `traffic` was counted."""
