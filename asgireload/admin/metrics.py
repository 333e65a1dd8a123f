"""The state of the server as Prometheus metrics.

`ServerCollector` turns one MetricsSnapshot into metric families; `MetricsPage.render` writes them in the format
that the scraper accepts. The supervisor provides the values, and keeps counters from decreasing when a worker ends.

Series are labelled by slot, role and generation, never by pid, so that the number of series is bounded.
"""

import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from asgireload.admin.port import MetricsSnapshot, SlotCounters, StatusSnapshot, WorkerSnapshot
from asgireload.ipc.scoreboard import LATENCY_BOUNDS, Field, Limit

STATES = ("starting", "serving", "degraded", "failing", "reloading", "stopping")
RELOAD_OUTCOMES = ("committed", "failed", "reverted", "superseded", "abandoned")
WORKER_EXITS = ("clean", "discarded", "crashed", "killed", "stalled")
WORKER_LABELS = ("slot", "role", "generation")
ROLE = "worker"

# (name, help, field). A gauge and a counter cannot share a family name, hence `open_…`.
_GAUGES = (
    ("open_connections", "Open connections, WebSockets included.", Field.CONNECTIONS),
    ("open_websockets", "Open WebSocket connections.", Field.WEBSOCKETS),
    ("exchanges_in_flight", "HTTP exchanges whose response has not ended.", Field.EXCHANGES),
)
_COUNTERS = (
    ("connections", "Connections accepted.", Field.CONNECTIONS_TOTAL),
    ("websockets", "WebSocket connections opened.", Field.WEBSOCKETS_TOTAL),
    ("requests", "HTTP requests handed to the application.", Field.REQUESTS_TOTAL),
    ("received_bytes", "Bytes read from clients.", Field.BYTES_RECEIVED_TOTAL),
    ("sent_bytes", "Bytes written to clients.", Field.BYTES_SENT_TOTAL),
    ("app_errors", "Exceptions that left the application.", Field.APP_ERRORS_TOTAL),
    ("peer_errors", "Connections ended because of malformed bytes.", Field.PEER_ERRORS_TOTAL),
    (
        "connections_handed_over",
        "Connections that went on in another worker when theirs drained.",
        Field.HANDED_OVER_TOTAL,
    ),
    (
        "connections_taken_over",
        "Connections that came from a draining worker.",
        Field.TAKEN_OVER_TOTAL,
    ),
    ("cut_exchanges", "Exchanges cancelled at a drain deadline.", Field.CUT_TOTAL),
)
_RESPONSE_CLASSES = (
    ("1xx", Field.RESPONSES_1XX_TOTAL),
    ("2xx", Field.RESPONSES_2XX_TOTAL),
    ("3xx", Field.RESPONSES_3XX_TOTAL),
    ("4xx", Field.RESPONSES_4XX_TOTAL),
    ("5xx", Field.RESPONSES_5XX_TOTAL),
)


class ServerCollector(Collector):
    """A collector that takes a new snapshot for each scrape."""

    def __init__(self, take_snapshot: Callable[[], MetricsSnapshot]) -> None:
        self._take_snapshot = take_snapshot

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registration does not take a snapshot of a server that is starting."""
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshot = self._take_snapshot()
        yield from _server_families(snapshot.status)
        yield from _reload_families(snapshot)
        yield from _certificate_families(snapshot.status)
        yield from _worker_families(snapshot.status.workers)
        yield from _counter_families(snapshot.counters)


class MetricsPage:
    """The metrics registry of one server, and its text form."""

    def __init__(self, take_snapshot: Callable[[], MetricsSnapshot]) -> None:
        # The default registry belongs to the program that embeds the server.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ServerCollector(take_snapshot))

    def render(self, accept: str) -> tuple[bytes, bytes]:
        """Return the text and its content type, in OpenMetrics or Prometheus format as `accept` asks."""
        try:
            encode, content_type = choose_encoder(accept)
            header = content_type.encode("ascii")
        except (TypeError, ValueError):
            # The Accept header names an invalid version or escaping; every scraper reads the default format.
            encode, content_type = choose_encoder("")
            header = content_type.encode("ascii")
        return encode(self._registry), header


def _server_families(status: StatusSnapshot) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "asgireload_build",
        "Version of the server and of the Python that runs its supervisor.",
        value={
            "version": status.version,
            "python_version": platform.python_version(),
            "python_implementation": platform.python_implementation(),
        },
    )
    yield StateSetMetricFamily(
        "asgireload_state",
        "State of the server: 1 for the one it is in.",
        value={state: state == status.state for state in STATES},
    )
    yield GaugeMetricFamily(
        "asgireload_start_time_seconds",
        "When the supervisor started, in seconds since the epoch.",
        value=status.started_at,
    )
    if status.generation is not None:
        yield GaugeMetricFamily(
            "asgireload_serving_generation", "The generation that serves.", value=status.generation
        )
    for name, documentation, value in (
        ("workers_wanted", "Workers asked for.", status.workers_wanted),
        ("workers_ready", "Workers that may receive traffic.", status.workers_ready),
        ("workers_old", "Workers that drain.", status.workers_old),
    ):
        family = GaugeMetricFamily(f"asgireload_{name}", documentation, labels=("role",))
        family.add_metric((ROLE,), value)
        yield family


def _reload_families(snapshot: MetricsSnapshot) -> Iterator[Metric]:
    status = snapshot.status
    yield _labelled_counter(
        "reloads", "Reloads by verdict.", "outcome", RELOAD_OUTCOMES, snapshot.reload_outcomes
    )
    yield GaugeMetricFamily(
        "asgireload_reload_in_progress",
        "1 while a reload runs.",
        value=int(status.current_reload is not None),
    )
    last = status.last_reload
    if last is not None:
        yield GaugeMetricFamily(
            "asgireload_last_reload_success",
            "1 when the last reload was committed, 0 when it was not.",
            value=int(last.outcome == "committed"),
        )
        if last.ended_at is not None:
            yield GaugeMetricFamily(
                "asgireload_last_reload_timestamp_seconds",
                "Time of the last verdict, in seconds since the epoch.",
                value=last.ended_at,
            )
        if last.duration is not None:
            yield GaugeMetricFamily(
                "asgireload_last_reload_duration_seconds",
                "Time from the start of the last reload to its verdict.",
                value=last.duration,
            )
    exits = CounterMetricFamily(
        "asgireload_worker_exits", "Workers that ended, by kind.", labels=("role", "kind")
    )
    for kind in _known_first(WORKER_EXITS, snapshot.worker_exits):
        exits.add_metric((ROLE, kind), snapshot.worker_exits.get(kind, 0))
    yield exits
    failures = CounterMetricFamily(
        "asgireload_worker_shutdown_failures",
        "Workers whose lifespan shutdown failed or was not completed.",
        labels=("role",),
    )
    failures.add_metric((ROLE,), snapshot.shutdown_failures)
    yield failures
    restarts = CounterMetricFamily(
        "asgireload_worker_restarts", "Workers replaced after a crash.", labels=("role",)
    )
    restarts.add_metric((ROLE,), status.restarts_total)
    yield restarts


def _certificate_families(status: StatusSnapshot) -> Iterator[Metric]:
    """Yield nothing without TLS: a gauge at 0 would look like a failure."""
    if not status.certificates and status.certificates_error is None:
        return
    ends = GaugeMetricFamily(
        "asgireload_certificate_not_after_timestamp_seconds",
        "When a certificate that clients are shown expires, in seconds since the epoch.",
        labels=("certfile",),
    )
    loads = GaugeMetricFamily(
        "asgireload_certificate_loaded_timestamp_seconds",
        "When a certificate that clients are shown was read, in seconds since the epoch.",
        labels=("certfile",),
    )
    for certificate in status.certificates:
        ends.add_metric((certificate.certfile,), certificate.not_after)
        loads.add_metric((certificate.certfile,), certificate.loaded_at)
    yield ends
    yield loads
    yield GaugeMetricFamily(
        "asgireload_certificates_usable",
        "1 when the certificates on disk are those that clients are shown, 0 when they do not fit.",
        value=int(status.certificates_error is None),
    )


def _worker_families(workers: tuple[WorkerSnapshot, ...]) -> Iterator[Metric]:
    # A slot that is recycled has two workers of one generation, but each series must be written once.
    by_series: defaultdict[tuple[str, str, str], list[WorkerSnapshot]] = defaultdict(list)
    for worker in workers:
        by_series[_worker_labels(worker)].append(worker)

    up = _worker_gauge("worker_up", "1 when the slot has a ready worker of this generation.")
    heartbeat = _worker_gauge(
        "worker_heartbeat_age_seconds", "Time since the loop of the worker last turned."
    )
    memory = _worker_gauge("worker_resident_memory_bytes", "Resident memory of the workers.")
    for labels, group in by_series.items():
        up.add_metric(labels, int(any(worker.state == "ready" for worker in group)))
        ages = [worker.heartbeat_age for worker in group if worker.heartbeat_age is not None]
        if ages:
            heartbeat.add_metric(labels, max(ages))
        sizes = [worker.rss_bytes for worker in group if worker.rss_bytes is not None]
        if sizes:
            memory.add_metric(labels, sum(sizes))
    yield up
    yield heartbeat
    yield memory


def _counter_families(counters: tuple[SlotCounters, ...]) -> Iterator[Metric]:
    for name, documentation, field in _GAUGES:
        gauge = _worker_gauge(name, documentation)
        for slot in counters:
            gauge.add_metric(_worker_labels(slot), slot.values[field])
        yield gauge
    for name, documentation, field in _COUNTERS:
        counter = CounterMetricFamily(f"asgireload_{name}", documentation, labels=WORKER_LABELS)
        for slot in counters:
            counter.add_metric(_worker_labels(slot), slot.values[field])
        yield counter
    responses = CounterMetricFamily(
        "asgireload_responses",
        "HTTP responses by class of status.",
        labels=(*WORKER_LABELS, "status_class"),
    )
    latency = HistogramMetricFamily(
        "asgireload_request_duration_seconds",
        "Time from the head of a request to the end of its response.",
        labels=WORKER_LABELS,
    )
    limits = CounterMetricFamily(
        "asgireload_limits_hit",
        "Times that a client ran into a limit.",
        labels=(*WORKER_LABELS, "limit"),
    )
    for slot in counters:
        labels = _worker_labels(slot)
        for limit in Limit:
            limits.add_metric((*labels, limit.name.lower()), slot.values[Field.LIMIT_0 + limit])
        for status_class, field in _RESPONSE_CLASSES:
            responses.add_metric((*labels, status_class), slot.values[field])
        latency.add_metric(
            labels,
            buckets=_cumulative_buckets(slot.values),
            sum_value=slot.values[Field.LATENCY_NS_TOTAL] / 1e9,
        )
    yield responses
    yield limits
    yield latency


def _cumulative_buckets(values: tuple[int, ...]) -> list[tuple[str, float]]:
    """Return cumulative buckets: the scoreboard counts a response in one bucket, Prometheus also in all above."""
    first = Field.LATENCY_BUCKET_0
    counts = accumulate(values[first : first + len(LATENCY_BOUNDS) + 1])
    bounds = [*(str(bound) for bound in LATENCY_BOUNDS), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]


def _labelled_counter(
    name: str, documentation: str, label: str, known: tuple[str, ...], counts: dict[str, int]
) -> Metric:
    family = CounterMetricFamily(f"asgireload_{name}", documentation, labels=(label,))
    for key in _known_first(known, counts):
        family.add_metric((key,), counts.get(key, 0))
    return family


def _known_first(known: tuple[str, ...], counts: dict[str, int]) -> list[str]:
    """Return `known` label values and then others. Known ones are always exported, at 0 if need be, so that an
    alert on a rate sees the first event."""
    return [*known, *sorted(set(counts) - set(known))]


def _worker_gauge(name: str, documentation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"asgireload_{name}", documentation, labels=WORKER_LABELS)


def _worker_labels(item: WorkerSnapshot | SlotCounters) -> tuple[str, str, str]:
    return (str(item.slot), item.role, str(item.generation))
