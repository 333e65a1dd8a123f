"""The way of a connection between two requests out of its worker, over an invented connection and successor."""

from collections.abc import Callable
from typing import Any

from asgireload.http1.idle_handover import HoldState, IdleHandover


class Following:
    """A worker that follows; `turns` and `offers` are called by the test."""

    is_spent = False

    def __init__(self, *, at_once: bool = False, takes: bool = True) -> None:
        self.at_once = at_once
        self.takes = takes
        self.turns: list[Callable[[], None]] = []
        self.offers: list[Callable[[bool], None]] = []

    def enlist(self, turn: Callable[[], None]) -> bool:
        self.turns.append(turn)
        return self.at_once

    def take(self, descriptor: int, parcel: Any, settled: Callable[[bool], None]) -> bool:
        if self.takes:
            self.offers.append(settled)
        return self.takes


class Connection:
    def __init__(self) -> None:
        self.did: list[str] = []
        self.is_idle = True
        self.can_leave = True
        self.is_empty = True

    def is_between_requests(self) -> bool:
        return self.is_idle

    def may_leave(self) -> bool:
        return self.can_leave

    def pause_reading(self) -> None:
        self.did.append("pause")

    def stay(self) -> None:
        self.did.append("read on")

    def is_flushed(self) -> bool:
        return self.is_empty

    def offer_to(self, successor: Any, settled: Callable[[bool], None]) -> bool:
        self.did.append("offer")
        return bool(successor.take(7, None, settled))

    def leave(self) -> None:
        self.did.append("leave")

    def begin_drain(self) -> None:
        self.did.append("drain")


def enlisted(**options: Any) -> tuple[Connection, Following, IdleHandover]:
    connection, following = Connection(), Following(**options)
    handover = IdleHandover(connection)
    handover.enlist(following)
    return connection, following, handover


def test_a_connection_serves_on_until_its_turn_and_goes_then() -> None:
    connection, following, handover = enlisted()
    assert handover.state is HoldState.FREE
    assert connection.did == []
    following.turns.pop()()
    assert handover.state is HoldState.OFFERED
    following.offers.pop()(True)
    assert handover.state is HoldState.GONE
    assert connection.did == ["pause", "offer", "leave"]


def test_it_asks_once_and_says_whether_the_turn_comes_at_once() -> None:
    _, following, handover = enlisted(at_once=True)
    assert not handover.enlist(following)
    assert not handover.enlist(None)
    assert len(following.turns) == 1
    assert IdleHandover(Connection()).enlist(following)


def test_a_turn_in_the_middle_of_a_request_is_let_pass() -> None:
    connection, following, handover = enlisted()
    connection.is_idle = False
    following.turns.pop()()
    assert handover.state is HoldState.FREE
    assert connection.did == []


def test_one_that_may_not_leave_any_more_reads_on() -> None:
    connection, following, handover = enlisted()
    handover.hold()
    connection.can_leave = False
    following.turns.pop()()
    assert handover.state is HoldState.FREE
    assert connection.did == ["pause", "read on"]


def test_what_was_written_goes_first() -> None:
    connection, following, handover = enlisted()
    connection.is_empty = False
    following.turns.pop()()
    assert handover.state is HoldState.HELD
    connection.is_empty = True
    handover.enlist(following)
    following.turns.pop()()
    assert handover.state is HoldState.OFFERED


def test_a_refusal_is_remembered_and_the_connection_ends_here() -> None:
    connection, following, handover = enlisted()
    following.turns.pop()()
    following.offers.pop()(False)
    assert handover.was_refused_by(following)
    assert handover.state is HoldState.HELD
    assert connection.did[-1] == "drain"
    handover.release()
    assert connection.did[-1] == "read on"


def test_one_that_is_not_taken_at_all_is_refused() -> None:
    connection, following, handover = enlisted(takes=False)
    following.turns.pop()()
    assert handover.was_refused_by(following)
    assert connection.did == ["pause", "offer", "drain"]


def test_a_connection_that_ends_while_it_is_offered_hears_nothing_more() -> None:
    connection, following, handover = enlisted()
    following.turns.pop()()
    handover.cancel()
    following.offers.pop()(True)
    assert "leave" not in connection.did


def test_one_that_is_offered_is_not_released() -> None:
    connection, following, handover = enlisted()
    following.turns.pop()()
    handover.release()
    assert handover.state is HoldState.OFFERED
    assert "read on" not in connection.did
