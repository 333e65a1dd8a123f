"""SIGTERM while a process ends, as with systemd's KillMode=control-group: no other status, and no traceback.

The application sends it to its own process, so that it comes in the very phase that is meant. Each phase leaves a
file behind, which says that it was reached.
"""

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

PHASES = """
import atexit, os, pathlib, signal, threading
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parent

def told_to_leave(phase):
    (HERE / f"{phase}-{os.getpid()}").touch()
    os.kill(os.getpid(), signal.SIGTERM)

class Executor(ThreadPoolExecutor):
    def shutdown(self, wait=True, **options):
        super().shutdown(wait, **options)
        told_to_leave("executor" if wait else "closed")

class Kept:
    def __del__(self):
        told_to_leave("finalizer")

async def numbers():
    try:
        while True:
            yield 1
    finally:
        told_to_leave("generator")

async def waits():
    try:
        await asyncio.sleep(3600)
    finally:
        told_to_leave("task")

async def lifespan(receive, send):
    global GENERATOR, TASK, KEPT, LOG
    await receive()
    GENERATOR = numbers()
    await anext(GENERATOR)
    TASK = asyncio.create_task(waits())
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Executor(1))
    await loop.run_in_executor(None, int)
    atexit.register(told_to_leave, "handler")
    KEPT = Kept()
    if LONG:
        LOG = open(HERE / "log", "w")  # the process ends the long way
    await send({"type": "lifespan.startup.complete"})
    await receive()
    threading.Thread(target=work).start()
    told_to_leave("shutdown")
    await send({"type": "lifespan.shutdown.complete"})

def work():
    threading.main_thread().join()
    told_to_leave("thread")
"""
BEFORE_EXIT = {"shutdown", "task", "generator", "executor", "closed", "thread", "handler"}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("is_long", [False, True])
def test_sigterm_in_each_phase_of_the_end_of_a_worker_changes_nothing(tmp_path, loop, is_long):
    write_version(tmp_path, 1, extra=PHASES.replace("LONG", str(is_long)))
    with Server(tmp_path, "--loop", loop, "--probation", "0", workers=1) as server:
        (old,) = server.worker_pids()
        server.reload()
        wait_until(lambda: old not in server.processes())
        (new,) = server.worker_pids()
        assert server.stop() == 0
        log = server.log
    expected = BEFORE_EXIT | ({"finalizer"} if is_long else set())
    for pid in (old, new):
        assert {path.name.partition("-")[0] for path in tmp_path.glob(f"*-{pid}")} == expected
    assert "Traceback" not in log
    assert "Error" not in log
    assert "ended while it drained" not in log
    assert "was killed" not in log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_sigterm_all_the_time_that_workers_need_to_end_changes_nothing(tmp_path, loop):
    write_version(tmp_path, 1, extra=PHASES.replace("LONG", "True"))
    with Server(tmp_path, "--loop", loop, workers=4) as server:
        living = set(server.worker_pids())
        server.kill(signal.SIGTERM)
        while living:
            for pid in list(living):
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    living.remove(pid)
        assert server.process.wait(30) == 0
        log = server.log
    assert "Traceback" not in log
    assert "ended while it drained" not in log


def test_sigterm_while_a_worker_imports_ends_it_without_a_traceback(tmp_path):
    """The loop does not run yet, and its channel is not read."""
    extra = (
        "\nimport pathlib, signal\nHERE = pathlib.Path(__file__).parent\n"
        "if (HERE / 'once').exists():\n"
        "    (HERE / 'once').unlink()\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    write_version(tmp_path, 1, extra=extra)
    with Server(tmp_path, "--no-preload", workers=1) as server:
        (old,) = server.worker_pids()
        (tmp_path / "once").touch()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: server.worker_pids() not in ([], [old]))
        assert not (tmp_path / "once").exists()
        assert "Told to leave by a signal" in server.log
        assert server.stop() == 0
        assert "Traceback" not in server.log


SUPERVISOR = r"""
import atexit, os, signal, sys
from asgireload.supervisor import start

supervisor = os.getpid()

def signals(phase):
    if os.getpid() == supervisor:
        os.write(1, f"phase: {phase}\n".encode())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT):
            os.kill(supervisor, number)

remove = start.remove_pid_file

def remove_pid_file(path):
    signals("loop closed")
    remove(path)

start.remove_pid_file = remove_pid_file
"""
AS_PROGRAM = """
atexit.register(signals, "exit handler")
from asgireload.cli.main import main
sys.exit(main())
"""
AS_FUNCTION = """
import asgireload
if __name__ == "__main__":
    asgireload.run("app:app", port=0, pid_file=sys.argv[-1], admin_socket="none")
    print("went on", flush=True)
"""


@pytest.mark.parametrize(
    ("program", "last"), [(AS_PROGRAM, "phase: exit handler"), (AS_FUNCTION, "went on")]
)
def test_signals_at_the_end_of_the_supervisor_change_nothing(tmp_path, program, last):
    write_version(tmp_path, 1)
    script = tmp_path / "program.py"
    script.write_text(SUPERVISOR + program)
    pid_file = tmp_path / "pid"
    log = tmp_path / "server.log"
    words = [
        "app:app",
        *("--port", "0"),
        *("--admin-socket", "none"),
        *("--pid-file", str(pid_file)),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(script), *words],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "asgireload running on" in log.read_text())
        process.send_signal(signal.SIGTERM)
        status = process.wait(30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    text = log.read_text()
    assert "phase: loop closed" in text
    assert last in text
    assert status == 0, text
    assert "Traceback" not in text
    assert "Finished parent process" in text
    assert not pid_file.exists()
