"""An offer for which the system has no room just now is made a little later, and lost by nobody."""

import os
from collections import deque

import pytest

from asgireload.errors import ParcelError
from asgireload.ipc.parcels import Settled
from asgireload.ipc.passage import Sent
from asgireload.worker import sender
from asgireload.worker.sender import Sender


class Handle:
    is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Loop:
    def __init__(self):
        self.soon, self.later = deque(), []

    def time(self):
        return 0.0

    def add_reader(self, descriptor, callback):
        self.hear = callback

    def remove_reader(self, descriptor):
        pass

    def call_soon(self, callback):
        self.soon.append(callback)

    def call_later(self, delay, callback):
        handle = Handle()
        self.later.append((delay, callback, handle))
        return handle

    def run(self):
        while self.soon:
            self.soon.popleft()()

    def retry(self):
        due = [each for each in self.later if each[0] == sender.RETRY_SECONDS]
        self.later = [each for each in self.later if each not in due]
        for _, callback, handle in due:
            assert not handle.is_cancelled
            callback()
        self.run()
        return len(due)


class Passage:
    """Answers offers with what `answers` has, and says what `says` has."""

    def __init__(self, *answers):
        self.answers, self.says, self.offered = deque(answers), deque(), []
        self.is_closed = False

    def fileno(self):
        return -1

    def offer(self, number, data, descriptor):
        os.fstat(descriptor)
        answer = self.answers.popleft()
        if isinstance(answer, OSError):
            raise answer
        self.offered.append((number, data))
        return answer

    def receive(self):
        if not self.says:
            raise BlockingIOError
        said = self.says.popleft()
        if isinstance(said, Exception):
            raise said
        return said

    def close(self):
        self.is_closed = True


class Scene:
    """Connections 1, 2 ... ask for their turns and are offered in them."""

    def __init__(self, *answers):
        self.loop, self.passage = Loop(), Passage(*answers)
        self.settled, self.taken, self.gone = {}, [], []
        self.sender = Sender(
            self.loop,
            self.passage,
            self.gone.append,
            lambda: self.taken.append(1),
            lambda full: None,
        )

    def enlist(self, number):
        def turn():
            assert self.sender.take(0, f"parcel {number}", lambda taken: self.settle(number, taken))

        self.sender.enlist(turn)
        self.loop.run()

    def settle(self, number, taken):
        assert number not in self.settled
        self.knew_of_the_end = bool(self.gone)
        self.settled[number] = taken


@pytest.fixture(autouse=True)
def parcels(monkeypatch):
    monkeypatch.setattr(sender, "encode_parcel", str.encode)


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def test_it_is_offered_again_and_the_others_wait_behind_it():
    scene = Scene(Sent.NO_ROOM, Sent.NO_ROOM, Sent.YES, Sent.YES)
    scene.enlist(1)
    scene.enlist(2)
    assert scene.passage.offered == [(1, b"parcel 1")]
    assert scene.loop.retry() == 1
    assert scene.loop.retry() == 1
    assert scene.passage.offered == [(1, b"parcel 1")] * 3 + [(2, b"parcel 2")]
    assert scene.settled == {}
    scene.passage.says.append((Settled(taken=(1, 2)), []))
    scene.loop.hear()
    assert scene.settled == {1: True, 2: True}
    assert scene.sender.handed_over == 2
    assert scene.loop.retry() == 0


@pytest.mark.parametrize("answer", [Sent.GONE, OSError("no memory")])
def test_it_stays_when_the_other_one_is_gone_then(answer):
    scene = Scene(Sent.NO_ROOM, answer, Sent.YES)
    scene.enlist(1)
    scene.loop.retry()
    assert scene.settled == {1: False}
    assert scene.sender.came_back == 1


def test_it_is_kept_at_the_end_though_what_was_sent_counts_as_taken():
    scene = Scene(Sent.YES, Sent.NO_ROOM)
    scene.enlist(1)
    scene.enlist(2)
    scene.passage.says.append(ParcelError("no sense"))
    scene.loop.hear()
    assert scene.settled == {1: True, 2: False}
    assert scene.gone == [scene.sender]
    (retry,) = [handle for delay, _, handle in scene.loop.later if delay == sender.RETRY_SECONDS]
    assert retry.is_cancelled


@pytest.mark.parametrize("heard_by", ["retry", "hear"])
@pytest.mark.parametrize("answers", [(Sent.GONE, Sent.GONE), (Sent.NO_ROOM, Sent.GONE)])
def test_whoever_comes_back_from_one_that_has_ended_can_know_it(answers, heard_by):
    """A WebSocket that has given its state goes to the next worker then, and is closed otherwise."""
    scene = Scene(*answers)
    scene.enlist(1)
    assert scene.settled == {}
    scene.passage.says.append(None)
    getattr(scene.loop, heard_by)()
    assert scene.settled == {1: False}
    assert scene.knew_of_the_end
    assert scene.sender.is_spent


def test_it_comes_back_with_the_others_when_the_other_one_ends():
    scene = Scene(Sent.YES, Sent.NO_ROOM)
    scene.enlist(1)
    scene.enlist(2)
    scene.passage.says.append(None)
    scene.loop.hear()
    assert scene.settled == {1: False, 2: False}
    assert scene.sender.came_back == 2
