"""What modules make while they are imported works in workers, and is gone when its generation is."""

import http.client
import os
import re
import signal
import socket
import threading

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

TEMPORARY = """
import atexit, pathlib, shutil, tempfile

MARKS = pathlib.Path(__file__).parent / "marks"
DIRECTORY = tempfile.TemporaryDirectory(dir=MARKS)
(pathlib.Path(DIRECTORY.name) / "kept").write_text("x")
FILE = tempfile.NamedTemporaryFile(dir=MARKS)
FILE.write(b"header"); FILE.flush()
MADE = tempfile.mkdtemp(dir=MARKS)
atexit.register(shutil.rmtree, MADE)
OTHER = tempfile.mkdtemp(dir=MARKS)
atexit.register(lambda: shutil.rmtree(OTHER))

async def temporary(scope, receive, send):
    paths = (DIRECTORY.name + "/kept", FILE.name, MADE, OTHER)
    await answer(send, b" ".join(b"%d" % os.path.exists(path) for path in paths))
PATHS["/temporary"] = temporary
"""


@pytest.fixture
def marks(tmp_path):
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.mark.parametrize("options", [(), ("--no-preload",)], ids=["preload", "no preload"])
def test_temporary_files_of_an_import_live_as_long_as_their_generation(tmp_path, marks, options):
    write_version(tmp_path, 1, extra=TEMPORARY)
    with Server(tmp_path, *options, "--keep-generations", "0", workers=2) as server:
        pids = server.worker_pids()
        assert len(list(marks.iterdir())) == (4 if not options else 8)
        os.kill(pids[0], signal.SIGTERM)  # it leaves with all exit handlers
        wait_until(lambda: pids[0] not in server.processes())
        wait_until(lambda: len(server.worker_pids()) == 2)
        for _ in range(8):
            assert server.get("/temporary") == "1 1 1 1"
        before = set(marks.iterdir())
        server.reload()
        assert server.get("/temporary") == "1 1 1 1"
        wait_until(lambda: not before & set(marks.iterdir()), what="the end of the old generation")
        assert server.get("/temporary") == "1 1 1 1"
        assert server.stop() == 0
    assert not list(marks.iterdir())


READING = """
import io, pathlib, socket, threading, zipfile

ARCHIVE = pathlib.Path(__file__).parent / f"archive-{os.getpid()}.zip"
with zipfile.ZipFile(ARCHIVE, "w") as made:
    for number in range(20):
        made.writestr(str(number), bytes([number]) * 50_000)
OPENED = zipfile.ZipFile(ARCHIVE)

async def read(scope, receive, send):
    for number in range(20):
        assert OPENED.read(str(number)) == bytes([number]) * 50_000
    await answer(send, b"%d" % os.getpid())
PATHS["/read"] = read
"""


def test_workers_have_offsets_of_their_own(tmp_path):
    """zipfile seeks and reads: with one offset for two workers one of them reads what is elsewhere."""
    write_version(tmp_path, 1, extra=READING)
    with Server(tmp_path, workers=2) as server:
        assert server.status()["templates"][0]["preload"] is True
        links = [open_offset(pid, "archive-") for pid in server.worker_pids()]
        answers = [server.get("/read") for _ in range(20)]
        assert links[0] == links[1]
        pid = int(answers[-1])
        other = next(worker for worker in server.worker_pids() if worker != pid)
        before = open_offset(other, "archive-")
        while int(server.get("/read")) == other:
            before = open_offset(other, "archive-")
        assert open_offset(other, "archive-") == before


def open_offset(pid, name):
    for entry in os.listdir(f"/proc/{pid}/fd"):
        if name in os.readlink(f"/proc/{pid}/fd/{entry}"):
            with open(f"/proc/{pid}/fdinfo/{entry}") as info:
                return int(info.readline().split()[1])
    raise AssertionError(f"{name} is not open in {pid}")


DATAGRAMS = """
import socket
ECHO = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ECHO.settimeout(5)
ECHO.connect(("127.0.0.1", int(os.environ["ECHO_PORT"])))
ECHO.send(b"import"); ECHO.recv(100)

async def echo(scope, receive, send):
    await answer(send, b"%d %d" % (os.getpid(), ECHO.getsockname()[1]))
PATHS["/echo"] = echo
"""


def test_workers_have_datagram_sockets_of_their_own(tmp_path):
    write_version(tmp_path, 1, extra=DATAGRAMS)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echoing:
        echoing.bind(("127.0.0.1", 0))

        def echo():
            while True:
                data, sender = echoing.recvfrom(100)
                if data == b"end":
                    return
                echoing.sendto(data, sender)

        thread = threading.Thread(target=echo)
        thread.start()
        try:
            environment = {"ECHO_PORT": str(echoing.getsockname()[1])}
            with Server(tmp_path, workers=2, env=environment) as server:
                assert server.status()["templates"][0]["preload"] is True
                ports = {}

                def both():
                    pid, port = server.get("/echo").split()
                    ports[pid] = port
                    return len(ports) == 2

                wait_until(both)
                assert len(set(ports.values())) == 2
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ending:
                ending.sendto(b"end", echoing.getsockname())
            thread.join()


MANAGER = """
import multiprocessing
MANAGER = multiprocessing.Manager()
SHARED = MANAGER.dict()

async def shared(scope, receive, send):
    SHARED["a"] = SHARED.get("a", 0) + 1
    await answer(send, b"%d" % SHARED["a"])
PATHS["/shared"] = shared
"""
HELPER = """
import subprocess
HELPER = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

async def shared(scope, receive, send):
    HELPER.stdin.write(b"%d\\n" % os.getpid()); HELPER.stdin.flush()
    assert HELPER.stdout.readline() == b"%d\\n" % os.getpid()
    await answer(send, b"ok")
PATHS["/shared"] = shared
"""
STUBBORN = """
import subprocess
HELPER = subprocess.Popen(["sh", "-c", "trap '' TERM; echo ready; exec sleep 1000"], stdout=subprocess.PIPE)
HELPER.stdout.readline()

async def shared(scope, receive, send):
    await answer(send, b"ok")
PATHS["/shared"] = shared
"""
EXECUTOR = """
import concurrent.futures
POOL = concurrent.futures.ProcessPoolExecutor(1)

async def shared(scope, receive, send):
    import asyncio
    result = await asyncio.get_running_loop().run_in_executor(POOL, abs, -7)
    await answer(send, b"%d" % result)
PATHS["/shared"] = shared
"""


def ask(server, path):
    """Return an answer without waiting for the end of its connection: a child of the worker may have a copy."""
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        client.request("GET", path)
        response = client.getresponse()
        assert response.status == 200
        return response.read().decode()
    finally:
        client.close()


def ask_every_worker(server, path):
    """Ask ten times, and until each worker has answered."""
    for _ in range(10):
        ask(server, path)

    def have_all_answered():
        ask(server, path)
        return all(worker["requests_total"] for worker in server.workers())

    wait_until(have_all_answered)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (MANAGER, "SyncManager-1 of multiprocessing) was started at import, held by app.MANAGER"),
        (HELPER, "(cat) was started at import, held by app.HELPER"),
        (EXECUTOR, "a pipe was made at import (a queue, an executor, a process), held by app.POOL"),
    ],
    ids=["manager", "helper", "executor"],
)
def test_processes_of_an_import_are_each_workers_own_and_end_with_it(tmp_path, code, said):
    write_version(tmp_path, 1, extra=code)
    with Server(tmp_path, "--keep-generations", "0", workers=2) as server:
        assert said in server.log
        assert server.status()["templates"][0]["preload"] is False
        ask_every_worker(server, "/shared")
        count = len(server.processes())
        server.reload()
        ask_every_worker(server, "/shared")
        wait_until(lambda: len(server.processes()) <= count)
        assert server.stop() == 0
        assert not server.left_behind()


def test_a_helper_of_a_forced_preload_ends_with_its_template(tmp_path):
    """It ignores SIGTERM, and nobody but the template knows it."""
    write_version(tmp_path, 1, extra=STUBBORN)
    with Server(tmp_path, "--preload", "--keep-generations", "0", workers=1) as server:
        assert server.get("/shared") == "ok"
        count = len(server.processes())
        server.reload()
        wait_until(lambda: len(server.processes()) <= count)
        assert server.get("/shared") == "ok"
        assert server.stop() == 0
        assert not server.left_behind()


SIGNALS = """
import signal, subprocess, sys
GOT = []
signal.signal(signal.SIGIO, lambda *arguments: GOT.append(1))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGPROF, lambda *arguments: GOT.append(2))
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGURG])

async def signals(scope, receive, send):
    os.kill(os.getpid(), signal.SIGIO)
    while set(GOT) != {1, 2}:
        pass
    signal.setitimer(signal.ITIMER_PROF, 0)
    ignored = signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    await answer(send, b"%d %s" % (ignored, b",".join(b"%d" % n for n in blocked)))
PATHS["/signals"] = signals
"""


@pytest.mark.parametrize("options", [(), ("--no-preload",)], ids=["preload", "no preload"])
def test_signals_and_timers_that_were_set_at_import_hold_in_workers(tmp_path, options):
    write_version(tmp_path, 1, extra=SIGNALS)
    with Server(tmp_path, *options, workers=1) as server:
        ignored, blocked = server.get("/signals").split()
        assert ignored == "1"
        assert blocked == str(int(signal.SIGURG)), "SIGTERM tells a worker to leave"
        server.reload()
        assert server.get("/signals").split()[0] == "1"
        assert server.stop() == 0


STATE = """
import multiprocessing, subprocess, sys
SHOW = "print([l.split()[1] for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn')])"

def show(connection):
    connection.send([line.split()[1] for line in open("/proc/self/status") if line[:6] in ("SigBlk", "SigIgn")])

def forked():
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=show, args=[theirs])
    child.start(); child.join(); found = ours.recv(); ours.close(); theirs.close()
    child = multiprocessing.get_context("fork").Process(target=__import__("time").sleep, args=[60])
    child.start(); child.terminate(); child.join()
    return f"{found} {child.exitcode}"

def states():
    return f"{subprocess.check_output([sys.executable, '-Sc', SHOW], text=True).strip()} {forked()}"

AT_IMPORT = states()
async def show_states(scope, receive, send):
    await answer(send, f"{AT_IMPORT} {states()}".encode())
PATHS["/states"] = show_states
"""


def test_what_an_application_starts_has_default_signals(tmp_path):
    """Python ignores SIGPIPE and SIGXFSZ by itself, in forks too; subprocess gives them back."""
    write_version(tmp_path, 1, extra=STATE)
    with Server(tmp_path, workers=1) as server:
        assert server.status()["templates"][0]["preload"] is True
        answer = server.get("/states")
    # Without signals 32 and 33 of the C library, which whoever has started the tests may have had ignored.
    answer = re.sub("[0-9a-f]{16}", lambda mask: f"{int(mask[0], 16) & ~(0b11 << 31):016x}", answer)
    of_python = f"{1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1:016x}"
    none = "0" * 16
    shown = f"['{none}', '{none}'] ['{none}', '{of_python}'] -15"
    of_interpreter = shown.replace(f"'{none}'] [", f"'{of_python}'] [")
    assert answer in (f"{shown} {shown}", f"{of_interpreter} {of_interpreter}")


WRITTEN = """
import pathlib
LOG = open(pathlib.Path(__file__).parent / "marks" / "log", "a")
LOG.write("header\\n")

async def write(scope, receive, send):
    LOG.write("%d\\n" % os.getpid())
    await answer(send, b"ok")
PATHS["/write"] = write
"""


def test_text_that_was_written_at_import_is_written_once(tmp_path, marks):
    """It lay in the buffer of the file, of which each worker has a copy."""
    write_version(tmp_path, 1, extra=WRITTEN)
    with Server(tmp_path, workers=2) as server:
        assert server.status()["templates"][0]["preload"] is True
        for _ in range(10):
            server.get("/write")
        assert server.stop() == 0
    lines = (marks / "log").read_text().split()
    assert lines.count("header") == 1
    assert len(lines) == 11


def test_an_import_that_fails_leaves_no_process(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=1) as server:
        count = len(server.processes())
        write_version(tmp_path, 2, extra=STUBBORN + "raise ValueError('broken')\n")
        assert "broken" in server.reload(ok=False)
        wait_until(lambda: len(server.processes()) <= count)
        assert server.version() == 1


ENDLESS = """
import atexit, pathlib, tempfile, time
DIRECTORY = tempfile.TemporaryDirectory(dir=pathlib.Path(__file__).parent / "marks")
import weakref
weakref.finalize(DIRECTORY, time.sleep, 1000)
"""


def test_a_finalizer_that_does_not_end_does_not_hold_the_stop(tmp_path, marks):
    write_version(tmp_path, 1, extra=ENDLESS)
    with Server(tmp_path, workers=1) as server:
        assert server.version() == 1
        assert server.stop(timeout=30) == 0
