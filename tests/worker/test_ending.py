"""How the process of a worker ends: with everything that a program relies on, and nothing else."""

import stat
import subprocess
import sys

import pytest

from asgireload.worker.ending import OpenFile, may_hold_back

BEGIN = """
import atexit, os, sys, threading, time
from asgireload.worker.ending import end_process, open_files

INHERITED = frozenset(file.link for file in open_files())

class Finalized:
    def __del__(self):
        os.write(1, b"finalized ")

thing = Finalized()
cycle = [thing]
cycle.append(cycle)
"""


def run(code, *arguments, status=0):
    """Return what a program with `code` printed before it ended with `status`."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BEGIN + code + f"\nsys.exit(end_process({status}, INHERITED))",
            *arguments,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == status, done.stderr
    assert not done.stderr
    return done.stdout


def test_exit_handlers_run_and_what_is_printed_arrives():
    code = """
atexit.register(lambda: print("handled", end=" "))
print("served", end=" ")
"""
    assert run(code, status=3) == "served handled "


def test_threads_that_are_no_daemons_are_waited_for():
    code = """
def work():
    threading.main_thread().join()  # it is over, and we are waited for
    print("worked", end="")

threading.Thread(target=work).start()
threading.Thread(target=time.sleep, args=[60], daemon=True).start()
"""
    assert run(code) == "worked"


def test_an_exit_handler_that_fails_changes_nothing_but_the_log():
    code = BEGIN + "atexit.register(lambda: 1 / 0)\nsys.exit(end_process(0, INHERITED))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("opened", ["open(sys.argv[1], 'w')", "open(sys.argv[1], 'ab', 1 << 16)"])
def test_what_was_written_to_a_file_that_nobody_closed_is_there(tmp_path, opened):
    path = tmp_path / "log"
    code = f"""
file = {opened}
file.write("all" if "w" in file.mode else b"all")
import warnings
warnings.simplefilter("ignore", ResourceWarning)
"""
    assert "finalized" in run(code, str(path))
    assert path.read_text() == "all"


def test_files_that_are_read_sockets_and_files_that_an_exit_handler_closes_do_not_matter(tmp_path):
    path = tmp_path / "log"
    code = """
import logging, socket, tempfile
logging.basicConfig(filename=sys.argv[1], level="INFO")
logging.info("said")
read = open("/etc/hostname" if os.path.exists("/etc/hostname") else __file__)
pair = socket.socketpair()
memory = os.memfd_create("scoreboard")
null = open(os.devnull, "w")
"""
    assert run(code, str(path)) == ""
    assert "said" in path.read_text()


def test_a_closed_standard_output_ends_the_long_way():
    assert run("print('said', flush=True); sys.stdout.close()").startswith("said\nfinalized")


def test_signals_that_come_while_objects_are_dropped_do_not_change_the_status(tmp_path):
    code = """
import signal

def told(*arguments):
    print("handled", end=" ")

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, told)

class Told:
    def __del__(self, kill=os.kill, write=os.write, alarm=signal.alarm):
        for number in (15, 2, 1, 10):
            kill(os.getpid(), number)
        write(1, b"told " if alarm(0) else b"told, and nobody would end it ")

told_late = Told()
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
file = open(sys.argv[1], "w")
import warnings
warnings.simplefilter("ignore", ResourceWarning)
"""
    output = run(code, str(tmp_path / "log"), status=3)
    assert output.split() == ["handled", "told", "finalized"] or output.split() == [
        "handled",
        "finalized",
        "told",
    ]


@pytest.mark.parametrize(
    ("mode", "link", "expected"),
    [
        (stat.S_IFREG, "/var/log/app.log", True),
        (stat.S_IFREG, "/memfd:asgireload-scoreboard (deleted)", False),
        (stat.S_IFREG, "/tmp/gone (deleted)", True),
        (stat.S_IFIFO, "pipe:[1]", True),
        (stat.S_IFCHR, "/dev/pts/0", True),
        (stat.S_IFCHR, "/dev/null", False),
        (stat.S_IFSOCK, "socket:[1]", False),
        (0, "anon_inode:[eventpoll]", False),
    ],
)
def test_what_may_hold_something_back(mode, link, expected):
    written = OpenFile(link, mode, is_written=True)
    assert may_hold_back([written], frozenset()) is expected
    assert not may_hold_back([written._replace(is_written=False)], frozenset())
    assert not may_hold_back([written], frozenset({link}))


def test_a_pipe_to_itself_holds_nothing_back():
    ends = [
        OpenFile("pipe:[1]", stat.S_IFIFO, is_written=is_written) for is_written in (True, False)
    ]
    assert not may_hold_back(ends, frozenset())
