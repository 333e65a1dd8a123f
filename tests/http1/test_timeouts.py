"""Which deadline of a connection has passed, at invented times."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http.timer_wheel import COARSE_FROM, TimerWheel
from asgireload.http1.timeouts import NEVER, ConnectionTimer, Deadlines, Expired

TIMES = st.floats(0, 1000)


def test_nothing_expires_that_was_not_set() -> None:
    deadlines = Deadlines()
    assert deadlines.earliest == NEVER
    assert deadlines.take_expired(1e9) is Expired.NOTHING


def test_the_request_expires_before_what_is_waited_for_and_each_once() -> None:
    deadlines = Deadlines()
    deadlines.wait, deadlines.request = 2.0, 3.0
    assert deadlines.take_expired(1.9) is Expired.NOTHING
    assert deadlines.take_expired(3.0) is Expired.REQUEST
    assert deadlines.take_expired(3.0) is Expired.WAIT
    assert deadlines.take_expired(3.0) is Expired.NOTHING


@given(wait=TIMES, bounds=st.lists(TIMES, min_size=1))
def test_a_worker_that_follows_restores_what_was_before_the_first_bound(
    wait: float, bounds: list[float]
) -> None:
    deadlines = Deadlines()
    deadlines.wait = wait
    for bound in bounds:
        deadlines.bound_wait(bound)
        assert deadlines.wait == bound
    deadlines.unbound_wait()
    assert deadlines.wait == wait
    deadlines.unbound_wait()
    assert deadlines.wait == wait


def test_a_forgotten_bound_is_not_restored() -> None:
    deadlines = Deadlines()
    deadlines.wait = 9.0
    deadlines.bound_wait(1.0)
    deadlines.forget_bound()
    deadlines.unbound_wait()
    assert deadlines.wait == 1.0


@pytest.mark.parametrize(("unsent", "extends"), [(9, True), (10, False), (11, False)])
def test_only_a_client_that_takes_something_gets_more_time(unsent: int, extends: bool) -> None:
    deadlines = Deadlines()
    deadlines.begin_write(5.0, 10)
    assert deadlines.extend_write(8.0, unsent) is extends
    assert deadlines.write == (8.0 if extends else 5.0)


class Loop:
    """As much of an event loop as a timer uses. `handles` are times of those that are not cancelled."""

    def __init__(self) -> None:
        self.handles: list[Any] = []

    def time(self) -> float:
        return 0.0

    def call_at(self, when: float, callback: Any) -> Any:
        handles = self.handles

        class Handle:
            def cancel(self) -> None:
                if self in handles:
                    handles.remove(self)

        handle = Handle()
        handle.when = when  # type: ignore[attr-defined]
        handles.append(handle)
        return handle


class Connection:
    def on_deadline(self) -> None:
        raise AssertionError


@given(st.lists(st.one_of(st.none(), st.floats(0.01, 3 * COARSE_FROM)), max_size=20))
def test_one_timer_is_armed_and_never_later_than_the_earliest_deadline(
    deadlines: list[float | None],
) -> None:
    """None: disarmed."""
    fake = Loop()
    loop = cast("asyncio.AbstractEventLoop", fake)
    wheel = TimerWheel(loop)
    timer, connection = ConnectionTimer(loop, wheel), Connection()
    earliest = NEVER
    for deadline in deadlines:
        if deadline is None:
            timer.disarm(connection)
            earliest = NEVER
        else:
            timer.arm(connection, deadline)
            earliest = min(earliest, deadline)
        assert timer.is_armed == (earliest < NEVER)
        members = [member for slot in wheel._slots.values() for member in slot]
        near = [handle for handle in fake.handles if handle is not wheel._timer]
        assert len(near) + len(members) == timer.is_armed
        assert [handle.when for handle in near] == ([earliest] if earliest < COARSE_FROM else [])
