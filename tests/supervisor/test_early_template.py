"""A template begins before there is an order, has it before there are decisions, and is never left behind."""

import os
import select
import signal
import subprocess
import sys

import pytest

from asgireload.config import Config
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AppFailed
from asgireload.ipc.scoreboard import Scoreboard
from asgireload.supervisor import spawning
from asgireload.supervisor.early_template import EarlyTemplate
from asgireload.supervisor.load_requests import first_request


@pytest.fixture
def scoreboard():
    scoreboard = Scoreboard.create()
    yield scoreboard.descriptor
    scoreboard.close()


def order_for(directory, app="nothing_there:app"):
    return first_request(Config(app=app), str(directory))


def has_ended(pidfd, timeout=20):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def test_one_that_nobody_takes_is_collected():
    early_template = EarlyTemplate()
    early_template.begin()
    pid = early_template._begun.pid
    early_template.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    early_template.end()


def test_one_that_was_taken_stays_and_leaves_when_its_channel_closes(tmp_path):
    early_template = EarlyTemplate()
    early_template.begin()
    begun = early_template.take(order_for(tmp_path))
    early_template.end()
    assert begun.request is None
    assert early_template.take(order_for(tmp_path)) is None
    begun.socket.close()
    _, status = os.waitpid(begun.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_what_it_was_told_it_does_before_it_is_taken(tmp_path, scoreboard):
    early_template = EarlyTemplate()
    early_template.begin()
    order = order_for(tmp_path)
    early_template.request(order, scoreboard)
    begun = early_template.take(order_for(tmp_path))
    assert begun.request == order
    message, _ = Channel(begun.socket).receive()
    assert isinstance(message, AppFailed)
    assert "nothing_there" in message.failure.summary
    begun.socket.close()
    os.close(begun.fault_file)
    os.waitpid(begun.pid, 0)


def test_one_that_loads_something_else_is_ended(tmp_path, scoreboard):
    """The supervisor decides; what was begun on a guess must not serve in place of that."""
    early_template = EarlyTemplate()
    early_template.begin()
    begun = early_template._begun
    open_before = set(os.listdir("/proc/self/fd"))
    early_template.request(order_for(tmp_path), scoreboard)
    assert early_template.take(order_for(tmp_path, "other:app")) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(begun.pid, 0)
    assert begun.socket.fileno() == -1
    assert set(os.listdir("/proc/self/fd")) <= open_before, "descriptors were left open"


def test_one_that_has_died_takes_no_order(tmp_path, scoreboard):
    early_template = EarlyTemplate()
    early_template.begin()
    pid = early_template._begun.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    early_template.request(order_for(tmp_path), scoreboard)
    assert early_template.take(order_for(tmp_path)) is None
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)


def test_an_order_to_nobody_is_nothing(tmp_path, scoreboard):
    EarlyTemplate().request(order_for(tmp_path), scoreboard)


def test_signals_for_the_supervisor_do_not_end_it_while_it_starts(tmp_path):
    """Ctrl-C goes to the whole process group, whatever has started of it."""
    early_template = EarlyTemplate()
    early_template.begin()
    begun = early_template.take(order_for(tmp_path))
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(begun.pid, number)
    channel = Channel(begun.socket)
    channel.close()
    _, status = os.waitpid(begun.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_without_a_process_there_is_none_to_take(tmp_path):
    def fail(module, channel):
        raise OSError(11, "no more processes")

    early_template = EarlyTemplate(spawn=fail)
    early_template.begin()
    assert early_template.take(order_for(tmp_path)) is None
    early_template.end()


PROGRAM = """
import {imports}, os, sys
from asgireload.supervisor.early_template import EarlyTemplate
early_template = EarlyTemplate()
{before}
try:
    early_template.begin(is_program=True)
    print(early_template._begun.pid, flush=True)
    {after}
finally:
    early_template.end()
"""


def begin_in_program(tmp_path, *, imports="signal", before="", after=""):
    path = tmp_path / "asgireload"
    path.write_text(PROGRAM.format(imports=imports, before=before, after=after))
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )


@pytest.mark.parametrize("before", ["", "sys.setprofile(lambda *_: None)"], ids=["fork", "spawn"])
def test_it_leaves_with_a_command_line_that_is_killed(tmp_path, before):
    """Nobody could end it then: the end of its channel does."""
    with begin_in_program(tmp_path, before=before, after="signal.pause()") as parent:
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    try:
        assert has_ended(handle)
    finally:
        os.close(handle)


@pytest.mark.parametrize("was_on", [True, False])
@pytest.mark.parametrize("way", ["take", "end"])
def test_garbage_is_collected_again_when_the_start_is_over(tmp_path, way, was_on):
    """What both processes import stays for good, and need not be looked through."""
    over = {"take": "early_template.take(None)", "end": "early_template.end()"}[way]
    after = f"print(gc.isenabled()); {over}; print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    before = "" if was_on else "gc.disable()"
    with begin_in_program(tmp_path, imports="gc", before=before, after=after) as parent:
        lines = parent.stdout.read().splitlines()
    assert parent.returncode == 0
    assert lines[1:] == ["False", f"{was_on} {was_on}"]


COMMAND_LINE = 'print(open(f"/proc/{early_template._begun.pid}/cmdline").read().split("\\0")[1:-1])'
THREAD = "e = threading.Event(); t = threading.Thread(target=e.wait); t.start()"


@pytest.mark.parametrize(
    ("before", "forks"),
    [
        ("", True),
        ("sys.setprofile(lambda *_: None)", False),
        ("sys.settrace(lambda *_: None)", False),
        (THREAD, False),
        ("sys.path.insert(0, '/elsewhere')", False),
        pytest.param(
            "sys.monitoring.use_tool_id(1, 'coverage')",
            False,
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="since Python 3.12"),
        ),
    ],
)
def test_only_a_program_that_has_just_begun_forks(tmp_path, before, forks):
    """A fork takes locks along that other threads hold, and notes that would be written twice."""
    after = COMMAND_LINE + ("; e.set()" if before == THREAD else "")
    with begin_in_program(tmp_path, imports="threading", before=before, after=after) as parent:
        lines = parent.stdout.read().splitlines()
    assert parent.returncode == 0
    assert (lines[1] == str([str(tmp_path / "asgireload")])) is forks


WRITER = """
import os, sys
os.close(int(sys.argv[1]))
others = []
while (file := open("written", "w")).fileno() != int(sys.argv[1]):
    others.append(file)
sys.kept = file
print("to the end", file=file)
"""


def test_a_child_closes_nothing_that_has_taken_the_number_of_its_channel(tmp_path):
    """On its way out it passes what the command line was about to do, which is not its business any more."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "writer.py").write_text(WRITER)
    path = tmp_path / "asgireload"
    before = (
        "import asgireload.supervisor.early_template as module; module.TEMPLATE_MODULE = 'writer'"
    )
    after = "os.waitid(os.P_PID, early_template._begun.pid, os.WEXITED | os.WNOWAIT)"
    path.write_text(PROGRAM.format(imports="signal", before=before, after=after))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere")}
    subprocess.run([sys.executable, str(path)], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "written").read_text() == "to the end\n"


def test_who_was_called_by_something_else_spawns():
    early_template = EarlyTemplate(fork=lambda *_: pytest.fail("forked"))
    early_template.begin()
    early_template.end()


def test_threads_that_python_does_not_know_count(tmp_path):
    (tmp_path / "1").mkdir()
    assert spawning.has_one_thread(str(tmp_path))
    (tmp_path / "2").mkdir()
    assert not spawning.has_one_thread(str(tmp_path))


def test_where_nobody_can_tell_it_is_no_fork(tmp_path):
    assert not spawning.has_one_thread(str(tmp_path / "missing"))
