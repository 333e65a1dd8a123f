"""An import beside workers that serve gets the CPU time that they leave, and nothing else runs with less."""

import os

import pytest

from asgireload.ipc.linux import can_give_way
from tests.process.running import Server, write_version

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not can_give_way(), reason="takes root, CAP_SYS_NICE or RLIMIT_NICE of 20 (ulimit -e 20)"
    ),
]

CLASSES = """
import os, threading

IMPORTED = os.sched_getscheduler(0)

async def classes(scope, receive, send):
    started = []
    thread = threading.Thread(target=lambda: started.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    await answer(send, f"{IMPORTED} {os.sched_getscheduler(0)} {started[0]}".encode())

PATHS["/classes"] = classes
"""
UNTIL_NORMAL = """
import os, time
BEGAN = time.monotonic()
while os.sched_getscheduler(0) == os.SCHED_IDLE:
    if time.monotonic() - BEGAN > 15:
        raise RuntimeError("it gives way for ever")
"""


def classes(server):
    """Return the scheduling classes of the import, of a worker that serves, and of its threads."""
    return tuple(int(number) for number in server.get("/classes").split())


def test_only_the_import_of_a_reload_gives_way(tmp_path):
    write_version(tmp_path, 1, extra=CLASSES)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        assert classes(server) == (os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_OTHER)
        write_version(tmp_path, 2, extra=CLASSES)
        server.reload()
        assert server.version() == 2
        assert classes(server) == (os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER)
        assert not any(
            os.sched_getscheduler(process) == os.SCHED_IDLE for process in server.processes()
        )


def test_import_gives_way_only_so_long(tmp_path):
    """On a machine where nothing is left over a reload would never end: a quarter of --boot-timeout at most."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", "--boot-timeout", "2", workers=1) as server:
        write_version(tmp_path, 2, extra=UNTIL_NORMAL)
        server.reload()
        assert server.version() == 2


def test_import_competes_where_it_is_asked_to(tmp_path):
    write_version(tmp_path, 1)
    options = ["--probation", "0", "--reload-priority", "normal"]
    with Server(tmp_path, *options, workers=1) as server:
        write_version(tmp_path, 2, extra=CLASSES)
        server.reload()
        assert classes(server)[0] == os.SCHED_OTHER
