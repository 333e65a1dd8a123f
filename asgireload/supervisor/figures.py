"""The figures of one generation that a gate judges: values and sums of them, no I/O.

A gate gets the figures of the new generation and of the one before it, over the same window of time: since the
running stage began. Traffic comes from the counts of workers in the scoreboard. It is read and summed only while
the gate of the running stage needs it (`Gate.reads_traffic`).
"""

from collections.abc import Mapping, Sequence

import msgspec

from asgireload.ipc.scoreboard import LATENCY_BOUNDS, Field
from asgireload.supervisor.counter_totals import Key

_BUCKETS = slice(Field.LATENCY_BUCKET_0, Field.LATENCY_BUCKET_0 + len(LATENCY_BOUNDS) + 1)


class Traffic(msgspec.Struct, frozen=True):
    """What the workers of one generation have served. Every value only grows."""

    requests: int = 0
    """HTTP requests handed to the application."""
    errors_5xx: int = 0
    app_errors: int = 0
    """Exceptions that the application raised to the server."""
    latency_ns: int = 0
    """Sum over all responses, in nanoseconds."""
    latency_buckets: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS) + 1)
    """Responses by duration, not cumulative, bounded by `LATENCY_BOUNDS`; the last bucket counts slower ones."""

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

        Never negative: when a generation is merged with older ones (`counter_totals`), its sums shrink.
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
    """Return the traffic of each generation, summed over its slots.

    `totals` are values of scoreboard records by role, slot and generation, including workers that have ended.
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
    """The counts at the start of the running stage, by generation; figures are differences from these."""

    opened_at: float
    """Monotonic seconds."""
    deaths: dict[int, int]
    traffic_from: float | None = None
    """When traffic was first read; None before that, or when no gate reads it."""
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
        """The seconds over which traffic was counted."""
        return self.traffic_until - self.traffic_from if self.traffic_from is not None else 0.0

    def traffic_of(self, generation: int) -> Traffic | None:
        """Return what the generation has served in the window; None when traffic was not read."""
        if self.traffic_from is None:
            return None
        now = self.traffic_now.get(generation, Traffic())
        return now.since(self.traffic_before.get(generation, Traffic()))


class GenerationFigures(msgspec.Struct, frozen=True):
    """One generation, as a gate judges it. Times are monotonic seconds."""

    generation: int
    opened_at: float
    """When the window opened."""
    seen_at: float
    """When these figures were taken."""
    is_loaded: bool = False
    """A template can fork workers of this generation."""
    is_broken: bool = False
    """The generation shows a failure instead of the application."""
    changed_at: float = float("-inf")
    """When a file watcher last saw files change."""
    can_start: bool = False
    """A template of this generation exists, or a worker of it boots or serves."""
    places: int = 0
    """Slots of the server that are not being scaled away."""
    serving: int = 0
    """Slots that serve this generation and change to no other."""
    changing: int = 0
    """Slots that are changing to this generation."""
    ready: int = 0
    """Workers of this generation that accept connections."""
    others_accepting: int = 0
    """Workers of all other generations that have not stopped accepting."""
    deaths: int = 0
    """Workers of this generation that ended in the window without being told to, whether ready or not."""
    traffic: Traffic | None = None
    """None when traffic was not read yet, or no gate reads it."""
    traffic_seconds: float = 0.0
    """The seconds over which `traffic` was counted."""
