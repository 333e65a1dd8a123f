"""Which system calls are tried, where, and what their refusal means."""

import errno
import os
import signal

import pytest

from asgireload.errors import StartupError
from asgireload.ipc.linux import NEEDED_CALLS, PRIORITY_CALLS, SystemCall
from asgireload.supervisor import system_calls as module
from asgireload.supervisor.system_calls import (
    KILLS,
    UNKNOWN,
    check_system_calls,
    refuse,
    try_here,
    try_in_child,
)


def fails():
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def kills():
    """As a filter does; SIGSYS is what a killed caller ends with."""
    os.kill(os.getpid(), signal.SIGSYS)


GOOD = SystemCall("good", lambda: None)
REFUSED = SystemCall("refused", fails)
DEADLY = SystemCall("deadly", kills)


def test_a_child_tells_which_calls_fail_and_which_kill():
    calls = [GOOD, DEADLY, REFUSED, SystemCall("deadly too", kills), GOOD]
    assert try_in_child(calls) == {
        "deadly": KILLS,
        "refused": "Operation not permitted",
        "deadly too": KILLS,
    }


def test_the_last_call_may_kill_and_the_first():
    assert try_in_child([DEADLY, GOOD]) == {"deadly": KILLS}
    assert try_in_child([GOOD, DEADLY]) == {"deadly": KILLS}
    assert try_in_child([GOOD]) == {}


def test_every_call_is_allowed_here():
    assert try_here(NEEDED_CALLS) == {}
    assert try_in_child((*NEEDED_CALLS, *PRIORITY_CALLS)) == {}


def test_needed_calls_are_named_with_what_to_do():
    with pytest.raises(StartupError, match=r"pidfd_open \(why\); .*SystemCallFilter=@system-serv"):
        refuse({"pidfd_open": "why"}, is_filtered=True)
    with pytest.raises(StartupError, match=r"pidfd_open \(why\); .*Linux 5\.4"):
        refuse({"pidfd_open": "why"}, is_filtered=False)
    refuse({}, is_filtered=True)


def test_without_a_filter_nothing_is_forked(monkeypatch):
    monkeypatch.setattr(module, "has_filter", lambda: False)
    monkeypatch.setattr(module, "try_in_child", None)
    assert check_system_calls() == {}


def test_what_cannot_be_tried_is_not_done(monkeypatch):
    """A fork of a process with threads is not safe, and a call that may kill is none for a process that serves."""
    monkeypatch.setattr(module, "has_filter", lambda: True)
    monkeypatch.setattr(module, "has_one_thread", lambda: False)
    assert check_system_calls() == {call.name: UNKNOWN for call in PRIORITY_CALLS}
