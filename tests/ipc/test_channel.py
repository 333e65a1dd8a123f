"""Messages and descriptors between processes."""

import asyncio
import contextlib
import os
import resource
import socket

import pytest

from asgireload.config import Config
from asgireload.errors import ChannelClosedError
from asgireload.failures import Failure
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import (
    TEXT_LIMIT,
    AppFailed,
    Drain,
    ForkWorker,
    LoadApp,
    TakeOver,
    WorkerReady,
    shortened,
)


@pytest.fixture
def channels():
    ours, sock = Channel.pair()
    theirs = Channel(sock)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_whole_and_in_order_with_their_descriptors(channels):
    ours, theirs = channels
    read, write = os.pipe()
    ours.send(ForkWorker(7, 2, 11), [read, write])
    ours.send(Drain("reload", 20.0))
    message, descriptors = theirs.receive()
    assert message == ForkWorker(7, 2, 11)
    os.write(descriptors[1], b"x")
    assert os.read(descriptors[0], 1) == b"x"
    assert not any(os.get_inheritable(fd) for fd in descriptors)
    assert theirs.receive() == (Drain("reload", 20.0), [])
    for descriptor in (read, write, *descriptors):
        os.close(descriptor)


def test_the_whole_configuration_travels(channels):
    ours, theirs = channels
    config = Config(app="app:app", bind=("127.0.0.1:0",), header=(("x-a", "b"),), max_rss=5)
    ours.send(LoadApp(1, config, preload=True, directory="/", name="app"))
    message, _ = theirs.receive()
    assert isinstance(message, LoadApp)
    assert message.config == config


def test_end_of_the_other_process_is_end_of_file(channels):
    ours, theirs = channels
    theirs.close()
    with pytest.raises(ChannelClosedError):
        ours.receive()
    with pytest.raises(ChannelClosedError):
        ours.send(WorkerReady())


def test_garbage_closes_the_channel_instead_of_raising_elsewhere():
    ours, sock = Channel.pair()
    sock.send(b"not a message")
    with pytest.raises(ChannelClosedError, match="unreadable"):
        ours.receive()
    ours.close()
    sock.close()


def test_what_was_said_before_the_end_is_delivered_before_the_end(channels):
    ours, theirs = channels
    said = []

    async def scenario():
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        ours.attach(loop, lambda message, _: said.append(message), lambda: done.set_result(None))
        theirs.send(AppFailed(Failure("import", "no", "tb")))
        theirs.close()
        await asyncio.wait_for(done, 5)

    asyncio.run(scenario())
    assert said == [AppFailed(Failure("import", "no", "tb"))]


def test_posting_to_a_peer_that_does_not_read_queues_in_order(channels):
    ours, theirs = channels

    async def scenario():
        loop = asyncio.get_running_loop()
        ours.attach(loop, lambda message, _: None, lambda: None)
        text = "x" * 40_000
        for number in range(50):
            ours.post(AppFailed(Failure("import", str(number), text)))
        received = []
        complete = asyncio.Event()

        def take(message, _):
            received.append(message.failure.summary)
            if len(received) == 50:
                complete.set()

        theirs.attach(loop, take, lambda: None)
        await complete.wait()
        assert received == [str(number) for number in range(50)]

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_posting_to_a_dead_peer_is_harmless(channels):
    ours, theirs = channels

    async def scenario():
        ours.attach(asyncio.get_running_loop(), lambda message, _: None, lambda: None)
        theirs.close()
        ours.post(WorkerReady())
        ours.close()
        ours.post(WorkerReady())

    asyncio.run(scenario())


def test_long_tracebacks_keep_both_ends():
    text = "a" * TEXT_LIMIT + "b" * TEXT_LIMIT
    short = shortened(text)
    assert len(short.encode()) < TEXT_LIMIT + 100
    wide = shortened("\N{SNOWMAN}" * TEXT_LIMIT)
    assert len(wide.encode()) < TEXT_LIMIT + 100
    assert short.startswith("a")
    assert short.endswith("b")
    assert shortened("short") == "short"


def test_descriptors_that_wait_survive_the_caller_closing_its_own(channels):
    ours, theirs = channels

    async def scenario():
        loop = asyncio.get_running_loop()
        ours.attach(loop, lambda message, _: None, lambda: None)
        for _ in range(20):
            ours.post(AppFailed(Failure("import", "", "x" * 40_000)))
        left, right = socket.socketpair()
        ours.post(ForkWorker(1, 1, 1), [left.fileno()])
        left.close()
        found = loop.create_future()

        def take(message, descriptors):
            if descriptors:
                found.set_result(descriptors[0])

        theirs.attach(loop, take, lambda: None)
        descriptor = await found
        os.write(descriptor, b"x")
        assert right.recv(1) == b"x"
        os.close(descriptor)
        right.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_last_words_of_a_peer_that_left_messages_unread_are_heard(channels):
    """The kernel reports a reset first."""
    ours, theirs = channels
    ours.send(Drain("reload", 1.0))
    theirs.send(WorkerReady())
    theirs.close()
    assert ours.receive() == (WorkerReady(), [])
    with pytest.raises(ChannelClosedError):
        ours.receive()


@pytest.fixture
def fill_files():
    """Return a context in which this process has as many files open as it may."""

    @contextlib.contextmanager
    def filled():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.open("/dev/null", os.O_RDONLY)
        os.close(free)
        # The lowest free number becomes the limit; higher ones that are open stay so.
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    return filled


def test_descriptor_without_room_is_missing_and_the_channel_lives(channels, fill_files):
    ours, theirs = channels
    passage, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    received = []
    closed = []

    class Loop:
        def add_reader(self, descriptor, callback):
            """The test delivers by itself."""

        def remove_reader(self, descriptor):
            """As above."""

    theirs.attach(
        Loop(), lambda message, found: received.append((message, found)), lambda: closed.append(1)
    )
    with passage:
        with end:
            ours.send(TakeOver(), [end.fileno()])
        ours.send(Drain("reload", 20.0))
        with fill_files():
            theirs.deliver()
        assert received == [(TakeOver(), []), (Drain("reload", 20.0), [])]
        assert not closed
        # Nobody holds the other end, and whoever waits for it sees that.
        assert passage.recv(1) == b""


def test_blocking_receiver_is_told_that_descriptors_were_lost(channels, fill_files):
    ours, theirs = channels
    read, write = os.pipe()
    ours.send(ForkWorker(7, 2, 11), [read, write])
    with fill_files(), pytest.raises(ChannelClosedError, match="limit of open files"):
        theirs.receive()
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)
