"""What a program does at its end happens at the end of each worker, and is not waited for longer than it takes."""

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
