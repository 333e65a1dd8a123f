"""A template begins before there is an order, and is never left behind."""

import os
import select
import signal
import subprocess
import sys

import pytest

from asgireload.ipc.channel import Channel
from asgireload.supervisor import head_start as head_start_module
from asgireload.supervisor.head_start import HeadStart


def has_ended(pidfd, timeout=20):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def test_one_that_nobody_takes_is_collected():
    head_start = HeadStart()
    head_start.begin()
    pid = head_start._begun.pid
    head_start.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    head_start.end()


def test_one_that_was_taken_stays_and_leaves_when_its_channel_closes():
    head_start = HeadStart()
    head_start.begin()
    begun = head_start.take()
    head_start.end()
    assert head_start.take() is None
    begun.socket.close()
    _, status = os.waitpid(begun.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_signals_for_the_supervisor_do_not_end_it_while_it_starts():
    """Ctrl-C goes to the whole process group, whatever has started of it."""
    head_start = HeadStart()
    head_start.begin()
    begun = head_start.take()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(begun.pid, number)
    channel = Channel(begun.socket)
    channel.close()
    _, status = os.waitpid(begun.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_a_process_there_is_none_to_take(monkeypatch):
    def fail(module, channel):
        raise OSError(11, "no more processes")

    monkeypatch.setattr(head_start_module, "spawn", fail)
    head_start = HeadStart()
    head_start.begin()
    assert head_start.take() is None
    head_start.end()


def test_it_leaves_with_a_command_line_that_is_killed():
    """Nobody could end it then: the end of its channel does."""
    code = (
        "import os, time; from asgireload.supervisor.head_start import HeadStart; h = HeadStart();"
        " h.begin(); print(h._begun.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert has_ended(handle)
    finally:
        os.close(handle)
