"""The metrics page, read back with the parsers of prometheus-client."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from asgireload.admin.metrics import MetricsPage
from asgireload.ipc.scoreboard import LATENCY_BOUNDS, Field, Limit, Record
from tests.admin.admin_fakes import (
    NOW,
    FakePort,
    make_certificate,
    make_counters,
    make_reload,
    make_status,
    make_worker,
)

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"
WORKER = {"slot": "0", "role": "worker", "generation": "7"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: FakePort) -> Samples:
    """Every sample by name and labels, the same in both formats."""
    page = MetricsPage(port.metrics)
    plain, _ = page.render("")
    open_metrics, _ = page.render(OPEN_METRICS)
    samples = dict(_samples(parse_plain(plain.decode())))
    strict = dict(_samples(parse_open(open_metrics.decode())))
    assert {key[0] for key in strict} >= {key[0] for key in samples}
    return samples


def _samples(families: object) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    seen = set()
    for family in families:  # type: ignore[attr-defined]
        assert family.name.startswith("asgireload_")
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in seen
            seen.add(key)
            yield key, sample.value


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"asgireload_{name}", frozenset(labels.items())]


def has(samples: Samples, name: str) -> bool:
    return any(key[0] == f"asgireload_{name}" for key in samples)


def test_the_state_of_the_server() -> None:
    samples = scrape(FakePort(make_status(state="degraded", workers_ready=1, workers_old=3)))
    assert value(samples, "workers_wanted", role="worker") == 2
    assert value(samples, "workers_ready", role="worker") == 1
    assert value(samples, "workers_old", role="worker") == 3
    assert value(samples, "serving_generation") == 7
    assert value(samples, "state", asgireload_state="degraded") == 1
    assert value(samples, "state", asgireload_state="serving") == 0
    assert value(samples, "worker_restarts_total", role="worker") == 1
    assert value(samples, "start_time_seconds") == make_status().started_at
    build = next(dict(labels) for name, labels in samples if name == "asgireload_build_info")
    assert build["version"] == "0.1.0"
    assert build["python_version"].startswith("3.")


def test_nothing_is_made_up_before_the_first_generation_and_reload() -> None:
    samples = scrape(FakePort(make_status(generation=None, workers=(), state="starting")))
    assert not has(samples, "serving_generation")
    assert not has(samples, "last_reload_success")
    assert not has(samples, "worker_up")
    assert value(samples, "reload_in_progress") == 0


def test_counts_of_a_slot() -> None:
    port = FakePort()
    port.counters = (
        make_counters(
            0, CONNECTIONS=5, WEBSOCKETS=2, EXCHANGES=3, CONNECTIONS_TOTAL=50, WEBSOCKETS_TOTAL=20,
            REQUESTS_TOTAL=1000, RESPONSES_2XX_TOTAL=900, RESPONSES_4XX_TOTAL=60,
            RESPONSES_5XX_TOTAL=40, BYTES_RECEIVED_TOTAL=10_000, BYTES_SENT_TOTAL=2**60,
            APP_ERRORS_TOTAL=7, PEER_ERRORS_TOTAL=8, CUT_TOTAL=9,
        ),
        make_counters(1, 6, REQUESTS_TOTAL=11),
    )  # fmt: skip
    samples = scrape(port)
    for name, expected in {
        "open_connections": 5,
        "open_websockets": 2,
        "exchanges_in_flight": 3,
        "connections_total": 50,
        "websockets_total": 20,
        "requests_total": 1000,
        "received_bytes_total": 10_000,
        "sent_bytes_total": 2**60,
        "app_errors_total": 7,
        "peer_errors_total": 8,
        "cut_exchanges_total": 9,
    }.items():
        assert value(samples, name, **WORKER) == expected
    assert value(samples, "responses_total", **WORKER, status_class="2xx") == 900
    assert value(samples, "responses_total", **WORKER, status_class="5xx") == 40
    assert value(samples, "requests_total", slot="1", role="worker", generation="6") == 11


def test_every_limit_is_counted_from_zero() -> None:
    record = Record.detached()
    record.count_limit(Limit.BODY)
    record.count_limit(Limit.WS_CLOSE_TIMEOUT)
    port = FakePort()
    port.counters = (type(make_counters(0))(slot=0, generation=7, values=record.snapshot()),)
    samples = scrape(port)
    hit = {Limit.BODY, Limit.WS_CLOSE_TIMEOUT}
    for limit in Limit:
        name = limit.name.lower()
        assert value(samples, "limits_hit_total", **WORKER, limit=name) == (limit in hit)


def test_latency_is_a_cumulative_histogram() -> None:
    record = Record.detached()
    durations = (0.0004, 0.001, 0.02, 0.7, 60.0)
    for duration in durations:
        record.observe_response(200, int(duration * 1e9))
    port = FakePort()
    counters = make_counters(0)
    port.counters = (type(counters)(slot=0, generation=7, values=record.snapshot()),)
    samples = scrape(port)
    name = "request_duration_seconds"
    for bound in LATENCY_BOUNDS:
        below = sum(duration <= bound for duration in durations)
        assert value(samples, f"{name}_bucket", **WORKER, le=str(bound)) == below
    assert value(samples, f"{name}_bucket", **WORKER, le="+Inf") == len(durations)
    assert value(samples, f"{name}_count", **WORKER) == len(durations)
    assert value(samples, f"{name}_sum", **WORKER) == pytest.approx(sum(durations))
    assert record.values[Field.RESPONSES_2XX_TOTAL] == len(durations)


def test_reloads_and_exits_are_counted_from_zero() -> None:
    """A label value that shows up only with its first event hides that event from `increase()`."""
    port = FakePort(make_status(last_reload=make_reload(3, "failed", duration=2.5)))
    port.reload_outcomes = {"committed": 2, "failed": 1, "unheard-of": 4}
    port.worker_exits = {"clean": 6, "oom": 1}
    samples = scrape(port)
    assert value(samples, "reloads_total", outcome="committed") == 2
    assert value(samples, "reloads_total", outcome="reverted") == 0
    assert value(samples, "reloads_total", outcome="unheard-of") == 4
    assert value(samples, "worker_exits_total", role="worker", kind="clean") == 6
    assert value(samples, "worker_exits_total", role="worker", kind="stalled") == 0
    assert value(samples, "worker_exits_total", role="worker", kind="oom") == 1
    assert value(samples, "last_reload_success") == 0
    assert value(samples, "last_reload_duration_seconds") == 2.5
    assert value(samples, "last_reload_timestamp_seconds") == make_reload().ended_at


def test_two_workers_of_one_slot_make_one_series() -> None:
    """A recycled slot has an old and a new worker of the same generation for a while."""
    workers = (
        make_worker(0, state="draining", heartbeat_age=3.0, rss_bytes=100),
        make_worker(0, state="ready", heartbeat_age=0.5, rss_bytes=50),
        make_worker(1, state="booting", heartbeat_age=None, rss_bytes=None),
        make_worker(1, state="ready", generation=6),
    )
    samples = scrape(FakePort(make_status(workers=workers)))
    assert value(samples, "worker_up", **WORKER) == 1
    assert value(samples, "worker_heartbeat_age_seconds", **WORKER) == 3.0
    assert value(samples, "worker_resident_memory_bytes", **WORKER) == 150
    assert value(samples, "worker_up", slot="1", role="worker", generation="7") == 0
    assert value(samples, "worker_up", slot="1", role="worker", generation="6") == 1


def test_every_scrape_takes_a_fresh_snapshot() -> None:
    port = FakePort()
    page = MetricsPage(port.metrics)
    before, _ = page.render("")
    port.status_value = make_status(workers_wanted=9)
    after, _ = page.render("")
    assert before != after


@given(st.text(max_size=12), st.sampled_from(["version", "escaping", "q"]))
def test_an_odd_accept_header_still_gets_metrics(value: str, parameter: str) -> None:
    page = MetricsPage(FakePort().metrics)
    text, content_type = page.render(f"application/openmetrics-text;{parameter}={value}")
    assert b"asgireload_workers_wanted" in text
    assert b"\n" not in content_type


def test_certificates_tell_when_they_expire_and_whether_those_on_disk_fit() -> None:
    certificates = (make_certificate(), make_certificate(certfile="b.pem", not_after=NOW))
    samples = scrape(FakePort(make_status(certificates=certificates)))
    name = "certificate_not_after_timestamp_seconds"
    assert value(samples, name, certfile="shop.pem") == NOW + 86400
    assert value(samples, name, certfile="b.pem") == NOW
    assert value(samples, "certificate_loaded_timestamp_seconds", certfile="b.pem") == NOW - 60
    assert value(samples, "certificates_usable") == 1
    broken = make_status(certificates=certificates, certificates_error="no such file")
    assert value(scrape(FakePort(broken)), "certificates_usable") == 0


def test_without_tls_there_is_nothing_about_certificates() -> None:
    samples = scrape(FakePort(make_status()))
    assert not any("certificate" in name for name, _ in samples)
