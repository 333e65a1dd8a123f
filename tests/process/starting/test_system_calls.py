"""Hardened units: system calls that a real seccomp filter refuses or kills for (point 68)."""

import subprocess
import sys

import pytest

from asgireload.ipc.linux import NEEDED_CALLS, PRIORITY_CALLS
from tests.process import filtered
from tests.process.running import Server, write_version

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not filtered.CALLS, reason="takes x86-64 or ARM64"),
]

HOWS = ["EPERM", "ENOSYS", "kill"]
PRIORITIES = [call.name for call in PRIORITY_CALLS]


def serve_reload_stop(directory, how, calls, **surroundings):
    """Take a server under that filter through its life, and return its log."""
    write_version(directory, 1)
    server = Server(directory, "--probation", "0", workers=2, **surroundings)
    server.command = filtered.command(how, calls, server.command)
    with server:
        assert server.version() == 1
        write_version(directory, 2)
        server.reload()
        assert server.version() == 2
        assert server.stop() == 0
    return server.log


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", [call.name for call in NEEDED_CALLS])
def test_a_needed_call_that_is_refused_is_named_at_the_start(tmp_path, name, how):
    write_version(tmp_path, 1)
    program = [sys.executable, "-m", "asgireload", "app:app", "--port", "0"]
    done = subprocess.run(
        filtered.command(how, [name], program),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3, (done.returncode, done.stderr)
    assert f"needed system calls are refused: {name} (" in done.stderr
    assert "SystemCallFilter=" in done.stderr
    assert "Traceback" not in done.stderr


# Without prlimit64 no program starts at all: the dynamic loader and Python call it.
@pytest.mark.parametrize("name", [name for name in PRIORITIES if name != "prlimit64"])
def test_a_call_for_priorities_that_kills_is_not_made(tmp_path, name):
    log = serve_reload_stop(tmp_path, "kill", [name])
    assert (
        f"Reloads run at the usual CPU priority, because a system call filter refuses calls: {name}"
        in log
    )


@pytest.mark.parametrize("how", ["EPERM", "ENOSYS"])
def test_calls_for_priorities_that_fail_are_done_without(tmp_path, how):
    serve_reload_stop(tmp_path, how, PRIORITIES)


@pytest.mark.parametrize("how", HOWS)
def test_resources_of_systemd_may_be_filtered(tmp_path, how):
    """`SystemCallFilter=~@resources` killed the supervisor at its first reload."""
    serve_reload_stop(tmp_path, how, filtered.RESOURCES)


def test_a_filter_that_kills_is_survived_where_nothing_can_be_tried(tmp_path):
    """A wrapper's thread forbids to fork, so nobody tries."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    serve_reload_stop(tmp_path, "kill", filtered.RESOURCES, env={"PYTHONPATH": str(tmp_path)})


def test_changes_of_owners_may_be_filtered(tmp_path):
    """A part of `SystemCallFilter=~@privileged`, which is in most hardened units."""
    serve_reload_stop(tmp_path, "kill", filtered.CHOWN)


@pytest.mark.parametrize("calls", [["madvise"], ["setitimer", "alarm"]])
def test_what_only_saves_time_or_guards_may_fail(tmp_path, calls):
    calls = [name for name in calls if name in filtered.CALLS]
    serve_reload_stop(tmp_path, "EPERM", calls)


def test_memory_may_not_be_written_and_executed(tmp_path):
    """MemoryDenyWriteExecute=: the C library is called without code that is made at run time."""
    probe = subprocess.run(
        filtered.command("mdwe", [], [sys.executable, "-c", "pass"]), capture_output=True
    )
    if probe.returncode:
        pytest.skip("takes Linux 6.3")
    serve_reload_stop(tmp_path, "mdwe", [])


def test_development_without_inotify(tmp_path):
    write_version(tmp_path, 1)
    server = Server(tmp_path, "--reload", workers=1)
    server.command = filtered.command("EPERM", ["inotify_init1"], server.command)
    with server:
        write_version(tmp_path, 2)
        server.wait_log("Reload 1 committed")
        assert server.version() == 2
