"""Five hundred reloads: nothing may grow. Run by `make soak`; takes some minutes and prints its figures."""

import os
import time

import pytest

from tests.process.running import Server, processes_of_session, wait_until, write_version

pytestmark = [pytest.mark.soak, pytest.mark.process, pytest.mark.timeout(3600)]

RELOADS = 500


def figures(server):
    """What must stay flat: descriptors, threads, children, zombies, memory of the supervisor in KiB."""
    with open(f"/proc/{server.pid}/status") as file:
        status = dict(line.split(":", 1) for line in file if ":" in line)
    session = processes_of_session(server.pid)
    return {
        "descriptors": len(os.listdir(f"/proc/{server.pid}/fd")),
        "threads": int(status["Threads"]),
        "processes": sum(state != "Z" for state in session.values()),
        "zombies": sum(state == "Z" for state in session.values()),
        "memory": int(status["VmRSS"].split()[0]),
        "files": len(os.listdir(server.directory)),
    }


def test_five_hundred_reloads_leave_everything_flat(tmp_path):
    """Descriptors, threads, zombies, PID files, temporary sockets and memory after 500 reloads."""
    write_version(tmp_path, 1)
    options = ["--no-access-log", "--probation", "0", "--drain-grace", "0.05"]
    server = Server(tmp_path, *options, workers=2)
    with server:
        early = None
        started = time.monotonic()
        for version in range(2, RELOADS + 2):
            write_version(tmp_path, version)
            server.reload()
            assert server.version() == version
            # The first hundred fill what is bounded: the history of reloads, the allocator's pools.
            if version == 120:
                wait_until(lambda: len(server.status()["workers"]) == 2)
                early = figures(server)
        wait_until(lambda: len(server.status()["workers"]) == 2)
        late = figures(server)
        print(f"\n{RELOADS} reloads in {time.monotonic() - started:.0f} s")
        print(f"after 119: {early}\nafter {RELOADS}: {late}")
        for name in ("descriptors", "threads", "processes", "zombies", "files"):
            assert abs(late[name] - early[name]) <= 1, name
        assert late["zombies"] == 0
        assert late["memory"] < early["memory"] + 2048
