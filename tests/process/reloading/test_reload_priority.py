"""What a reload imports, starts and ends gets the CPU time that serving leaves; what serves has its share."""

import contextlib
import os
import signal
import textwrap
import time

import pytest

from asgireload.ipc.linux import can_give_way, processor_of
from tests.process.running import Server, wait_until, write_version

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

BOOT = """
import os, pathlib, threading

FOR_EVER = threading.Event()
BOOTED = None

async def lifespan(receive, send):
    global BOOTED
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            BOOTED = os.sched_getscheduler(0)
            threading.Thread(target=FOR_EVER.wait, daemon=True).start()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return

async def booted(scope, receive, send):
    threads = [os.sched_getscheduler(int(name)) for name in os.listdir("/proc/self/task")]
    await answer(send, f"{BOOTED} {min(threads)} {max(threads)}".encode())

PATHS["/booted"] = booted
"""
AT_END = """
import atexit, os, pathlib, time

HERE = pathlib.Path(__file__).parent

def note():
    until = time.monotonic() + 15
    while os.sched_getscheduler(0) != os.SCHED_IDLE and time.monotonic() < until:
        if (HERE / "stopping").exists():
            break
        time.sleep(0.001)
    with open(HERE / "ends", "a") as file:
        file.write(f"{os.sched_getscheduler(0)}\\n")

atexit.register(note)
"""


def idle_ones(server):
    """Return the processes that give way."""
    found = []
    for process in server.processes():
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getscheduler(process) == os.SCHED_IDLE:
                found.append(process)
    return found


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
        wait_until(lambda: not idle_ones(server), what="the end of the old workers")


def test_import_gives_way_only_so_long(tmp_path):
    """On a machine where nothing is left over a reload would never end: a quarter of --boot-timeout at most."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", "--boot-timeout", "8", workers=1) as server:
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


def test_worker_gives_way_until_it_serves(tmp_path):
    """With every thread that the application has started by then."""
    write_version(tmp_path, 1, extra=BOOT)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        assert server.get("/booted") == f"{os.SCHED_OTHER} {os.SCHED_OTHER} {os.SCHED_OTHER}"
        write_version(tmp_path, 2, extra=BOOT)
        server.reload()
        assert server.version() == 2
        assert server.get("/booted") == f"{os.SCHED_IDLE} {os.SCHED_OTHER} {os.SCHED_OTHER}"


def test_worker_that_has_left_gives_way_and_one_that_stops_does_not(tmp_path):
    write_version(tmp_path, 1, extra=AT_END)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        server.reload()
        wait_until(lambda: len((tmp_path / "ends").read_text().splitlines()) == 2)
        (tmp_path / "stopping").touch()
        assert server.stop() == 0
    ends = (tmp_path / "ends").read_text().split()
    assert ends == [str(os.SCHED_IDLE)] * 2 + [str(os.SCHED_OTHER)] * 2


def test_successor_does_not_give_way_when_nobody_is_left_to_serve(tmp_path):
    """The worker before it is killed while the application of the new one waits to be at its usual priority."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", workers=1) as server:
        waits = UNTIL_NORMAL.replace("BEGAN =", "(HERE / 'waits').touch(); BEGAN =")
        write_version(
            tmp_path,
            2,
            extra=f"""
import pathlib
HERE = pathlib.Path(__file__).parent
async def lifespan(receive, send):
    await receive()
{textwrap.indent(waits, "    ")}
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    await send({{"type": "lifespan.shutdown.complete"}})
""",
        )
        server.kill(signal.SIGUSR1)
        wait_until((tmp_path / "waits").exists)
        began = time.monotonic()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: server.workers() and server.version() == 2, what="the new code")
        assert time.monotonic() - began < 9  # by itself it would have waited for 10 s


COMPUTES = """
import os, pathlib, time
HERE = pathlib.Path(__file__).parent
(HERE / "imports").write_text(str(os.getpid()))
BEGAN = time.monotonic()
while not (HERE / "enough").exists() and time.monotonic() - BEGAN < 15:
    pass
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="takes two CPUs")
def test_workers_do_not_crowd_where_an_import_has_another_cpu_for_itself(tmp_path):
    here, there = sorted(os.sched_getaffinity(0))[:2]
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        workers = server.worker_pids()
        write_version(tmp_path, 2, extra=COMPUTES)
        server.kill(signal.SIGUSR1)
        wait_until(lambda: (tmp_path / "imports").exists() and (tmp_path / "imports").read_text())
        os.sched_setaffinity(int((tmp_path / "imports").read_text()), {there})
        for worker in workers:
            # They sleep; with the next thing that they do they are here.
            os.sched_setaffinity(worker, {here})
        wait_until(lambda: crowded(server, workers, here), what="both on one CPU")
        for worker in workers:
            os.sched_setaffinity(worker, {here, there})
        wait_until(
            lambda: sorted(map(processor_of, workers)) == sorted([here, there]), what="a move"
        )
        assert idle_ones(server), "the import is not over"
        assert [os.sched_getaffinity(worker) for worker in workers] == [{here, there}] * 2
        (tmp_path / "enough").touch()
        wait_until(lambda: server.version() == 2, what="the new code")


def crowded(server, workers, processor):
    server.version()
    return {processor_of(worker) for worker in workers} == {processor}
