"""The way of an event stream out of its worker, over invented workers and time."""

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from asgireload.http1.stream_leaving import StreamLeaving, StreamStage


class Timer:
    def __init__(self, at: float, callback: Any) -> None:
        self.at, self.callback, self.is_cancelled = at, callback, False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Any) -> Timer:
        self.timers.append(Timer(at, callback))
        return self.timers[-1]

    def call_later(self, delay: float, callback: Any) -> Timer:
        return self.call_at(self.now + delay, callback)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [t for t in self.timers if not t.is_cancelled and t.at <= until]:
            timer = min(due, key=lambda each: each.at)
            self.timers.remove(timer)
            self.now = max(self.now, timer.at)
            timer.callback()
        self.now = until


class Worker:
    """One that follows: gives turns and settles when it is told to."""

    def __init__(self) -> None:
        self.is_spent = False
        self.turns: list[Any] = []
        self.offers: list[Any] = []

    def enlist(self, turn: Any) -> bool:
        self.turns.append(turn)
        return True

    def take(self, descriptor: int, parcel: Any, settled: Any) -> bool:
        if self.is_spent:
            return False
        self.offers.append(settled)
        return True

    def give_turns(self) -> None:
        turns, self.turns = self.turns, []
        for turn in turns:
            turn()

    def settle(self, *, is_taken: bool) -> None:
        offers, self.offers = self.offers, []
        for settled in offers:
            settled(is_taken)


class Stream:
    """The connection; it says what was done to it, and what must never be done."""

    def __init__(self) -> None:
        self.has_ids = True
        self.is_open = True
        self.is_inside = False
        self.is_full = False
        self.is_detached = False
        self.done: list[str] = []

    def can_move(self) -> bool:
        return self.has_ids

    def is_between_events(self) -> bool:
        return not self.is_inside

    def end_at(self) -> float:
        return 10.0

    def patience(self) -> float:
        return 5.0

    def detach(self) -> None:
        assert not self.is_inside
        assert not self.is_detached
        self.is_detached = True

    def is_settled(self) -> bool:
        return not self.is_full

    def descriptor(self) -> int:
        return 7 if self.is_open else -1

    def make_parcel(self) -> Any:
        if not self.has_ids:
            return None
        assert self.is_detached
        return "parcel"

    def release_socket(self) -> None:
        assert not self.is_full
        self.done.append("gone")

    def keep(self) -> None:
        assert self.is_detached or not self.is_inside
        self.done.append("end")


def leaving() -> tuple[StreamLeaving, Stream, Loop, Worker]:
    loop, stream = Loop(), Stream()
    return StreamLeaving(cast("Any", loop), stream), stream, loop, Worker()


def test_with_ids_it_moves() -> None:
    way, stream, _, worker = leaving()
    way.follow(cast("Any", worker))
    assert stream.is_detached
    worker.give_turns()
    worker.settle(is_taken=True)
    assert stream.done == ["gone"]
    assert way.stage is StreamStage.DONE


def test_it_waits_for_the_end_of_an_event_and_for_its_client() -> None:
    way, stream, _, worker = leaving()
    stream.is_inside = stream.is_full = True
    way.follow(cast("Any", worker))
    assert not stream.is_detached
    stream.is_inside = False
    way.advance()
    assert stream.is_detached
    assert not worker.turns
    stream.is_full = False
    way.advance()
    assert worker.turns


def test_without_ids_it_ends_in_its_time() -> None:
    way, stream, loop, worker = leaving()
    stream.has_ids = False
    way.follow(cast("Any", worker))
    loop.pass_time(9.9)
    assert stream.done == []
    stream.is_inside = True
    loop.pass_time(1)
    assert stream.done == []
    stream.is_inside = False
    way.advance()
    assert stream.done == ["end"]


def test_ids_that_come_meanwhile_let_it_move() -> None:
    way, stream, loop, worker = leaving()
    stream.has_ids = False
    way.follow(cast("Any", worker))
    loop.pass_time(5)
    stream.has_ids = True
    way.advance()
    assert stream.is_detached
    loop.pass_time(1)
    worker.give_turns()
    worker.settle(is_taken=True)
    loop.pass_time(60)
    assert stream.done == ["gone"]


def test_another_worker_takes_the_place_of_one_that_is_gone() -> None:
    way, stream, _, worker = leaving()
    other = Worker()
    way.follow(cast("Any", worker))
    way.follow(None)
    assert stream.done == []
    way.follow(cast("Any", other))
    worker.give_turns()
    assert not worker.offers
    other.give_turns()
    other.settle(is_taken=True)
    assert stream.done == ["gone"]


def test_when_nobody_else_comes_it_ends() -> None:
    way, stream, loop, worker = leaving()
    way.follow(cast("Any", worker))
    way.follow(None)
    loop.pass_time(5)
    assert stream.done == ["end"]


STEPS = st.sampled_from(
    [
        "follow",
        "follow other",
        "nobody",
        "piece",
        "event end",
        "full",
        "taken",
        "turn",
        "settle",
        "refuse",
        "spent",
        "time",
        "ids",
        "no ids",
        "lost",
    ]
)


@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_it_ends_once_and_never_within_an_event(steps: list[str]) -> None:
    way, stream, loop, worker = leaving()
    other = Worker()
    stream.has_ids = False
    is_lost = False
    for step in steps:
        if stream.done or is_lost:
            break
        match step:
            case "follow":
                way.follow(cast("Any", worker))
            case "follow other":
                way.follow(cast("Any", other))
            case "nobody":
                way.follow(None)
            case "piece" if not stream.is_detached:
                stream.is_inside = True
                way.advance()
            case "event end" if not stream.is_detached:
                stream.is_inside = False
                way.advance()
            case "full":
                if not stream.is_detached:
                    stream.is_full = True
            case "taken":
                stream.is_full = False
                way.advance()
            case "turn":
                worker.give_turns()
                other.give_turns()
            case "settle":
                worker.settle(is_taken=True)
                other.settle(is_taken=True)
            case "refuse":
                worker.settle(is_taken=False)
                other.settle(is_taken=False)
            case "spent":
                worker.is_spent = True
            case "time":
                loop.pass_time(2.0)
            case "ids":
                stream.has_ids = True
            case "no ids":
                stream.has_ids = stream.has_ids and stream.is_detached
            case "lost":
                way.cancel()
                is_lost = True
    if is_lost:
        loop.pass_time(100)
        worker.give_turns()
        other.settle(is_taken=False)
        assert stream.done == []
        return
    # From here on everything goes well, and the drain has begun.
    stream.is_inside = stream.is_full = False
    if not stream.done:
        way.follow(cast("Any", other))
        way.advance()
    for _ in range(3):
        for each in (worker, other):
            each.give_turns()
            each.settle(is_taken=not each.is_spent)
        loop.pass_time(30)
    assert len(stream.done) == 1
    assert way.stage is StreamStage.DONE
    assert not [timer for timer in loop.timers if not timer.is_cancelled]
