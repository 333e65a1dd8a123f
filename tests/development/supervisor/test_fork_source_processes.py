"""Fork sources and standby templates are heard, killed and collected as any child is."""

import asyncio
import gc
import signal
import socket

import pytest

from asgireload.development.supervisor.fork_source_processes import ForkSourceProcesses
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import count_descriptors
from asgireload.ipc.messages import ChildStarted, ForkTemplate, LibraryBaseUnfit
from asgireload.ipc.scoreboard import Scoreboard
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.roles import FORK_SOURCE, IMPORT_CHECKPOINT
from tests.supervisor.invented_system import InventedChild, Parent


class Sources:
    """Fork sources in the invented world. `said` and `ended` are what their owner has heard."""

    def __init__(self, parent):
        self.parent = parent
        self.said = []
        self.ended = []
        self.processes = ForkSourceProcesses(
            parent.handles,
            lambda source, message, descriptors: self.said.append(message),
            lambda source, reason: self.ended.append(reason),
        )

    def add(self, role=FORK_SOURCE, *, has_process=True):
        """Return a source and its own side."""
        channel, theirs = Channel.pair()
        process = self.parent.system.begin() if has_process else None
        source = self.processes.add(role, channel, process, variables={}, name="library base")
        child = InventedChild(theirs)
        self.parent.children.append(child)
        return source, child

    def fork_standby(self, child):
        """Let a source carry out the request for a standby template; return the side of that."""
        message, (descriptor,) = child.receive()
        assert message == ForkTemplate()
        standby = InventedChild(socket.socket(fileno=descriptor))
        self.parent.children.append(standby)
        return standby


@pytest.fixture(scope="module")
def scoreboard():
    scoreboard = Scoreboard.create()
    yield scoreboard
    scoreboard.close()


@pytest.fixture
def sources(scoreboard):
    gc.collect()  # what earlier tests have dropped does not count
    before = count_descriptors()
    parent = Parent(scoreboard)
    yield Sources(parent)
    parent.close()
    assert count_descriptors() == before, "a descriptor was left open"


def test_what_a_source_says_is_told_to_its_owner_and_not_to_the_decisions(sources):
    _, child = sources.add()
    child.say(LibraryBaseUnfit("numpy", "a thread"))
    sources.parent.loop.turn()
    assert sources.said == [LibraryBaseUnfit("numpy", "a thread")]
    assert not sources.parent.events


def test_one_that_ends_is_told_with_the_reason(sources):
    source, _ = sources.add()
    sources.parent.end(source.pid, 1)
    assert sources.ended == ["exit status 1"]
    assert not sources.parent.events


def test_one_that_is_dropped_is_killed_and_not_heard_any_more(sources):
    source, child = sources.add()
    process = sources.parent.system.processes[source.pid]
    assert sources.processes.drop(source)
    assert not sources.processes.drop(source)
    assert child.channel.has_message(), "end of file"
    assert process.signals == [signal.SIGKILL]
    assert sources.processes.all() == []
    sources.parent.end(source.pid, -signal.SIGKILL)
    assert not sources.ended
    assert not sources.parent.handles.all()


def test_a_checkpoint_that_has_not_told_its_pid_sees_its_channel_close(sources):
    source, child = sources.add(IMPORT_CHECKPOINT, has_process=False)
    sources.processes.drop(source)
    sources.parent.loop.turn()
    assert child.channel.has_message(), "end of file"
    assert not sources.parent.handles.all()


def test_a_standby_template_is_the_takers_with_its_channel(sources):
    source, child = sources.add()
    sources.processes.keep_standby(source.source_id)
    sources.processes.keep_standby(source.source_id)
    standby = sources.fork_standby(child)
    process = sources.parent.system.begin()
    standby.say(ChildStarted(process.pid))
    sources.parent.loop.turn()
    taken = source.take_standby()
    assert (taken.pid, taken.state) == (process.pid, State.READY)
    assert source.take_standby() is None
    assert sources.parent.handles.all() == [source]
    sources.processes.drop(source)
    assert not process.signals, "it lives on"
    taken.channel.close()


def test_a_standby_template_that_dies_may_be_forked_anew(sources):
    source, child = sources.add()
    sources.processes.keep_standby(source.source_id)
    sources.fork_standby(child).close()
    sources.parent.loop.turn()
    assert source.standby is None
    sources.processes.keep_standby(source.source_id)
    assert source.standby is not None
    sources.fork_standby(child)


def test_only_one_source_keeps_a_standby_template(sources):
    (first, child), (second, _) = sources.add(), sources.add(IMPORT_CHECKPOINT)
    sources.processes.keep_standby(first.source_id)
    standby = sources.fork_standby(child)
    process = sources.parent.system.begin()
    standby.say(ChildStarted(process.pid))
    sources.parent.loop.turn()
    sources.processes.keep_standby(second.source_id)
    assert first.standby is None
    assert process.signals == [signal.SIGKILL]
    assert second.standby is not None


def test_a_stop_waits_until_what_was_killed_is_collected(sources):
    source, _ = sources.add()
    pid = source.pid
    sources.processes.drop(source)

    async def stop():
        waiting = asyncio.ensure_future(sources.processes.wait_collected(5.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        sources.parent.end(pid, -signal.SIGKILL)
        await waiting

    asyncio.run(stop())


def test_a_stop_does_not_wait_for_ever(sources):
    source, _ = sources.add()
    sources.processes.drop(source)
    asyncio.run(sources.processes.wait_collected(0.0))
    assert sources.parent.handles.holds(source)
