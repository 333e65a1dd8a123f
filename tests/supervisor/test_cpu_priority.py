"""Who gives way, for how long, and what is said when there is no way back."""

import logging
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.supervisor import cpu_priority as module
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


@pytest.fixture
def calls(monkeypatch):
    calls = []
    monkeypatch.setattr(module, "can_give_way", lambda: True)
    monkeypatch.setattr(module, "give_way", lambda pid: calls.append(("down", pid)))
    monkeypatch.setattr(module, "stop_giving_way", lambda pid: calls.append(("up", pid)))
    return calls


@pytest.mark.parametrize(("timeout", "patience"), [(120, 10), (40, 10), (8, 2), (0.1, 0.025)])
def test_a_short_boot_timeout_is_not_used_up_by_waiting(timeout, patience):
    assert patience_for(timeout) == patience


def test_it_ends_once_at_the_end_of_the_import(calls):
    timers = Timers()
    cpu_priority = CpuPriority(timers, 10)
    cpu_priority.begin(7)
    cpu_priority.end(7)
    cpu_priority.end(7)
    cpu_priority.end(8)
    assert calls == [("down", 7), ("up", 7)]
    assert timers.calls[0].is_cancelled


def test_it_ends_after_a_while(calls):
    timers = Timers()
    cpu_priority = CpuPriority(timers, 10)
    cpu_priority.begin(7)
    assert timers.calls[0].delay == 10
    timers.calls[0].fire()
    cpu_priority.end(7)
    assert calls == [("down", 7), ("up", 7)]


def test_number_of_one_that_has_ended_is_not_used_again(calls):
    timers = Timers()
    cpu_priority = CpuPriority(timers, 10)
    cpu_priority.begin(7)
    cpu_priority.forget(7)
    cpu_priority.end(7)
    assert calls == [("down", 7)]
    assert timers.calls[0].is_cancelled


def test_without_a_way_back_nothing_happens(calls, monkeypatch):
    monkeypatch.setattr(module, "can_give_way", lambda: False)
    cpu_priority = CpuPriority(Timers(), 10)
    cpu_priority.begin(7)
    cpu_priority.end(7)
    assert not calls


def test_system_that_refuses_is_not_asked_to_take_it_back(calls, monkeypatch):
    def refuse(pid):
        raise PermissionError(1, "not in this container")

    monkeypatch.setattr(module, "give_way", refuse)
    cpu_priority = CpuPriority(Timers(), 10)
    cpu_priority.begin(7)
    cpu_priority.end(7)
    assert not calls


def test_lost_way_back_is_told_with_what_to_do(calls, monkeypatch, caplog):
    def refuse(pid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "stop_giving_way", refuse)
    cpu_priority = CpuPriority(Timers(), 10)
    cpu_priority.begin(7)
    with caplog.at_level(logging.WARNING, "asgireload.error"):
        cpu_priority.end(7)
    assert "--reload-priority normal" in caplog.text


def test_worker_that_took_after_a_template_by_chance_is_raised(calls):
    """One of a larger number of workers, forked while its template was lowered for the fork of another."""
    cpu_priority = CpuPriority(Timers(), 10)
    cpu_priority.begin(7)
    cpu_priority.end_inherited(8)
    assert calls == [("down", 7), ("up", 8)]


def test_without_a_way_back_nothing_was_inherited(calls, monkeypatch):
    monkeypatch.setattr(module, "can_give_way", lambda: False)
    CpuPriority(Timers(), 10).end_inherited(8)
    assert not calls


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


def test_looked_at_while_somebody_gives_way(calls):
    timers, seen = Timers(), []

    def spread(lowered):
        seen.append(sorted(lowered))
        return len(seen)

    cpu_priority = CpuPriority(timers, 10, spread)
    cpu_priority.begin(7)
    cpu_priority.begin(8)
    looks = [timer for timer in timers.calls if timer.delay < 1]
    assert seen == [[7]]
    assert len(looks) == 1, "one look at a time, whoever comes"
    looks[0].fire()
    assert seen == [[7], [7, 8]]
    cpu_priority.end(7)
    cpu_priority.end(8)
    timers.calls[-1].fire()
    assert seen == [[7], [7, 8]]
    assert timers.calls[-1].delay < 1, "nothing was asked for anew"
    cpu_priority.begin(9)
    assert seen[-1] == [9]


def test_many_workers_are_looked_at_less_often(calls):
    timers = Timers()
    CpuPriority(timers, 10, lambda lowered: 64).begin(7)
    assert timers.calls[-1].delay == pytest.approx(0.064)
