"""What counts as lost, late or stale."""

import pytest

from benchmarks.reloads import records
from benchmarks.reloads.event_stream import End
from benchmarks.reloads.judge import (
    AROUND_KILL,
    STALE_AFTER,
    Kill,
    Reload,
    check_numbers,
    first_answers,
    is_explained,
    is_stale,
    judge,
    judge_end,
    longest_gap,
    time_line,
    total,
)
from benchmarks.reloads.records import MOVED, Outcome, Record


def record(outcome=Outcome.ANSWERED, *, asked=0.0, end=1.0, kind="busy", **more):
    return Record(kind, outcome, asked, more.pop("start", asked), end, **more)


def answers(*times, version=1):
    return [record(asked=t, end=t, version=version) for t in times]


def test_records_are_read_as_they_were_written():
    kept = [
        record(version=3, worker=7, expected=0.5, detail="x"),
        record(Outcome.CUT, detail="1006"),
        record(number=7, series="2.1"),
    ]
    assert records.parse(records.dump(kept)) == kept


@pytest.mark.parametrize("line", ["", "{}", "[]", '["busy", "vanished"]', '["busy", "lost"]'])
def test_a_line_that_is_no_record_is_refused_by_number(line):
    with pytest.raises(ValueError, match="line 1 is no record"):
        records.parse([line])


def test_lateness_is_what_goes_beyond_the_applications_own_time():
    assert record(start=1.0, end=1.75, expected=0.5).late == 0.25
    assert record(start=1.0, end=1.25, expected=0.5).late == 0.0


def test_outcomes_are_counted_by_kind():
    found = judge(
        [
            record(),
            record(Outcome.LOST, detail="status 503"),
            record(Outcome.CUT, kind="websocket", detail="1006"),
            record(Outcome.CLOSED, kind="websocket", detail="1012"),
            record(Outcome.CLOSED, kind="websocket", detail="1012"),
            record(Outcome.REFUSED, kind="new", detail="ConnectionRefusedError"),
            record(Outcome.ABSENT, kind="moving"),
        ],
        [],
    )
    assert (found["busy"].answered, found["busy"].lost, found["busy"].broken) == (1, 1, 1)
    assert found["busy"].reasons == {"status 503": 1}
    assert found["websocket"].codes == {"1006": 1, "1012": 2}
    assert (found["websocket"].cut, found["websocket"].closed) == (1, 2)
    assert found["new"].refused == 1
    assert found["moving"].is_absent
    whole = total(found.values())
    assert (whole.answered, whole.broken, whole.closed) == (1, 3, 2)


def test_an_answer_half_a_second_beyond_its_time_is_a_stall():
    found = judge([record(end=0.9, expected=0.5), record(end=1.1, expected=0.5)], [])["busy"]
    assert found.stalls == 1
    assert found.longest_ms == pytest.approx(600)


def test_the_longest_gap_is_between_answers_of_any_client_of_the_kind():
    rows = [*answers(1.0, 1.2), record(Outcome.LOST, end=1.5), *answers(2.0)]
    assert judge(rows, [])["busy"].gap_ms == pytest.approx(800)
    assert longest_gap([1.0]) is None


def test_answers_of_another_process_on_the_same_connection_are_counted():
    assert judge([record(detail=MOVED), record()], [])["busy"].moved == 1


@pytest.mark.parametrize(
    ("end", "is_boundary", "outcome"),
    [
        (End.TERMINATED, True, Outcome.CLOSED),
        (End.TERMINATED, False, Outcome.CUT),
        (End.EOF, True, Outcome.CUT),
        (End.EOF, False, Outcome.CUT),
        (End.RESET, True, Outcome.CUT),
        (End.RESET, False, Outcome.CUT),
    ],
)
def test_a_stream_is_closed_only_by_its_last_chunk_between_two_events(end, is_boundary, outcome):
    found, detail = judge_end(end, is_boundary=is_boundary)
    assert found is outcome
    # Details of digits would count as close codes.
    assert not detail.isdecimal()


def numbered(*numbers, series="0"):
    return [record(kind="with_ids", number=number, series=series) for number in numbers]


@pytest.mark.parametrize(
    ("numbers", "missed", "twice"),
    [
        ([], 0, 0),
        ([1, 2, 3], 0, 0),
        ([3, 4], 2, 0),  # the first ones count too
        ([1, 2, 5, 6, 8], 3, 0),  # gaps
        ([1, 2, 2, 3], 0, 1),  # a repeat
        ([1, 2, 3, 2, 3, 4, 5], 0, 2),  # a reconnect with overlap
        ([1, 2, 3, 1, 2, 3], 0, 3),  # a reconnect without Last-Event-ID
        ([1, 2, 3, 5, 6], 1, 0),  # a reconnect one too far
        ([1, 3, 2, 4], 1, 0),  # late: missed in its place, and here only once
        ([1, 1, 1], 0, 2),
    ],
)
def test_numbered_events_that_are_missed_or_come_twice_are_counted(numbers, missed, twice):
    assert check_numbers(numbered(*numbers)) == (missed, twice)


def test_what_ends_a_stream_does_not_begin_its_numbers_anew():
    rows = [*numbered(1, 2), record(Outcome.CLOSED, kind="with_ids"), *numbered(2, 3)]
    found = judge(rows, [])["with_ids"]
    assert (found.answered, found.closed, found.missed, found.twice) == (4, 1, 0, 1)


def test_numbers_of_one_series_say_nothing_of_another():
    one, other, anew = numbered(1, 2, 3), numbered(1, 3, series="1"), numbered(1, 2, series="0.2")
    mixed = [
        row for rows in zip(one, [*other, record()], [*anew, record()], strict=True) for row in rows
    ]
    assert check_numbers(mixed) == (1, 0)


def test_answers_that_end_by_themselves_are_incomplete_when_they_are_lost_or_cut():
    outcomes = [Outcome.ANSWERED, Outcome.LOST, Outcome.CUT, Outcome.CUT, Outcome.REFUSED]
    rows = [record(outcome, kind="completion") for outcome in outcomes]
    found = judge([*rows, record(Outcome.CUT, kind="with_ids")], [])
    assert (found["completion"].incomplete, found["with_ids"].incomplete) == (3, 0)
    assert total(found.values()).incomplete == 3


def test_the_first_answer_of_each_version_is_found():
    rows = [*answers(2.0, 1.0), *answers(3.0, version=2), record(Outcome.LOST)]
    assert first_answers(rows) == {1: 1.0, 2: 3.0}


COMPLETE = [Reload(2, asked=10.0, complete=14.0)]
UNSEEN = [Reload(2, asked=10.0)]


@pytest.mark.parametrize(
    ("asked", "version", "reloads", "stale"),
    [
        (13.9, 1, COMPLETE, False),  # begun before the reload was complete: it may finish
        (14.1, 1, COMPLETE, True),
        (14.1, 2, COMPLETE, False),
        (14.1, None, COMPLETE, False),
        (11.0 + STALE_AFTER, 1, UNSEEN, False),
        (11.1 + STALE_AFTER, 1, UNSEEN, True),
    ],
)
def test_stale_is_an_old_answer_to_a_request_that_came_after_the_reload(
    asked, version, reloads, stale
):
    row = record(asked=asked, end=asked + 1, version=version)
    assert is_stale(row, reloads, {2: 11.0}) is stale


def test_a_version_that_never_answered_makes_no_answer_stale():
    assert not is_stale(record(asked=99.0, end=99.0, version=1), UNSEEN, {})


def test_the_time_line_tells_the_latest_answer_and_what_broke_in_each_piece():
    rows = [
        record(start=100.0, end=100.1),
        record(start=100.0, end=100.2),
        record(Outcome.LOST, end=100.3),
        record(Outcome.CLOSED, end=101.0),
    ]
    first, second, third = time_line(rows, 100.0)
    assert (first.at, first.late_ms, first.broken) == (0.0, pytest.approx(200), 0)
    assert (second.at, second.broken) == (0.25, 1)
    assert (third.at, third.closed) == (1.0, 1)


KILLS = [Kill(5.0, 71, "old")]


@pytest.mark.parametrize(
    ("row", "explained"),
    [
        (record(Outcome.LOST, asked=4.0, end=5.01), True),
        (record(Outcome.CUT, asked=4.0, end=5.01, worker=71), True),
        (record(Outcome.CUT, asked=4.0, end=5.01, worker=72), False),
        (record(Outcome.CUT, asked=4.0, end=5.01, worker=72, kind="moving"), True),
        (record(Outcome.CUT, asked=4.0, end=5.01, worker=72, kind="with_ids"), True),
        (record(Outcome.CUT, asked=4.0, end=5.01, worker=72, kind="without_ids"), False),
        (record(Outcome.LOST, asked=4.0, end=4.9), False),
        (record(Outcome.LOST, asked=4.0, end=5.1 + AROUND_KILL), False),
    ],
)
def test_a_loss_is_explained_by_the_kill_of_the_process_that_had_it(row, explained):
    assert is_explained(row, KILLS) is explained
