"""Life table, backoff, counter totals, signals, exits, PID file, directory."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import ConfigError, StartupError
from asgireload.ipc.scoreboard import FIELD_COUNT, Field
from asgireload.supervisor import signals, spawning
from asgireload.supervisor.backoff import LONGEST_DELAY, delay
from asgireload.supervisor.counter_totals import MERGED, CounterTotals
from asgireload.supervisor.fault import readable
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.pidfile import remove_pid_file, why_taken, write_pid_file
from asgireload.supervisor.reloads import Reload, describe_steps
from asgireload.supervisor.roles import WORKER
from asgireload.supervisor.spawning import describe_exit
from asgireload.supervisor.start import launch_directory


def test_an_event_without_an_entry_names_them_and_the_role():
    with pytest.raises(ValueError, match="a worker that is ready cannot see 'started'"):
        advance(WORKER, State.READY, Change.STARTED)


def test_every_state_but_the_last_can_end():
    for state in State:
        if state is not State.GONE:
            assert advance(WORKER, state, Change.EXITED) is State.GONE


@given(st.integers(0, 10_000), st.integers())
def test_backoff_grows_to_a_bound_and_never_undercuts_three_quarters(failures, seed):
    wait = delay(failures, random.Random(seed))
    assert 0 <= wait <= LONGEST_DELAY
    if failures > 10:
        assert wait >= LONGEST_DELAY * 0.75
    if failures <= 1:
        assert wait == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(0, 100)), max_size=60))
def test_totals_never_go_back_and_series_stay_bounded(exits):
    totals_kept = CounterTotals()
    expected = 0
    for slot, generation, requests in exits:
        values = [0] * FIELD_COUNT
        values[Field.REQUESTS_TOTAL] = requests
        values[Field.CONNECTIONS] = 5
        totals_kept.add_ended(("worker", slot, generation), values)
        expected += requests
        totals = totals_kept.totals([])
        assert sum(values[Field.REQUESTS_TOTAL] for values in totals.values()) == expected
        assert all(values[Field.CONNECTIONS] == 0 for values in totals.values())
        assert len({generation for _, _, generation in totals} - {MERGED}) <= 4


def test_living_workers_are_added_without_their_heartbeat():
    totals_kept = CounterTotals()
    values = tuple(range(FIELD_COUNT))
    key = ("worker", 0, 1)
    totals = totals_kept.totals([(key, values), (key, values)])
    assert totals[key][Field.CONNECTIONS] == 2
    assert totals[key][Field.HEARTBEAT] == 0


def test_children_of_different_roles_are_counted_apart():
    totals_kept = CounterTotals()
    values = [0] * FIELD_COUNT
    values[Field.REQUESTS_TOTAL] = 3
    totals_kept.add_ended(("worker", 0, 1), values)
    totals_kept.add_ended(("task worker", 0, 1), values)
    assert {role for role, _, _ in totals_kept.totals([])} == {"worker", "task worker"}


def test_no_signal_that_a_user_may_send_is_left_to_its_default():
    """Window changes, timers and strangers must not end the server."""
    unused = signals.unused()
    assert signal.SIGWINCH in unused
    assert signal.SIGALRM in unused
    assert signal.SIGKILL not in unused
    assert not set(unused) & {*signals.RELOAD, *signals.STOP}


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL"), (-64, "killed by")],
)
def test_exits_in_words(code, text):
    assert describe_exit(code).startswith(text)


def test_pid_file_is_removed_only_while_it_is_ours(tmp_path):
    path = tmp_path / "pid"
    first = write_pid_file(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    path.write_text("1\n")
    remove_pid_file(str(path))
    assert path.exists()
    first.release()
    second = write_pid_file(str(path))
    remove_pid_file(str(path))
    assert not path.exists()
    remove_pid_file(str(path))
    second.release()
    second.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("is_locked", "named", "is_alive", "is_taken"),
    [
        (True, 7, True, True),
        (False, 7, True, False),  # left behind, and another process has the pid now
        (True, 7, False, False),  # locked by somebody who may read it
        (True, None, False, False),  # not a PID file
        (True, 1, True, False),  # ours: the other one is process 1 of another container
    ],
)
def test_pid_file_is_another_servers_while_that_one_lives_and_locks_it(
    is_locked, named, is_alive, is_taken
):
    why = why_taken(is_locked=is_locked, named=named, own=1, is_alive=is_alive)
    assert bool(why) is is_taken


@pytest.mark.parametrize("present", ["", "no pid", "-1", "9" * 31, "dangling"])
def test_pid_file_replaces_what_names_nobody(tmp_path, present):
    path = tmp_path / "pid"
    if present == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_text(present)
    write_pid_file(str(path)).release()
    assert path.read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == ["pid"]


@pytest.mark.parametrize("is_there", [True, False])
def test_one_of_many_servers_that_start_at_once_gets_the_pid_file(tmp_path, is_there):
    path = tmp_path / "pid"
    if is_there:
        path.write_text("no pid")
    code = (
        "import sys\n"
        "from asgireload.errors import StartupError\n"
        "from asgireload.supervisor.pidfile import write_pid_file\n"
        "print('up', flush=True)\n"
        "sys.stdin.readline()\n"
        "try:\n    lock = write_pid_file(sys.argv[1])\n    print('has it', flush=True)\n"
        "except StartupError as error:\n    print(error, flush=True)\n"
        "sys.stdin.readline()\n"
    )
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    try:
        for server in servers:
            server.stdout.readline()
        for server in servers:
            server.stdin.write("\n")
            server.stdin.flush()
        said = [server.stdout.readline() for server in servers]
    finally:
        for server in servers:
            server.kill()
            server.communicate()
    winners = [server.pid for server, line in zip(servers, said, strict=True) if "has it" in line]
    assert [int(path.read_text())] == winners
    assert all(
        f"process {winners[0]} has written it" in line for line in said if "has it" not in line
    )
    assert os.listdir(tmp_path) == ["pid"]


def test_pid_file_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(StartupError, match="--pid-file"):
        write_pid_file(str(tmp_path / "missing" / "pid"))


def test_launch_directory_keeps_the_symlink_the_user_typed(tmp_path, monkeypatch):
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert launch_directory() == str(tmp_path / "current")
    monkeypatch.setenv("PWD", "/somewhere/else")
    assert launch_directory() == str(tmp_path / "release")


def test_stacks_of_a_dead_child_show_the_applications_frames_only():
    import asgireload

    own = os.path.dirname(asgireload.__file__)
    text = "\n".join(
        [
            "Fatal Python error: Aborted",
            "",
            "Current thread 0x00007f (most recent call first):",
            '  File "/srv/app.py", line 2 in slow',
            '  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed',
            '  File "/usr/lib/python3.11/importlib/__init__.py", line 126 in import_module',
            f'  File "{own}/template/main.py", line 96 in _load',
            "",
            "Extension modules: msgspec._core (total: 1)",
        ]
    )
    assert readable(text) == (
        'Current thread 0x00007f (most recent call first):\n  File "/srv/app.py", line 2 in slow'
    )


def test_a_launch_directory_that_is_gone_is_explained(tmp_path, monkeypatch):
    gone = tmp_path / "release"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="the working directory is gone"):
        launch_directory()


def test_the_command_line_is_no_part_of_stacks_either():
    """A template that was forked has the program that began it at the bottom of its stack."""
    own = Path(spawning.__file__)
    text = "\n".join(
        [
            "Current thread 0x00007f (most recent call first):",
            '  File "/srv/app.py", line 2 in slow',
            '  File "<frozen runpy>", line 226 in run_module',
            f'  File "{own}", line 90 in _run',
            f'  File "{own.with_name("early_template.py")}", line 61 in begin',
            '  File "/srv/venv/bin/asgireload", line 8 in <module>',
            "",
            "Thread 0x00007e (most recent call first):",
            '  File "/srv/pool.py", line 7 in wait',
        ]
    )
    assert readable(text).splitlines() == [
        "Current thread 0x00007f (most recent call first):",
        '  File "/srv/app.py", line 2 in slow',
        "",
        "Thread 0x00007e (most recent call first):",
        '  File "/srv/pool.py", line 7 in wait',
    ]


def test_steps_of_a_verdict_are_told_by_slot_with_their_times():
    reload = Reload(1, 100.0, ["test"], started_at=100.5)
    reload.note(1, "fork", 101.0, 2)
    reload.note(0, "fork", 100.75, 2)
    reload.note(0, "killed", 120.5, 1, "drain timeout")
    assert describe_steps(reload) == [
        "  slot 0: fork at 0.25 s, killed at 20.00 s (drain timeout)",
        "  slot 1: fork at 0.50 s",
    ]
