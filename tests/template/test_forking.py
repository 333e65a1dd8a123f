"""Forked workers become children of the subreaper, with everything else left in order."""

import subprocess
import sys

import pytest

PROBE = """
import os, signal, time
from asgireload.ipc.linux import become_subreaper, signal_on_parent_death
from asgireload.template.forking import Side, fork_adopted

become_subreaper()
supervisor = os.getpid()
read, write = os.pipe()
template = os.fork()
if template == 0:
    os.close(read)
    for _ in range(20):
        if fork_adopted() is Side.CHILD:
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            signal_on_parent_death(signal.SIGKILL)
            os.write(write, b"%d\\n" % (os.getppid() == supervisor))
            os._exit(7)
    os.write(write, b"%d\\n" % (signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()))
    os._exit(0)
os.close(write)
answers = b""
while chunk := os.read(read, 1000):
    answers += chunk
codes = []
while True:
    try:
        pid, status = os.wait()
    except ChildProcessError:
        break
    codes.append(os.waitstatus_to_exitcode(status))
print(sorted(codes), answers.split())
"""


def test_workers_are_adopted_before_they_run_and_signals_are_restored():
    done = subprocess.run(
        [sys.executable, "-c", PROBE], check=True, capture_output=True, text=True, timeout=30
    )
    codes, answers = done.stdout.strip().split("] [")
    assert codes == "[0" + ", 7" * 20
    assert answers.count("b'1'") == 21


HOOKS = """
import os, signal, sys, threading
from asgireload.ipc.linux import become_subreaper
from asgireload.template.forking import Side, fork_adopted

become_subreaper()
supervisor = os.getpid()
read, write = os.pipe()
template = os.fork()
if template == 0:
    def note(hook):
        os.write(write, hook + b" %d;" % os.getpid())

    def started():
        note(b"child")
        thread = threading.Thread(target=note, args=[b"thread"])
        thread.start()
        thread.join()

    def collect_all(number, frame):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    os.register_at_fork(before=lambda: note(b"before"), after_in_child=started)
    {setting}
    if fork_adopted() is Side.CHILD:
        note(b"worker")
        os._exit(0)
    note(b"template")
    os._exit(0)
os.close(write)
notes = b""
while chunk := os.read(read, 1000):
    notes += chunk
notes = [tuple(note.split()) for note in notes.decode().split(";") if note]
pids = dict(notes)
assert pids["child"] == pids["thread"] == pids["worker"] != pids["template"], notes
print(*sorted(hook for hook, _ in notes))
"""


@pytest.mark.parametrize(
    "setting",
    [
        "pass",
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, collect_all)",
    ],
    ids=["default", "SIGCHLD ignored", "SIGCHLD handled"],
)
def test_hooks_of_a_fork_run_once_and_in_the_worker(setting):
    """OpenTelemetry starts its exporting thread anew in such a hook; it must live in the worker."""
    done = subprocess.run(
        [sys.executable, "-c", HOOKS.format(setting=setting)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split() == ["before", "child", "template", "thread", "worker"]
    assert not done.stderr


def test_a_lock_that_another_thread_holds_is_waited_for_where_that_thread_is():
    """Under --preload there may be threads: a hook that takes their lock must wait where they are."""
    setting = """
    lock = threading.Lock()
    taken = threading.Event()
    def hold():
        with lock:
            taken.set()
            threading.Event().wait(0.3)
    threading.Thread(target=hold, daemon=True).start()
    taken.wait()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOOKS.format(setting=setting)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert "worker" in done.stdout.split()


NATIVE = """
import ctypes, os
from asgireload.ipc.linux import become_subreaper
from asgireload.template.forking import Side, fork_adopted

become_subreaper()
read, write = os.pipe()
template = os.fork()
if template == 0:
    libc = ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, libc.sleep, ctypes.c_void_p(60))
    threads = lambda: len(os.listdir("/proc/self/task"))
    os.register_at_fork(before=lambda: os.write(write, b"%d " % threads()))
    if fork_adopted() is Side.CHILD:
        os._exit(0)
    os._exit(0)
os.close(write)
notes = b""
while chunk := os.read(read, 1000):
    notes += chunk
print(notes.decode())
"""


def test_hooks_before_a_fork_run_where_native_threads_are():
    """ddtrace waits there for its native threads to end: in a process that lacks them for ever."""
    done = subprocess.run(
        [sys.executable, "-c", NATIVE], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split()[0] == "2"
