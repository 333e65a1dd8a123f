"""What a generation has served: sums of scoreboard records, and differences between two moments."""

from asgireload.ipc.scoreboard import LATENCY_BOUNDS, Field, Record
from asgireload.supervisor.counter_totals import CounterTotals
from asgireload.supervisor.figures import Traffic, Window, sum_traffic


def served(*responses, app_errors=0):
    """Return the values of a worker that has answered with these statuses and durations in seconds."""
    record = Record.detached()
    for status, seconds in responses:
        record.requests += 1
        record.observe_response(status, int(seconds * 1e9))
    record.values[Field.APP_ERRORS_TOTAL] += app_errors
    return record.snapshot()


def test_traffic_of_a_generation_is_the_sum_of_its_slots():
    totals = {
        ("worker", 0, 3): served((200, 0.0005), (503, 20.0)),
        ("worker", 1, 3): served((500, 0.002), app_errors=1),
        ("worker", 0, 2): served((200, 0.0005)),
    }
    traffic = sum_traffic(totals)
    assert traffic[3].requests == 3
    assert traffic[3].errors_5xx == 2
    assert traffic[3].app_errors == 1
    assert traffic[3].latency_ns == int(20.0025 * 1e9)
    assert traffic[3].latency_buckets == (1, 1, *[0] * (len(LATENCY_BOUNDS) - 2), 1)
    assert traffic[2].requests == 1


def test_traffic_of_workers_that_have_ended_is_kept():
    totals = CounterTotals()
    totals.add_ended(("worker", 0, 3), served((200, 0.0005), (500, 0.0005)))
    living = [(("worker", 0, 3), served((200, 0.0005)))]
    traffic = sum_traffic(totals.totals(living))
    assert traffic[3].requests == 3
    assert traffic[3].errors_5xx == 1


def test_figures_are_what_was_added_in_the_window_for_both_generations():
    window = Window(opened_at=100.0, deaths={})
    assert window.traffic_of(1) is None
    window.note_traffic({1: Traffic(requests=50, errors_5xx=5)}, 101.0)
    window.note_traffic(
        {1: Traffic(requests=80, errors_5xx=5), 2: Traffic(requests=10, errors_5xx=4)}, 111.0
    )
    assert window.traffic_of(1) == Traffic(requests=30)
    assert window.traffic_of(2) == Traffic(requests=10, errors_5xx=4)
    assert window.traffic_of(3) == Traffic()
    assert window.traffic_seconds == 10.0


def test_figures_are_never_negative():
    """The counts of an old generation are merged with those of others after a while."""
    before = Traffic(9, 9, 9, 9, (9,) * (len(LATENCY_BOUNDS) + 1))
    assert Traffic().since(before) == Traffic()
