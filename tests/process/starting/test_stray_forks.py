"""A process that the application forks, and that leaves the application's code, does not go on in our place."""

import pytest

from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

IN_REQUEST = """
import sys

async def fork(scope, receive, send):
    child = os.fork()
    if child == 0:
        if scope["query_string"] == b"raise":
            sys.exit(0)
        return
    _, status = os.waitpid(child, 0)
    await answer(send, b"%d" % os.waitstatus_to_exitcode(status))
PATHS["/fork"] = fork
"""


@pytest.mark.parametrize("options", [(), ("--loop", "asyncio"), ("--no-preload",)])
@pytest.mark.parametrize("way", ["raise", "return"])
def test_a_fork_does_not_come_back_into_the_event_loop(tmp_path, options, way):
    """It shares the poll descriptor of its parent, and would turn without an end, with an error for each turn."""
    write_version(tmp_path, 1, extra=IN_REQUEST)
    with Server(tmp_path, *options, workers=1) as server:
        (pid,) = server.worker_pids()
        assert server.get(f"/fork?{way}") == "1"
        assert server.version() == 1
        assert server.worker_pids() == [pid]
        assert server.log.count("came back into the event loop") == 1
        assert server.stop() == 0
        assert not server.left_behind()


AT_IMPORT = """
import sys
FORKED = os.fork()
if FORKED:
    STATUS = os.waitstatus_to_exitcode(os.waitpid(FORKED, 0)[1])
else:
    {leave}

async def status(scope, receive, send):
    await answer(send, b"%d" % STATUS)
PATHS["/status"] = status
"""


@pytest.mark.parametrize("options", [(), ("--no-preload",), ("--reload",)])
@pytest.mark.parametrize(
    ("leave", "expected"),
    [("sys.exit(4)", 4), ("raise ValueError", 1), ("pass", 0)],
    ids=["exit", "exception", "end"],
)
def test_a_fork_at_import_does_not_speak_for_its_parent(tmp_path, options, leave, expected):
    """As at a start with any other server: what the child does ends with the child."""
    write_version(tmp_path, 1, extra=AT_IMPORT.format(leave=leave))
    with Server(tmp_path, *options, workers=1) as server:
        assert server.get("/status") == str(expected)
        assert server.stop() == 0
        assert not server.left_behind()
