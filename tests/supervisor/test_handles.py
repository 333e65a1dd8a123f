"""One way to start, hear, signal and collect children, in a world without processes."""

import errno
import gc
import os
import signal

import pytest

from asgireload.draining import DrainReason
from asgireload.errors import TlsError
from asgireload.failures import Failure
from asgireload.ipc.linux import count_descriptors
from asgireload.ipc.messages import (
    AppFailed,
    AppImported,
    AppLoaded,
    ChildStarted,
    Drain,
    ForkFailed,
    HandOver,
    Hold,
    LoadApp,
    TakeOver,
    VariablesDiffer,
    WorkerDrained,
    WorkerFailed,
    WorkerReady,
)
from asgireload.ipc.scoreboard import Field, Scoreboard
from asgireload.supervisor.events import ChildExited, DrainChild, ForkChild, StartTemplate
from asgireload.supervisor.handles import NOT_STARTED, SILENT_END
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.roles import WORKER
from asgireload.supervisor.template_handles import TemplateHandles
from tests.supervisor.invented_system import Parent, close_all


@pytest.fixture(scope="module")
def scoreboard():
    scoreboard = Scoreboard.create()
    yield scoreboard
    scoreboard.close()


@pytest.fixture
def parent(scoreboard):
    gc.collect()  # what earlier tests have dropped does not count
    before = count_descriptors()
    parent = Parent(scoreboard)
    yield parent
    parent.close()
    assert count_descriptors() == before, "a descriptor was left open"


def begin(parent, child):
    """Let a forked child begin and say so; return its process."""
    process = parent.system.begin()
    child.say(ChildStarted(process.pid))
    parent.loop.turn()
    return process


# --- start ----------------------------------------------------------------------------------------


def test_a_template_is_told_what_to_load_and_its_pid_is_told_to_the_decisions(parent):
    template = parent.start_template()
    (pid,) = parent.system.processes
    request, descriptors = template.receive()
    assert isinstance(request, LoadApp)
    assert len(descriptors) == 2
    close_all(descriptors)
    assert parent.said() == [ChildStarted(pid)]
    assert parent.handles.get(1).state is State.BOOTING
    template.say(AppLoaded(0.5, module_count=3))
    parent.loop.turn()
    assert parent.events[-1].message == AppLoaded(0.5, module_count=3)
    assert parent.events[-1].detail == "read 3 modules"
    assert parent.handles.get(1).state is State.READY


def test_a_worker_is_forked_by_its_template_and_heard(parent):
    parent.start_template()
    worker = parent.fork()
    assert parent.handles.get(2).state is State.STARTING
    process = begin(parent, worker)
    worker.say(WorkerReady(has_lifespan=True))
    parent.loop.turn()
    assert parent.said()[-2:] == [ChildStarted(process.pid), WorkerReady(has_lifespan=True)]
    assert parent.handles.get(2).state is State.READY
    assert parent.handles.pids() == set(parent.system.processes)


def test_what_cannot_be_spawned_is_an_exit_that_says_why(parent):
    parent.system.has_processes = False
    parent.templates.start(StartTemplate(1, 1, preload=True))
    assert not parent.events, "a step is being carried out"
    parent.loop.turn()
    ((child_id, why),) = parent.exits()
    assert child_id == 1
    assert why.startswith("could not be started: ")
    assert not parent.handles.all()


def test_without_descriptors_nothing_is_started_and_nothing_is_left_open(parent):
    parent.start_template()
    parent.system.has_descriptors = False
    parent.workers.fork(ForkChild(2, WORKER, 1, 0, 1))
    parent.templates.start(StartTemplate(3, 1, preload=True))
    parent.loop.turn()
    assert [child_id for child_id, _ in parent.exits()] == [2, 3]
    assert all("Too many open files" in why for _, why in parent.exits())
    assert [handle.child_id for handle in parent.handles.all()] == [1]


def test_a_template_whose_certificates_do_not_fit_is_not_started(parent):
    def refuse(generation):
        raise TlsError("the key does not fit")

    templates = TemplateHandles(parent.handles, parent.source, parent.scoreboard.descriptor, refuse)
    templates.start(StartTemplate(1, 2, preload=True))
    parent.loop.turn()
    assert parent.said() == [AppFailed(Failure("tls", "the key does not fit"))]
    assert parent.exits() == [(1, NOT_STARTED)]
    assert not parent.source.templates


def test_a_worker_whose_template_is_gone_ends_at_once(parent):
    parent.workers.fork(ForkChild(2, WORKER, 1, 0, 1))
    parent.loop.turn()
    assert parent.exits() == [(2, SILENT_END)]


def test_a_fork_that_failed_is_said_of_the_worker(parent):
    template = parent.start_template()
    worker = parent.fork()
    template.say(ForkFailed(2, "Cannot allocate memory"))
    worker.close()
    parent.loop.turn()
    assert parent.events[-2].child_id == 2
    assert parent.events[-2].message == ForkFailed(2, "Cannot allocate memory")
    assert parent.exits() == [(2, SILENT_END)]


def test_in_development_the_template_goes_on_as_the_worker(parent):
    parent.start_template(becomes_worker=True)
    parent.source.templates[-1].say(AppLoaded(0.1))
    parent.loop.turn()
    (pid,) = parent.system.processes
    worker = parent.fork()
    assert parent.handles.get(1) is None
    assert parent.source.forgotten == [1]
    assert parent.handles.get(2).pid == pid
    worker.say(ChildStarted(pid))
    parent.loop.turn()
    assert parent.handles.get(2).state is State.BOOTING
    assert not parent.system.processes[pid].signals
    parent.end(pid, 1)
    assert parent.exits() == [(2, "exit status 1")]


# --- say ------------------------------------------------------------------------------------------


def test_messages_reach_the_child_and_none_reaches_one_that_is_gone(parent):
    parent.start_template()
    worker = parent.fork()
    parent.handles.post(2, Hold(1.5))
    parent.handles.post(99, Hold(1.5))
    assert worker.receive() == (Hold(1.5), [])


def test_a_worker_that_drains_is_paired_with_the_one_that_takes_over(parent):
    parent.start_template()
    old = parent.fork(2)
    begin(parent, old)
    old.say(WorkerReady())
    parent.loop.turn()
    new = parent.fork(3)
    parent.workers.drain(DrainChild(2, DrainReason.RELOAD, 20.0, (3, 99)))
    handed, descriptors = old.receive()
    close_all(descriptors)
    assert handed == HandOver(3, beside=False)
    assert old.receive() == (Drain("reload", 20.0, reports=True), [])
    taken, descriptors = new.receive()
    close_all(descriptors)
    assert taken == TakeOver()
    assert parent.handles.get(2).state is State.DRAINING


def test_without_descriptors_a_drain_hands_nothing_over(parent, caplog):
    parent.start_template()
    old, new = parent.fork(2), parent.fork(3)
    begin(parent, old)
    old.say(WorkerReady())
    parent.loop.turn()
    parent.system.has_descriptors = False
    parent.workers.drain(DrainChild(2, DrainReason.RELOAD, 20.0, (3,)))
    assert old.receive() == (Drain("reload", 20.0, reports=True), [])
    assert not new.channel.has_message()
    assert "are not handed over" in caplog.text


# --- signal ---------------------------------------------------------------------------------------


def test_a_kill_is_a_signal_and_a_dump_another_one_before(parent):
    parent.start_template()
    process = begin(parent, parent.fork())
    parent.handles.kill_child(2, dump=True)
    parent.handles.kill_child(2)
    assert process.signals == [signal.SIGABRT, signal.SIGKILL]
    parent.end(process.pid, -signal.SIGABRT)
    assert parent.exits() == [(2, "killed by SIGABRT")]
    parent.handles.kill_child(2)
    assert process.is_closed


def test_one_that_has_told_its_pid_unread_gets_the_signal(parent):
    parent.start_template()
    worker = parent.fork()
    process = parent.system.begin()
    worker.say(ChildStarted(process.pid))
    parent.handles.kill_child(2)
    assert process.signals == [signal.SIGKILL]


def test_one_that_has_not_told_its_pid_is_found_by_its_socket_and_killed(parent):
    """It hangs in a hook of the fork, and would never see that its channel is closed."""
    parent.start_template()
    parent.fork()
    hanging = parent.system.begin()
    parent.system.sockets[hanging.pid] = {parent.handles.get(2).inode}
    parent.handles.kill_child(2)
    assert not parent.exits(), "a step is being carried out"
    parent.loop.turn()
    assert parent.exits() == [(2, NOT_STARTED)]
    assert hanging.signals == [signal.SIGKILL]


def test_what_a_template_has_started_ends_with_it(parent):
    parent.start_template()
    (pid,) = parent.system.processes
    started = parent.system.begin()
    parent.system.below[pid] = [started.pid]
    parent.handles.kill_child(1)
    assert started.signals == [signal.SIGTERM]
    parent.loop.wait(1.0)
    assert started.signals == [signal.SIGTERM, signal.SIGKILL]


def test_what_a_worker_has_started_is_left_alone(parent):
    parent.start_template()
    process = begin(parent, parent.fork())
    started = parent.system.begin()
    parent.system.below[process.pid] = [started.pid]
    parent.handles.kill_child(2)
    assert not started.signals


def test_a_template_that_is_let_go_sees_its_channel_close(parent):
    template = parent.start_template()
    close_all(template.receive()[1])
    (pid,) = parent.system.processes
    parent.handles.let_go(1)
    parent.handles.let_go(99)
    assert template.channel.has_message(), "end of file"
    assert not parent.system.processes[pid].signals
    parent.end(pid, 0)
    assert parent.events[-1] == ChildExited(1, "exit status 0", clean=True)
    assert parent.source.forgotten == [1]


def test_a_template_that_waits_for_its_source_is_killed_before_it_starts(parent):
    parent.source.waiting = []
    parent.templates.start(StartTemplate(1, 1, preload=True))
    parent.handles.let_go(1)
    parent.loop.turn()
    assert parent.exits() == [(1, NOT_STARTED)]
    parent.source.waiting[0]()
    assert not parent.system.processes
    assert not parent.handles.all()


# --- collect --------------------------------------------------------------------------------------


def test_the_last_words_are_heard_before_the_exit(parent):
    parent.start_template()
    worker = parent.fork()
    process = begin(parent, worker)
    failed = WorkerFailed(Failure("lifespan", "no database"))
    worker.say(failed)
    worker.close()
    parent.end(process.pid, 3)
    assert parent.events[-2].message == failed
    assert parent.events[-1] == ChildExited(2, "exit status 3")


def test_the_first_words_are_heard_before_any_exit_is_collected(parent):
    """The pid must have become a handle before the exit frees it for another process."""
    parent.start_template()
    worker = parent.fork()
    process = parent.system.begin()
    worker.say(ChildStarted(process.pid))
    parent.end(process.pid, 1)
    assert parent.exits() == [(2, "exit status 1")]


def test_one_that_ends_before_it_speaks_is_seen_by_the_end_of_its_channel(parent):
    parent.start_template()
    parent.fork().close()
    parent.loop.turn()
    assert parent.exits() == [(2, SILENT_END)]
    assert parent.source.distrusted == [True]


def test_stacks_of_a_dead_child_come_with_its_exit(parent):
    parent.start_template()
    process = begin(parent, parent.fork())
    os.write(parent.handles.get(2).fault_file, b"Fatal Python error: Segmentation fault\n")
    parent.end(process.pid, -signal.SIGSEGV)
    assert parent.events[-1].fault == "Fatal Python error: Segmentation fault"
    assert parent.events[-1].description == "killed by SIGSEGV"


def test_what_a_worker_has_counted_stays_when_it_is_gone(parent):
    parent.start_template()
    process = begin(parent, parent.fork())
    parent.workers.all()[0].held.record.values[Field.REQUESTS_TOTAL] = 7
    assert parent.workers.counter_totals()["worker", 0, 1][Field.REQUESTS_TOTAL] == 7
    parent.end(process.pid, 0)
    assert not parent.workers.all()
    assert parent.workers.counter_totals()["worker", 0, 1][Field.REQUESTS_TOTAL] == 7


def test_strangers_are_collected_without_a_word(parent):
    parent.start_template()
    parent.events.clear()
    parent.end(parent.system.begin().pid, 0)
    assert not parent.events
    assert not parent.system.exits


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_kill_that_is_not_ours_may_be_for_lack_of_memory(parent, is_ours):
    parent.start_template()
    process = begin(parent, parent.fork())
    if is_ours:
        parent.handles.kill_child(2)
    parent.system.memory_kills = {"memory.events": 1}
    parent.end(process.pid, -signal.SIGKILL)
    ((_, why),) = parent.exits()
    assert why.startswith("killed by SIGKILL")
    assert ("memory ran out" in why) is not is_ours


# --- templates that are forked --------------------------------------------------------------------


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_forked_template_that_dies_while_it_imports_begins_again(parent, has_begun):
    parent.source.is_fork = True
    first = parent.start_template()
    close_all(first.receive()[1])
    if has_begun:
        process = begin(parent, first)
        parent.end(process.pid, 1)
    else:
        first.close()
        parent.loop.turn()
    assert parent.source.distrusted == [False]
    assert not parent.exits()
    second = parent.source.templates[-1]
    assert second is not first
    second.say(AppLoaded(0.2))
    parent.loop.turn()
    assert isinstance(parent.said()[-1], AppLoaded)


def test_one_that_finds_other_variables_begins_again_and_is_killed(parent):
    parent.source.is_fork = True
    first = parent.start_template()
    process = begin(parent, first)
    first.say(VariablesDiffer(("OMP_NUM_THREADS",)))
    parent.loop.turn()
    assert process.signals == [signal.SIGKILL]
    assert parent.source.records == [VariablesDiffer(("OMP_NUM_THREADS",))]
    parent.end(process.pid, -signal.SIGKILL)
    assert not parent.exits()
    assert len(parent.source.templates) == 2


def test_one_that_was_killed_does_not_begin_again(parent):
    """What it has found out is unread while it is killed."""
    parent.source.is_fork = True
    template = parent.start_template()
    process = begin(parent, template)
    parent.handles.kill_child(1)
    template.say(VariablesDiffer(("OMP_NUM_THREADS",)))
    parent.loop.turn()
    parent.end(process.pid, -signal.SIGKILL)
    assert len(parent.source.templates) == 1
    assert parent.exits() == [(1, "killed by SIGKILL")]


@pytest.mark.parametrize("role", ["template", "worker"])
def test_one_that_there_is_no_descriptor_for_is_let_end(parent, monkeypatch, role):
    """Nobody could signal it, or see it end. Its first message is lost, so what it says next must not be heard."""
    parent.source.is_fork = role == "template"
    child = parent.start_template()
    if role == "worker":
        child = parent.fork()

    def refuse(pid):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(parent.system, "open_process", refuse)
    child.say(ChildStarted(4711))
    child.say(AppLoaded(0.1) if role == "template" else WorkerReady())
    parent.loop.turn()
    number = 1 if role == "template" else 2
    why = f"could not be started: [Errno {errno.EMFILE}] Too many open files"
    assert parent.exits() == [(number, why)]


def test_a_template_of_its_own_that_dies_while_it_imports_has_ended(parent):
    parent.start_template()
    (pid,) = parent.system.processes
    parent.end(pid, -signal.SIGSEGV)
    assert parent.exits() == [(1, "killed by SIGSEGV")]
    assert not parent.source.distrusted


def test_what_was_imported_goes_to_where_the_template_came_from(parent):
    template = parent.start_template()
    worker = parent.fork()
    begin(parent, worker)
    before = len(parent.events)
    template.say(AppImported(is_whole=True))
    worker.say(AppImported(is_whole=True))
    parent.loop.turn()
    assert parent.source.records == [AppImported(is_whole=True)] * 2
    assert len(parent.events) == before


# --- CPU priority ---------------------------------------------------------------------------------


def test_a_template_gives_way_until_its_import_is_over(parent):
    template = parent.start_template(gives_way=True)
    (pid,) = parent.system.processes
    assert parent.system.lowered == {pid}
    template.say(AppLoaded(0.1))
    parent.loop.turn()
    assert not parent.system.lowered


def test_a_worker_gives_way_until_it_is_ready_and_again_at_its_end(parent):
    parent.start_template()
    (template,) = parent.system.processes
    worker = parent.fork(gives_way=True)
    assert parent.system.lowered == {template}
    process = begin(parent, worker)
    assert parent.system.lowered == {process.pid}
    worker.say(WorkerReady())
    parent.loop.turn()
    assert not parent.system.lowered
    parent.workers.drain(DrainChild(2, DrainReason.RELOAD, 1.0, (), gives_way=True))
    worker.say(WorkerDrained(0, 0))
    parent.loop.turn()
    assert parent.system.lowered == {process.pid}
    parent.end(process.pid, 0)
    parent.handles.cpu_priority.restore_all()


# --- look -----------------------------------------------------------------------------------------


def test_a_look_tells_heartbeat_memory_and_whether_it_sleeps(parent):
    parent.start_template()
    process = begin(parent, parent.fork())
    values = parent.workers.all()[0].held.record.values
    values[Field.HEARTBEAT] = int((parent.loop.now - 3.0) * 1e9)
    values[Field.REQUESTS_TOTAL] = 5
    seen = parent.workers.observe(2, with_memory=True, with_sleep=True)
    assert seen.heartbeat_age == pytest.approx(3.0)
    assert (seen.requests, seen.rss_bytes, seen.is_asleep) == (5, 4096 * process.pid, True)
    assert parent.workers.observe(99, with_memory=True) is None
