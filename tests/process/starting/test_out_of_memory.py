"""A worker that the kernel kills because its control group has no memory left."""

import contextlib
import os
import sys
import time
from pathlib import Path

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

EATING = """
async def eat(scope, receive, send):
    global EATEN
    EATEN = bytearray(os.urandom(1 << 20)) * 600

PATHS["/eat"] = eat
"""
LIMIT = 300 << 20


@pytest.fixture
def control_group():
    """A control group with a memory limit, as root in a virtual machine or container may make one."""
    name = f"asgireload-test-{os.getpid()}-{time.monotonic_ns()}"
    for mount, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        directory = Path(mount, name)
        if not Path(mount, "cgroup.procs").exists():
            continue
        try:
            directory.mkdir()
        except OSError:
            continue
        try:
            (directory / limit).write_text(str(LIMIT))
        except OSError:
            directory.rmdir()
            continue
        try:
            yield directory
        finally:
            wait_until(lambda directory=directory: remove(directory), what="end of the group")
        return
    pytest.skip("this machine lets nobody make a control group with a memory limit")


def remove(directory):
    with contextlib.suppress(OSError):
        directory.rmdir()
    return not directory.exists()


def test_worker_that_was_killed_for_its_memory_is_told_about_as_that(tmp_path, control_group):
    write_version(tmp_path, 1, extra=EATING)
    server = Server(tmp_path, workers=1)
    enter = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid()));"
        " os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    procs = str(control_group / "cgroup.procs")
    server.command = [sys.executable, "-c", enter, procs, *server.command[1:]]
    with server:
        (pid,) = server.worker_pids()
        with contextlib.suppress(OSError, AssertionError):
            server.get("/eat")
        server.wait_log("killed by SIGKILL, most likely by the kernel because memory ran out")
        assert str(control_group) in server.log
        wait_until(lambda: server.worker_pids() not in ([], [pid]), what="another worker")
        # A kill from elsewhere has no such cause.
        (pid,) = server.worker_pids()
        os.kill(pid, 9)
        wait_until(
            lambda: server.log.count("killed by SIGKILL") == 2, what="second death in the log"
        )
        assert server.log.count("memory ran out") == 1
        assert server.stop() == 0
