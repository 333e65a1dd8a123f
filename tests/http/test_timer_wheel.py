"""TimerWheel of thousands of connections with one timer, over a loop with invented time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http.timer_wheel import BATCH, SLOT_SECONDS, TimerWheel


class Timer:
    def __init__(self, at, callback):
        self.at = at
        self.callback = callback
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class InventedLoop:
    def __init__(self, now=1000.0):
        self.now = now
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, at, callback):
        self.timers.append(Timer(at, callback))
        return self.timers[-1]

    @property
    def waiting(self):
        return [timer for timer in self.timers if not timer.is_cancelled]

    def turn(self):
        """Go to the next timer and call it."""
        (timer,) = self.waiting
        self.now = max(self.now, timer.at)
        self.timers.clear()
        timer.callback()


class Member:
    def __init__(self, loop):
        self.loop = loop
        self.called_at = []

    def on_deadline(self):
        self.called_at.append(self.loop.now)


class Broken:
    def on_deadline(self):
        raise RuntimeError("broken")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_every_member_is_called_once_and_never_early_nor_later_than_a_slot(delays):
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    members = []
    for delay in delays:
        member = Member(loop)
        wheel.put(member, loop.now + delay)
        members.append((member, loop.now + delay))
    while loop.waiting:
        loop.turn()
    for member, deadline in members:
        (called_at,) = member.called_at
        assert deadline <= called_at <= deadline + SLOT_SECONDS


def test_there_is_one_timer_however_many_wait_and_none_where_nobody_does():
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    assert not loop.waiting
    for index in range(1000):
        wheel.put(Member(loop), loop.now + 60 - index / 20)
        assert len(loop.waiting) == 1
    while loop.waiting:
        loop.turn()
        assert len(loop.waiting) <= 1


def test_what_is_removed_is_not_called():
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    kept, removed = Member(loop), Member(loop)
    wheel.put(kept, loop.now + 5)
    slot = wheel.put(removed, loop.now + 5)
    wheel.remove(removed, slot)
    wheel.remove(removed, slot)
    loop.turn()
    assert kept.called_at
    assert not removed.called_at
    wheel.remove(kept, slot)


def test_a_nearer_deadline_moves_the_timer():
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    late, soon = Member(loop), Member(loop)
    wheel.put(late, loop.now + 60)
    wheel.put(soon, loop.now + 3)
    loop.turn()
    assert soon.called_at
    assert not late.called_at
    loop.turn()
    assert late.called_at


def test_a_crowd_is_called_in_several_turns_of_the_loop():
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    crowd = [Member(loop) for _ in range(BATCH * 2 + 1)]
    for member in crowd:
        wheel.put(member, loop.now + 5)
    called = []
    while loop.waiting:
        loop.turn()
        called.append(sum(bool(member.called_at) for member in crowd))
    assert called == [BATCH, BATCH * 2, BATCH * 2 + 1]


def test_a_member_that_fails_takes_no_other_with_it():
    loop = InventedLoop()
    wheel = TimerWheel(loop)
    others = [Member(loop) for _ in range(3)]
    wheel.put(others[0], loop.now + 5)
    wheel.put(Broken(), loop.now + 5)
    wheel.put(others[1], loop.now + 5)
    wheel.put(others[2], loop.now + 9)
    failures = 0
    while loop.waiting:
        try:
            loop.turn()
        except RuntimeError:
            failures += 1
    assert failures == 1
    assert all(member.called_at for member in others)


def test_a_member_may_be_put_again_from_its_call():
    loop = InventedLoop()
    wheel = TimerWheel(loop)

    class Again(Member):
        def on_deadline(self):
            super().on_deadline()
            if len(self.called_at) < 3:
                wheel.put(self, loop.now + 5)

    member = Again(loop)
    wheel.put(member, loop.now + 5)
    while loop.waiting:
        loop.turn()
    first, second, third = member.called_at
    assert second - first == pytest.approx(5, abs=SLOT_SECONDS)
    assert third - second == pytest.approx(5, abs=SLOT_SECONDS)
