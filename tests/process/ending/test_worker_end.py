"""What a program does at its end happens at the end of each worker, and is not waited for longer than it takes."""

import signal

import pytest

from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

AT_END = """
import atexit, os, pathlib

HERE = pathlib.Path(__file__).parent

class Finalized:
    def __del__(self):
        os.close(os.open(str(HERE / f"finalized-{os.getpid()}"), os.O_CREAT | os.O_WRONLY))

KEPT = Finalized()
atexit.register(lambda: (HERE / f"handled-{os.getpid()}").touch())
"""
FILE = """
async def lifespan(receive, send):
    global LOG
    await receive()
    LOG = open(HERE / f"log-{os.getpid()}", "w")
    LOG.write("not flushed by anybody")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


def ended(directory, what):
    return {int(path.name.rpartition("-")[2]) for path in directory.glob(f"{what}-*")}


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_exit_handlers_run_in_each_worker_and_nothing_is_cleared_away(tmp_path, preload):
    write_version(tmp_path, 1, extra=AT_END)
    with Server(tmp_path, "--probation", "0", preload, workers=2) as server:
        old = set(server.worker_pids())
        server.reload()
        new = set(server.worker_pids())
        assert server.stop() == 0
    assert ended(tmp_path, "handled") == old | new
    assert not ended(tmp_path, "finalized")


def test_worker_with_a_file_open_for_writing_ends_as_any_program_does(tmp_path):
    write_version(tmp_path, 1, extra=AT_END + FILE)
    with Server(tmp_path, workers=2) as server:
        pids = set(server.worker_pids())
        assert server.stop() == 0
    assert ended(tmp_path, "log") == ended(tmp_path, "handled") == pids
    assert {path.read_text() for path in tmp_path.glob("log-*")} == {"not flushed by anybody"}


FLUSHING = """
import atexit, pathlib, threading, time

HERE = pathlib.Path(__file__).parent

def flush():
    time.sleep(2.5)  # what Sentry may take, and more
    (HERE / f"flushed-{os.getpid()}").touch()

atexit.register(flush)
"""
HANGING = """
import atexit, time

def send_what_is_left():
    time.sleep(60)

atexit.register(send_what_is_left)
"""
POLLING = """
import threading, time

def poll():
    while True:
        time.sleep(0.1)

async def lifespan(receive, send):
    await receive()
    threading.Thread(target=poll, name="poller").start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""


def test_sdk_that_flushes_at_exit_has_its_time_and_a_reload_does_not_wait(tmp_path):
    write_version(tmp_path, 1, extra=FLUSHING)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        old = set(server.worker_pids())
        server.reload()
        assert not ended(tmp_path, "flushed") & old, "the verdict was spoken after the exit work"
        new = set(server.worker_pids())
        assert server.stop() == 0
        assert "killed" not in server.log
    assert ended(tmp_path, "flushed") == old | new


def test_exit_handler_that_takes_too_long_is_named_with_the_option(tmp_path):
    write_version(tmp_path, 1, extra=HANGING)
    with Server(tmp_path, "--exit-timeout", "0.5", workers=1) as server:
        assert server.stop() == 0
        log = server.log
    assert "had not exited 0.5 s after it had drained and was killed" in log
    assert (
        "while it was running exit handlers (atexit); if it needs longer, raise --exit-timeout"
        in log
    )
    assert "in send_what_is_left" in log


def test_thread_that_does_not_end_is_named_and_nobody_is_killed(tmp_path):
    write_version(tmp_path, 1, extra=POLLING + AT_END)
    with Server(tmp_path, "--exit-timeout", "2", workers=1) as server:
        pids = set(server.worker_pids())
        assert server.stop() == 0
        log = server.log
    assert "'poller' in poll" in log
    assert "1 thread still runs when half of the time to exit is over" in log
    assert "was killed" not in log
    assert ended(tmp_path, "handled") == pids


def test_text_is_in_its_file_when_an_exit_handler_hangs(tmp_path):
    write_version(tmp_path, 1, extra=AT_END + FILE + HANGING)
    with Server(tmp_path, "--exit-timeout", "0.5", workers=1) as server:
        assert server.stop() == 0
        assert "was killed" in server.log
    assert [path.read_text() for path in tmp_path.glob("log-*")] == ["not flushed by anybody"]


def test_second_sigint_does_not_wait_for_exit_work(tmp_path):
    write_version(tmp_path, 1, extra=HANGING)
    with Server(tmp_path, "--exit-timeout", "50", workers=1) as server:
        server.kill(signal.SIGINT)
        server.wait_log("Finished server process")
        assert server.stop(signal.SIGINT, timeout=25) == 0
        assert "stopping at once" in server.log
