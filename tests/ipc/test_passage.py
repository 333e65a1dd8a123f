"""The passage itself: a real socket pair, blocking nothing."""

import errno
import os
import socket

import pytest

from asgireload.errors import ParcelError
from asgireload.ipc import passage as passage_module
from asgireload.ipc.parcels import Offer, Settled, Withdrawn
from asgireload.ipc.passage import INLINE_LIMIT, MESSAGE_LIMIT, Passage, Sent, read_parcel
from asgireload.worker.offers import WINDOW


@pytest.fixture
def pair():
    one, other = Passage.pair()
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def close_all(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)


def test_offer_arrives_with_the_descriptor_and_the_parcel(pair, pipe):
    one, other = pair
    assert one.offer(7, b"parcel", pipe[1]) is Sent.YES
    message, descriptors = other.receive()
    assert message == Offer(7, b"parcel")
    os.write(descriptors[0], b"hello")
    assert os.read(pipe[0], 5) == b"hello"
    close_all(descriptors)


@pytest.mark.parametrize("size", [INLINE_LIMIT, INLINE_LIMIT + 1, 300_000])
def test_parcels_of_every_size_arrive(pair, pipe, size):
    one, other = pair
    data = os.urandom(size)
    assert one.offer(1, data, pipe[1]) is Sent.YES
    message, descriptors = other.receive()
    assert (message.parcel or read_parcel(descriptors[1])) == data
    close_all(descriptors)


def test_parcel_beyond_the_limit_is_not_read(pipe, monkeypatch):
    monkeypatch.setattr(passage_module, "PARCEL_LIMIT", 10)
    descriptor = os.memfd_create("test")
    try:
        os.write(descriptor, b"x" * 11)
        with pytest.raises(ParcelError, match="larger than 10"):
            read_parcel(descriptor)
    finally:
        os.close(descriptor)


def test_a_window_of_the_largest_offers_finds_room(pair, pipe):
    one, other = pair
    for number in range(WINDOW):
        assert one.offer(number, b"x" * INLINE_LIMIT, pipe[1]) is Sent.YES
    assert one.say(Withdrawn()) is Sent.YES
    for _ in range(WINDOW):
        close_all(other.receive()[1])
    assert other.receive()[0] == Withdrawn()


def test_a_window_of_numbers_fits_into_one_message(pair):
    one, other = pair
    numbers = tuple(range(2**40, 2**40 + WINDOW))
    assert one.say(Settled(numbers, ())) is Sent.YES
    assert other.receive()[0] == Settled(numbers, ())
    assert MESSAGE_LIMIT > INLINE_LIMIT


def test_words_of_a_side_that_ended_with_messages_unread_are_heard(pair):
    """The kernel reports a reset before it hands them out."""
    one, other = pair
    one.say(Withdrawn())
    other.say(Settled((1,), ()))
    other.say(Settled((2,), ()))
    other.close()
    assert one.receive()[0] == Settled((1,), ())
    assert one.receive()[0] == Settled((2,), ())
    assert one.receive() is None


def test_speaking_to_a_side_that_is_gone_says_so(pair, pipe):
    one, other = pair
    one.say(Withdrawn())
    other.close()
    assert one.offer(1, b"", pipe[1]) is Sent.GONE
    assert one.say(Withdrawn()) is Sent.GONE


def test_after_a_withdrawal_the_other_cannot_speak_and_what_it_said_is_heard(pair):
    one, other = pair
    assert other.say(Settled((1,), ())) is Sent.YES
    assert one.withdraw()
    assert other.say(Settled((2,), ())) is Sent.GONE
    assert one.receive()[0] == Settled((1,), ())
    assert one.receive() is None
    assert other.receive()[0] == Withdrawn()
    with pytest.raises(BlockingIOError):
        other.receive()
    one.close()
    assert other.receive() is None


def test_withdrawal_finds_room_in_a_full_queue(pair, pipe):
    one, other = pair
    sent = 0
    while one.offer(sent, b"x" * INLINE_LIMIT, pipe[1]) is Sent.YES:
        sent += 1
    assert one.withdraw()
    for _ in range(sent):
        close_all(other.receive()[1])
    assert other.receive()[0] == Withdrawn()


def test_withdrawal_from_a_side_that_is_gone_keeps_everything(pair):
    one, other = pair
    other.close()
    assert one.withdraw()


def test_descriptors_that_find_no_room_are_missing_and_nothing_leaks(pair, pipe, monkeypatch):
    one, other = pair
    import resource

    assert one.offer(1, b"parcel", pipe[1]) is Sent.YES
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        message, descriptors = other.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert message == Offer(1, b"parcel")
    assert descriptors == []


def test_system_without_room_for_descriptors_on_their_way_is_no_room(pair, pipe, monkeypatch):
    one, _ = pair

    class Full:
        def sendmsg(self, *arguments):
            raise OSError(errno.ETOOMANYREFS, os.strerror(errno.ETOOMANYREFS))

        def fileno(self):
            return 0

    real, one._socket = one._socket, Full()
    try:
        assert one.offer(1, b"", pipe[1]) is Sent.NO_ROOM
    finally:
        one._socket = real


def test_bytes_that_are_no_message_are_an_error_and_leak_nothing(pair, pipe):
    one, other = pair
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(one._socket, [b"garbage"], [pipe[1]])
    with pytest.raises(ParcelError):
        other.receive()
    assert len(os.listdir("/proc/self/fd")) == before
