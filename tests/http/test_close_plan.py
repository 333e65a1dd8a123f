"""When WebSockets are closed in a drain: spread, in bounds, and with a hint that fits into the frame."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from asgireload.draining import DrainReason
from asgireload.http.close_plan import CLOSE_SPACING, ClosePlan, close_reason, late_close_at, span
from asgireload.websocket.frames import REASON_BYTES_LIMIT, encode_close

jitters = st.floats(0, 1, exclude_max=True)


@given(
    st.lists(jitters, min_size=1, max_size=300),
    st.floats(0, 60),
    st.floats(0, 1e6),
)
def test_each_close_has_a_place_of_its_own_within_the_window(drawn, window, begun_at):
    plan = ClosePlan(begun_at, len(drawn), window)
    place = span(len(drawn), window) / len(drawn)
    for index, jitter in enumerate(drawn):
        assert not plan.is_full
        delay = plan.next_at(jitter) - begun_at
        assert index * place - 1e-6 <= delay <= (index + 1) * place + 1e-6
        assert delay <= window + 1e-6
    assert plan.is_full


def test_a_thousand_clients_are_never_more_than_a_few_in_any_tenth_of_a_second():
    plan = ClosePlan(0.0, 1000, 5.0)
    times = [plan.next_at(index * 0.618 % 1) for index in range(1000)]
    assert times == sorted(times)
    assert max(later - earlier for earlier, later in pairwise(times)) < 0.011
    for start in times:
        assert sum(start <= at < start + 0.1 for at in times) <= 22


def test_few_clients_do_not_take_the_whole_window():
    assert span(1, 5.0) == CLOSE_SPACING
    assert span(1, 0.0) == 0.0
    assert span(10_000, 5.0) == 5.0


@given(jitters, st.integers(1, 10_000), st.floats(0, 60))
def test_one_that_was_not_counted_is_closed_within_the_window_too(jitter, count, window):
    assert 7.0 <= late_close_at(7.0, count, window, jitter) <= 7.0 + window


@given(st.sampled_from(DrainReason), jitters)
def test_the_hint_fits_into_a_close_frame_and_tells_a_time(reason, jitter):
    text = close_reason(reason, jitter)
    assert len(text.encode()) <= REASON_BYTES_LIMIT
    assert encode_close(reason.websocket_code, text)
    what, hint = text.split("; reconnect in about ")
    milliseconds = int(hint.removesuffix(" ms"))
    if reason.websocket_code == 1012:
        assert what == "service restart"
        assert 100 <= milliseconds <= 1000
    else:
        assert what == "server stopping"
        assert 1000 <= milliseconds <= 5000
