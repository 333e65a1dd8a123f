"""Counts of requests are gathered in the worker and published now and then."""

from hypothesis import given
from hypothesis import strategies as st

from asgireload.ipc.scoreboard import (
    FIELD_COUNT,
    PUBLISH_INTERVAL_NS,
    Field,
    Record,
)


def test_counts_of_requests_reach_the_reader_when_they_are_published() -> None:
    shared = [0] * FIELD_COUNT
    record = Record(shared)
    record.note_time(1)
    record.requests += 1
    record.exchanges += 1
    record.bytes_sent += 7
    assert shared[Field.REQUESTS_TOTAL] == 0
    record.note_time(PUBLISH_INTERVAL_NS)
    assert shared[Field.REQUESTS_TOTAL] == 0
    record.note_time(PUBLISH_INTERVAL_NS + 1)
    assert shared[Field.REQUESTS_TOTAL] == shared[Field.EXCHANGES] == 1
    assert shared[Field.BYTES_SENT_TOTAL] == 7


def test_the_first_count_after_a_quiet_time_is_published_at_once() -> None:
    shared = [0] * FIELD_COUNT
    record = Record(shared)
    record.note_time(10 * PUBLISH_INTERVAL_NS)
    record.bytes_received += 3
    record.note_time(20 * PUBLISH_INTERVAL_NS)
    assert shared[Field.BYTES_RECEIVED_TOTAL] == 3


_responses = st.tuples(st.integers(100, 599), st.integers(0, 20_000_000_000))


@given(st.lists(st.one_of(_responses, st.none())))
def test_publishing_in_between_changes_no_sum(steps: list[tuple[int, int] | None]) -> None:
    now_and_then, at_the_end = Record.detached(), Record.detached()
    for step in steps:
        if step is None:
            now_and_then.publish()
            continue
        for record in (now_and_then, at_the_end):
            record.exchanges += 1
            record.observe_response(*step)
            record.exchanges -= 1
    assert now_and_then.snapshot() == at_the_end.snapshot()
    observed = [step for step in steps if step is not None]
    values = at_the_end.snapshot()
    assert sum(values[Field.RESPONSES_1XX_TOTAL : Field.RESPONSES_5XX_TOTAL + 1]) == len(observed)
    assert sum(values[Field.LATENCY_BUCKET_0 : Field.LIMIT_0]) == len(observed)
    assert values[Field.LATENCY_NS_TOTAL] == sum(duration for _, duration in observed)
