"""Calls that only Linux has."""

import ctypes
import io
import os
import resource
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from asgireload.ipc import linux


def with_library(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    for name in linux._MALLOC_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(**functions))


def test_freed_memory_is_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    with_library(monkeypatch, mallopt=lambda option, value: calls.append((option, value)))
    linux.keep_freed_memory(1000, 2000)
    assert calls == [(linux._M_MMAP_THRESHOLD, 1000), (linux._M_TRIM_THRESHOLD, 2000)]


@pytest.mark.parametrize("name", linux._MALLOC_SETTINGS)
def test_settings_of_the_environment_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    calls: list[Any] = []
    with_library(monkeypatch, mallopt=lambda *arguments: calls.append(arguments))
    monkeypatch.setenv(name, "1")
    linux.keep_freed_memory(1000, 2000)
    assert not calls


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with_library(monkeypatch)
    linux.keep_freed_memory(1000, 2000)


# --- giving way ---------------------------------------------------------------------------------------

MAY_RETURN = linux.can_give_way()
needs_return = pytest.mark.skipif(
    not MAY_RETURN, reason="takes root, CAP_SYS_NICE or RLIMIT_NICE of 20 (ulimit -e 20)"
)
FAMILY = """
import subprocess, sys, threading
wait = "import sys; sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE)
stay = threading.Event()
threading.Thread(target=stay.wait).start()
print(child.pid, threading.get_native_id(), flush=True)
for thread in threading.enumerate():
    print(thread.native_id, end=" ")
print(flush=True)
sys.stdin.read()
child.communicate()
stay.set()
"""


@needs_return
def test_process_that_gave_way_comes_back_with_its_threads_and_children() -> None:
    with subprocess.Popen(
        # Lowered before its first line runs, as a template is.
        [sys.executable, "-c", "import sys; sys.stdin.readline()\n" + FAMILY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        linux.give_way(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        child, *_ = map(int, process.stdout.readline().split())
        threads = [int(number) for number in process.stdout.readline().split()]
        family = [child, *threads]
        assert len(set(family)) == 3
        assert {os.sched_getscheduler(number) for number in family} == {os.SCHED_IDLE}
        linux.stop_giving_way(process.pid)
        assert {os.sched_getscheduler(number) for number in family} == {os.SCHED_OTHER}


@needs_return
def test_process_that_has_ended_needs_no_way_back() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    linux.give_way(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    linux.stop_giving_way(process.pid)
    process.wait()
    linux.stop_giving_way(process.pid)


@pytest.mark.parametrize(
    ("limit", "nice", "capabilities", "expected"),
    [
        (0, 0, 0, False),
        (20, 0, 0, True),
        (19, 0, 0, False),
        (15, 5, 0, True),
        (-1, 0, 0, True),
        (0, 0, 1 << 23, True),
        (0, 0, (1 << 40) - 1 - (1 << 23), False),
    ],
)
def test_who_may_give_way(
    monkeypatch: pytest.MonkeyPatch, limit: int, nice: int, capabilities: int, expected: bool
) -> None:
    """Nobody gives way who could not come back: a server in a container often has no such right."""
    status = f"Name:\tCapEff: 1\nCapEff:\t{capabilities:016x}\n".encode()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    monkeypatch.setattr(os, "getpriority", lambda which, who: nice)
    monkeypatch.setattr("builtins.open", lambda *arguments: io.BytesIO(status))
    assert linux.can_give_way() is expected


def test_class_that_an_operator_has_chosen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getscheduler", lambda pid: os.SCHED_IDLE)
    assert not linux.can_give_way()


class Affinity:
    """Stands for the kernel: what was asked for holds within the cpuset, also when that changes."""

    def __init__(self, cpuset, asked_for):
        self.cpuset, self.asked_for = cpuset, asked_for
        self.seen = []

    def get(self, pid):
        return self.cpuset & self.asked_for

    def set(self, pid, mask):
        self.asked_for = set(mask)
        self.seen.append(self.get(pid))


@pytest.mark.parametrize(
    ("asked_for", "after_growth"), [(set(range(8)), {0, 1, 2, 3}), ({1}, {1}), ({0, 1}, {0, 1})]
)
def test_moving_leaves_the_mask_as_it_was(monkeypatch, asked_for, after_growth):
    """Also when the container gets more CPUs later: a mask of our own would keep the worker off them."""
    kernel = Affinity({0, 1, 2}, asked_for)
    monkeypatch.setattr(os, "sched_getaffinity", kernel.get)
    monkeypatch.setattr(os, "sched_setaffinity", kernel.set)
    monkeypatch.setattr(os, "sysconf", {"SC_NPROCESSORS_CONF": 8}.__getitem__)
    allowed = kernel.get(0)
    linux.move_to(1)
    assert kernel.seen[0] == {1}
    assert kernel.get(0) == allowed
    kernel.cpuset = {0, 1, 2, 3}
    assert kernel.get(0) == after_growth


def test_moving_where_it_may_not_run_does_nothing(monkeypatch):
    kernel = Affinity({0, 1}, {0})
    monkeypatch.setattr(os, "sched_getaffinity", kernel.get)
    monkeypatch.setattr(os, "sched_setaffinity", kernel.set)
    linux.move_to(1)
    linux.move_to(7)
    assert kernel.seen == []


def test_moving_is_seen():
    """The kernel may take it elsewhere at any time, and nearly never does so at once."""
    allowed = os.sched_getaffinity(0)
    for processor in sorted(allowed):
        for _ in range(1000):
            linux.move_to(processor)
            if linux.processor_of(os.getpid()) == processor:
                break
        else:
            pytest.fail(f"it never was on CPU {processor}")
        assert os.sched_getaffinity(0) == allowed


def test_processor_of_nobody():
    process = subprocess.Popen(["true"])
    process.wait()
    assert linux.processor_of(process.pid) is None
