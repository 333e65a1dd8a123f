"""Who gives way, for how long, and what is said when there is no way back."""

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.supervisor.cpu_priority import (
    TELL_INTERVAL,
    CpuPlace,
    CpuPriority,
    patience_for,
    to_spread,
)


class Timers:
    """Stands for the loop."""

    def __init__(self):
        self.calls = []

    def call_later(self, delay, function, *arguments):
        timer = Timer(delay, function, arguments)
        self.calls.append(timer)
        return timer


class Timer:
    def __init__(self, delay, function, arguments):
        self.delay, self.function, self.arguments = delay, function, arguments
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True

    def fire(self):
        self.function(*self.arguments)


class Priorities:
    """Stands for the operating system. `calls` are the changes that were made."""

    def __init__(self):
        self.calls = []
        self.has_way_back = True
        self.refuses_to_lower = self.refuses_to_restore = False

    def can_lower_priority(self):
        return self.has_way_back

    def lower_priority(self, pid):
        if self.refuses_to_lower:
            raise PermissionError(1, "not in this container")
        self.calls.append(("down", pid))

    def restore_priority(self, pid):
        if self.refuses_to_restore:
            raise PermissionError(1, "Operation not permitted")
        self.calls.append(("up", pid))


@pytest.fixture
def system():
    return Priorities()


@pytest.mark.parametrize(("timeout", "patience"), [(120, 10), (40, 10), (8, 2), (0.1, 0.025)])
def test_a_short_boot_timeout_is_not_used_up_by_waiting(timeout, patience):
    assert patience_for(timeout) == patience


def test_it_ends_once_at_the_end_of_the_import(system):
    timers = Timers()
    cpu_priority = CpuPriority(timers, system, 10)
    cpu_priority.lower(7)
    cpu_priority.restore(7)
    cpu_priority.restore(7)
    cpu_priority.restore(8)
    assert system.calls == [("down", 7), ("up", 7)]
    assert timers.calls[0].is_cancelled


def test_it_ends_after_a_while(system):
    timers = Timers()
    cpu_priority = CpuPriority(timers, system, 10)
    cpu_priority.lower(7)
    assert timers.calls[0].delay == 10
    timers.calls[0].fire()
    cpu_priority.restore(7)
    assert system.calls == [("down", 7), ("up", 7)]


def test_number_of_one_that_has_ended_is_not_used_again(system):
    timers = Timers()
    cpu_priority = CpuPriority(timers, system, 10)
    cpu_priority.lower(7)
    cpu_priority.forget(7)
    cpu_priority.restore(7)
    assert system.calls == [("down", 7)]
    assert timers.calls[0].is_cancelled


def test_without_a_way_back_nothing_happens(system):
    system.has_way_back = False
    cpu_priority = CpuPriority(Timers(), system, 10)
    cpu_priority.lower(7)
    cpu_priority.restore(7)
    assert not system.calls


def test_system_that_refuses_is_not_asked_to_take_it_back(system):
    system.refuses_to_lower = True
    cpu_priority = CpuPriority(Timers(), system, 10)
    cpu_priority.lower(7)
    cpu_priority.restore(7)
    assert not system.calls


def test_lost_way_back_is_told_with_what_to_do(system, caplog):
    system.refuses_to_restore = True
    cpu_priority = CpuPriority(Timers(), system, 10)
    cpu_priority.lower(7)
    with caplog.at_level(logging.WARNING, "asgireload.error"):
        cpu_priority.restore(7)
    assert "--reload-priority normal" in caplog.text


def test_worker_that_took_after_a_template_by_chance_is_raised(system):
    """One of a larger number of workers, forked while its template was lowered for the fork of another."""
    cpu_priority = CpuPriority(Timers(), system, 10)
    cpu_priority.lower(7)
    cpu_priority.restore_inherited(8)
    assert system.calls == [("down", 7), ("up", 8)]


def test_without_a_way_back_nothing_was_inherited(system):
    system.has_way_back = False
    CpuPriority(Timers(), system, 10).restore_inherited(8)
    assert not system.calls


# --- where those are that serve -------------------------------------------------------------------


LONG_AGO = float("-inf")


def placed(serving):
    return {worker: CpuPlace(processor, LONG_AGO) for worker, processor in serving.items()}


@pytest.mark.parametrize(
    ("lowered", "serving", "moves"),
    [
        ([1], {7: 0, 8: 0}, {7: 1}),
        ([1], {7: 0, 8: 1}, {}),
        ([0], {7: 0, 8: 0}, {}),
        ([1], {7: 0}, {}),
        ([1], {}, {}),
        ([], {7: 0, 8: 0}, {}),
        ([1, 2], {7: 0, 8: 0}, {7: 1}),
        ([1, 2], {7: 0, 8: 0, 9: 3, 10: 3, 11: 3}, {9: 1, 7: 2}),
    ],
)
def test_one_goes_where_only_such_work_is(lowered, serving, moves):
    assert to_spread(lowered, placed(serving), 100.0) == moves


CPUS = st.integers(0, 7)


@given(st.lists(CPUS), st.dictionaries(st.integers(1, 99), CPUS))
def test_spreading_leaves_no_cpu_and_comes_to_rest(lowered, serving):
    moves = to_spread(lowered, placed(serving), 100.0)
    assert set(moves.values()) <= set(lowered) - set(serving.values())
    after = {**serving, **moves}
    assert set(after.values()) == set(serving.values()) | set(moves.values())
    assert max(Counter(after.values()).values(), default=0) <= max(
        Counter(serving.values()).values(), default=0
    )
    assert to_spread(lowered, placed(after), 100.0) == {}


def test_one_that_was_told_is_waited_for_and_then_another_is_asked():
    """A worker whose application blocks follows later; it is not told every time, nor alone."""
    serving = {7: CpuPlace(0, 100.0), 8: CpuPlace(0, 99.0)}
    assert to_spread([1], serving, 100.0 + TELL_INTERVAL / 2) == {}
    assert to_spread([1], serving, 100.0 + TELL_INTERVAL * 2) == {8: 1}


@given(st.lists(st.floats(0, 0.1), max_size=100))
def test_nobody_is_told_faster_than_it_may_follow(steps):
    """However long all of them are deaf."""
    now, told = 0.0, {7: LONG_AGO, 8: LONG_AGO}
    for step in steps:
        now += step
        serving = {worker: CpuPlace(0, told_at) for worker, told_at in told.items()}
        for worker in to_spread([1], serving, now):
            assert now - max(told.values()) >= TELL_INTERVAL
            told[worker] = now


def test_looked_at_while_somebody_gives_way(system):
    timers, seen = Timers(), []

    def spread(lowered):
        seen.append(sorted(lowered))
        return len(seen)

    cpu_priority = CpuPriority(timers, system, 10, spread)
    cpu_priority.lower(7)
    cpu_priority.lower(8)
    looks = [timer for timer in timers.calls if timer.delay < 1]
    assert seen == [[7]]
    assert len(looks) == 1, "one look at a time, whoever comes"
    looks[0].fire()
    assert seen == [[7], [7, 8]]
    cpu_priority.restore(7)
    cpu_priority.restore(8)
    timers.calls[-1].fire()
    assert seen == [[7], [7, 8]]
    assert timers.calls[-1].delay < 1, "nothing was asked for anew"
    cpu_priority.lower(9)
    assert seen[-1] == [9]


def test_many_workers_are_looked_at_less_often(system):
    timers = Timers()
    CpuPriority(timers, system, 10, lambda lowered: 64).lower(7)
    assert timers.calls[-1].delay == pytest.approx(0.064)
