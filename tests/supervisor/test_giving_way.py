"""Who gives way, for how long, and what is said when there is no way back."""

import logging

import pytest

from asgireload.supervisor import giving_way as module
from asgireload.supervisor.giving_way import GivingWay, patience_for


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
    giving_way = GivingWay(timers, 10)
    giving_way.begin(7)
    giving_way.end(7)
    giving_way.end(7)
    giving_way.end(8)
    assert calls == [("down", 7), ("up", 7)]
    assert timers.calls[0].is_cancelled


def test_it_ends_after_a_while(calls):
    timers = Timers()
    giving_way = GivingWay(timers, 10)
    giving_way.begin(7)
    assert timers.calls[0].delay == 10
    timers.calls[0].fire()
    giving_way.end(7)
    assert calls == [("down", 7), ("up", 7)]


def test_number_of_one_that_has_ended_is_not_used_again(calls):
    timers = Timers()
    giving_way = GivingWay(timers, 10)
    giving_way.begin(7)
    giving_way.forget(7)
    giving_way.end(7)
    assert calls == [("down", 7)]
    assert timers.calls[0].is_cancelled


def test_without_a_way_back_nothing_happens(calls, monkeypatch):
    monkeypatch.setattr(module, "can_give_way", lambda: False)
    giving_way = GivingWay(Timers(), 10)
    giving_way.begin(7)
    giving_way.end(7)
    assert not calls


def test_system_that_refuses_is_not_asked_to_take_it_back(calls, monkeypatch):
    def refuse(pid):
        raise PermissionError(1, "not in this container")

    monkeypatch.setattr(module, "give_way", refuse)
    giving_way = GivingWay(Timers(), 10)
    giving_way.begin(7)
    giving_way.end(7)
    assert not calls


def test_lost_way_back_is_told_with_what_to_do(calls, monkeypatch, caplog):
    def refuse(pid):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module, "stop_giving_way", refuse)
    giving_way = GivingWay(Timers(), 10)
    giving_way.begin(7)
    with caplog.at_level(logging.WARNING, "asgireload.error"):
        giving_way.end(7)
    assert "--reload-priority normal" in caplog.text


def test_worker_that_took_after_a_template_by_chance_is_raised(calls):
    """One of a larger number of workers, forked while its template was lowered for the fork of another."""
    giving_way = GivingWay(Timers(), 10)
    giving_way.begin(7)
    giving_way.end_inherited(8)
    assert calls == [("down", 7), ("up", 8)]


def test_without_a_way_back_nothing_was_inherited(calls, monkeypatch):
    monkeypatch.setattr(module, "can_give_way", lambda: False)
    GivingWay(Timers(), 10).end_inherited(8)
    assert not calls
