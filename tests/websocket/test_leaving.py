"""Who owns an open WebSocket while it is handed over: exactly one side, whatever happens in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import AppProtocolError
from asgireload.http1.leaving import LeavingState
from asgireload.websocket.leaving import HandoverStage, WebSocketLeaving


class Timer:
    def __init__(self):
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Loop:
    def call_later(self, delay, callback):
        self.timer, self.delay, self.fire = Timer(), delay, callback
        return self.timer


class Successor:
    def __init__(self, *, takes=True):
        self.turns = []
        self.offers = []
        self.takes = takes
        self.is_spent = False

    def enlist(self, turn):
        self.turns.append(turn)
        return True

    def take(self, descriptor, parcel, settled):
        self.offers.append((descriptor, parcel, settled))
        return self.takes


class Socket:
    def __init__(self):
        self.ready = False
        self.number = 7
        self.seconds = 5.0
        self.ends = []

    def patience(self):
        return self.seconds

    def is_settled(self):
        return self.ready

    def descriptor(self):
        return self.number

    def make_parcel(self):
        return self.leaving.app_state

    def release_socket(self):
        self.ends.append("gone")

    def keep(self):
        self.ends.append("kept")


@pytest.fixture
def scene():
    return make_scene()


def make_scene(**options):
    loop, successor, socket = Loop(), Successor(**options), Socket()
    socket.leaving = WebSocketLeaving(loop, successor, socket)
    return loop, successor, socket, socket.leaving


def offer(successor, socket, leaving):
    leaving.answer(b"state", 100)
    socket.ready = True
    leaving.advance()
    successor.turns.pop()()


def test_it_is_offered_once_all_is_settled_and_its_turn_has_come(scene):
    loop, successor, socket, leaving = scene
    leaving.advance()
    leaving.answer(bytearray(b"state"), 5)
    leaving.advance()
    assert not successor.turns
    socket.ready = True
    leaving.advance()
    leaving.advance()
    assert loop.timer.is_cancelled
    (turn,) = successor.turns
    assert leaving.state is LeavingState.ENLISTED
    turn()
    ((descriptor, parcel, settled),) = successor.offers
    assert (descriptor, parcel) == (7, b"state")
    assert socket.ends == []
    settled(True)
    assert socket.ends == ["gone"]
    assert leaving.state is LeavingState.GONE


def test_what_comes_back_stays(scene):
    _, successor, socket, leaving = scene
    offer(successor, socket, leaving)
    successor.offers[0][2](False)
    assert socket.ends == ["kept"]


def test_what_cannot_be_offered_stays():
    _, successor, socket, leaving = make_scene(takes=False)
    offer(successor, socket, leaving)
    assert socket.ends == ["kept"]


def test_a_connection_that_is_closing_is_not_offered(scene):
    _, successor, socket, leaving = scene
    socket.number = -1
    offer(successor, socket, leaving)
    assert not successor.offers
    assert socket.ends == []


def test_the_timeout_counts_until_it_is_enlisted(scene):
    loop, successor, socket, leaving = scene
    assert loop.delay == 5.0
    leaving.answer(b"", 0)
    loop.fire()
    assert socket.ends == ["kept"]
    socket.ready = True
    leaving.advance()
    assert not successor.turns


def test_another_successor_gives_the_turn_that_the_former_has_forgotten(scene):
    _, successor, socket, leaving = scene
    leaving.answer(b"state", 100)
    socket.ready = True
    leaving.advance()
    other = Successor()
    leaving.follow(other)
    leaving.follow(other)
    assert len(other.turns) == 1
    other.turns[0]()
    assert not successor.offers
    assert len(other.offers) == 1
    leaving.follow(None)  # what is offered is not ours to decide
    assert socket.ends == []


@pytest.mark.parametrize("how", ["enlisted", "offered", "full", "answered"])
def test_when_its_successor_is_lost_it_goes_to_the_next(scene, how):
    loop, successor, socket, leaving = scene
    leaving.answer(b"state", 100)
    if how == "answered":
        leaving.follow(None)
    socket.ready = True
    leaving.advance()
    if how in ("offered", "full"):
        successor.turns.pop()()
        successor.is_spent = True
        successor.offers.pop()[2](False)
        leaving.follow(successor if how == "full" else None)
    elif how == "enlisted":
        leaving.follow(None)
    assert leaving.state is LeavingState.WAITING
    assert not loop.timer.is_cancelled
    other = Successor()
    leaving.follow(other)
    assert loop.timer.is_cancelled
    (turn,) = other.turns
    turn()
    ((_, parcel, settled),) = other.offers
    assert parcel == b"state"
    settled(True)
    assert socket.ends == ["gone"]


def test_one_that_comes_back_when_another_is_named_already_goes_there(scene):
    _, successor, socket, leaving = scene
    offer(successor, socket, leaving)
    other = Successor()
    leaving.follow(other)
    assert not other.turns
    successor.offers.pop()[2](False)
    assert leaving.state is LeavingState.ENLISTED
    other.turns.pop()()
    assert len(other.offers) == 1


def test_each_wait_is_as_long_as_its_socket_can_wait_by_then(scene):
    loop, successor, socket, leaving = scene
    assert loop.delay == 5.0
    socket.seconds = 0.5
    offer(successor, socket, leaving)
    leaving.follow(None)
    successor.offers.pop()[2](False)
    assert leaving.state is LeavingState.WAITING
    assert loop.delay == 0.5


def test_it_stays_when_nobody_follows_in_time(scene):
    loop, successor, socket, leaving = scene
    offer(successor, socket, leaving)
    successor.is_spent = True
    successor.offers.pop()[2](False)
    assert loop.delay == 5.0
    assert socket.ends == []
    loop.fire()
    assert socket.ends == ["kept"]
    other = Successor()
    leaving.follow(other)
    assert not other.turns


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("text", "must be bytes, not str"),
        (None, "not NoneType"),
        (bytes(101), "101 bytes, more than"),
    ],
)
def test_a_state_that_is_none_changes_nothing(scene, state, text):
    *_, leaving = scene
    with pytest.raises(AppProtocolError, match=text):
        leaving.answer(state, 100)
    assert leaving.stage is HandoverStage.ASKED


STEPS = [
    "answer", "ready", "advance", "turn", "taken", "refused", "fail", "cancel", "gone", "other", "full"
]  # fmt: skip


@given(st.lists(st.sampled_from(STEPS), max_size=20), st.booleans())
def test_in_any_order_of_events_one_side_owns_it(steps, takes):
    loop, first, socket, leaving = make_scene(takes=takes)
    successors = [first]
    was_taken = False
    for step in steps:
        successor = successors[-1]
        offers = [each for all_ in successors for each in all_.offers]
        match step:
            case "answer":
                if leaving.stage is HandoverStage.ASKED:
                    leaving.answer(b"state", 100)
            case "ready":
                socket.ready = True
            case "advance":
                leaving.advance()
            case "turn":
                if successor.turns:
                    successor.turns.pop(0)()
            case "taken" | "refused":
                if offers and takes and not hasattr(offers[0][2], "told") and len(offers) == 1:
                    was_taken = was_taken or (step == "taken" and socket.ends == [])
                    offers[0][2](step == "taken")
                    for all_ in successors:
                        all_.offers.clear()
            case "fail":
                loop.fire()
            case "cancel":
                if leaving.state is not LeavingState.OFFERED:
                    leaving.cancel()
            case "gone":
                successor.is_spent = True
                leaving.follow(None)
            case "full":
                successor.is_spent = True
            case "other":
                successors.append(Successor(takes=takes))
                leaving.follow(successors[-1])
        assert len(socket.ends) <= 1
        assert not (was_taken and "kept" in socket.ends)
        assert sum(len(each.offers) for each in successors) <= 1
    assert ("gone" in socket.ends) == was_taken
