"""How the process of a worker ends: with everything that a program relies on, and nothing else."""

import contextlib
import sqlite3
import stat
import subprocess
import sys

import pytest

from asgireload.worker.fast_exit import OpenFile, may_hold_back

BEGIN = """
import atexit, os, sys, threading, time
from asgireload.worker.fast_exit import ExitTime, end_process, open_files

INHERITED = frozenset(file.link for file in open_files())

class Finalized:
    def __del__(self):
        os.write(1, b"finalized ")

thing = Finalized()
cycle = [thing]
cycle.append(cycle)
"""


END = """
now = time.monotonic()
sys.exit(end_process({status}, INHERITED, ExitTime(now, now + {seconds})))
"""


def run(code, *arguments, status=0, seconds=60, said=""):
    """Return what a program with `code` printed before it ended with `status`.

    `seconds` is its time to exit; `said` must be in what it logged, which is nothing otherwise.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BEGIN + code + END.format(status=status, seconds=seconds),
            *arguments,
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert bool(done.stderr) == bool(said), done.stderr
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


@pytest.mark.parametrize("how", ["a thread", "an executor", "several"])
def test_threads_that_do_not_end_are_told_about_and_exit_handlers_run(how):
    code = f"""
import logging
from concurrent.futures import ThreadPoolExecutor
logging.basicConfig()

def blocked():
    time.sleep(60)

match {how!r}:
    case "a thread":
        threading.Thread(target=blocked, name="poller").start()
    case "an executor":
        ThreadPoolExecutor(1, "poller").submit(blocked)
    case "several":
        executor = ThreadPoolExecutor(2, "poller")
        for _ in range(2):
            executor.submit(blocked)
        threading.Thread(target=blocked).start()
atexit.register(print, "handled", end="")
"""
    count = "3 threads still run" if how == "several" else "1 thread still runs"
    assert run(code, seconds=1, said=count) == "handled"


@pytest.mark.parametrize("how", ["an executor in a daemon", "a function of threading"])
def test_daemons_that_something_waits_for_are_told_about_and_exit_handlers_run(how):
    """A kernel of marimo is a daemon that uses an executor; tracers register functions that join their threads."""
    code = f"""
import logging
from concurrent.futures import ThreadPoolExecutor
logging.basicConfig()

def blocked():
    time.sleep(60)

def use_an_executor():
    executor.submit(blocked)

match {how!r}:
    case "an executor in a daemon":
        executor = ThreadPoolExecutor(1, "poller")
        user = threading.Thread(target=use_an_executor, daemon=True)
        user.start()
        user.join()
    case "a function of threading":
        poller = threading.Thread(target=blocked, name="poller", daemon=True)
        poller.start()
        threading._register_atexit(poller.join)
atexit.register(print, "handled", end="")
"""
    assert run(code, seconds=1, said="1 thread still runs") == "handled"


def test_code_of_a_thread_that_still_runs_is_named():
    code = """
def ask_the_database():
    ended.wait()

ended = threading.Event()
thread = threading.Thread(target=ask_the_database, name="poller")
thread.start()
print(*describe_threads(threads_left()), end="")
ended.set()
"""
    told = run("from asgireload.worker.fast_exit import describe_threads, threads_left" + code)
    assert told == "'poller' in ask_the_database (<string>:16)"


def test_stray_signals_do_not_end_the_wait_for_threads():
    code = """
import signal
from asgireload.ipc.quiet_signals import make_quiet
make_quiet()

def work():
    for _ in range(5):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
        time.sleep(0.01)
    print("worked", end="")

threading.Thread(target=work).start()
"""
    assert run(code) == "worked"


@pytest.mark.parametrize(
    "opened",
    [
        "open(sys.argv[1], 'w')",
        "open(sys.argv[1], 'w+b')",
        "io.TextIOWrapper(open(sys.argv[1], 'wb'))",
        "tempfile_like(sys.argv[1])",
    ],
)
def test_what_was_written_is_in_the_file_before_threads_and_exit_handlers(tmp_path, opened):
    path = tmp_path / "log"
    path.touch()
    code = f"""
import gc, io, warnings
warnings.simplefilter("ignore", ResourceWarning)

class Named(io.TextIOWrapper):
    def flush(self):
        raise RuntimeError("a subclass is not asked")

def tempfile_like(path):
    return Named(open(path, "wb"))

file = {opened}
file.write("all" if hasattr(file, "encoding") else b"all")
gc.freeze()

def look():
    print(open(sys.argv[1]).read(), end=" ")
    sys.stdout.flush()

threading.Thread(target=lambda: (threading.main_thread().join(), look())).start()
atexit.register(look)
atexit.register(os._exit, 0)
atexit.register(look)
"""
    assert run(code, str(path)).split() == ["all", "all"]


def test_database_of_sqlite_does_not_make_the_end_longer(tmp_path):
    """SQLAlchemy and others keep it open. What is committed is in the file; what is not, Python would not write."""
    code = """
import sqlite3
one = sqlite3.connect(sys.argv[1])
one.execute("pragma journal_mode=wal")
one.execute("create table t (a)")
one.commit()
one.execute("insert into t values (1)")
one.commit()
"""
    path = tmp_path / "data.sqlite"
    assert run(code, str(path)) == ""
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("select a from t").fetchall() == [(1,)]


def test_an_exit_handler_that_fails_changes_nothing_but_the_log():
    code = BEGIN + "atexit.register(lambda: 1 / 0)" + END.format(status=0, seconds=60)
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


def test_files_of_a_database_hold_nothing_back():
    link = "/srv/data.db"
    files = [
        OpenFile(link, stat.S_IFREG, is_written=True, is_database=True),
        OpenFile(link + "-wal", stat.S_IFREG, is_written=True),
    ]
    assert not may_hold_back(files, frozenset())
    assert may_hold_back(
        [*files, OpenFile("/srv/a-wal", stat.S_IFREG, is_written=True)], frozenset()
    )


def test_a_pipe_to_itself_holds_nothing_back():
    ends = [
        OpenFile("pipe:[1]", stat.S_IFIFO, is_written=is_written) for is_written in (True, False)
    ]
    assert not may_hold_back(ends, frozenset())
