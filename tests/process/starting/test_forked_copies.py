"""Processes that the application forks live on with copies of our descriptors: nothing may depend on their end.

Each is forked while a worker serves, and ends when the test says so. `os.fork` stands for multiprocessing with the
start method `fork` and for whatever else forks in Python; `PyDLL.fork` for libraries in C, which run no hooks.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

FORKING = """
import ctypes, multiprocessing, pathlib, signal, subprocess, sys, time

FORKS = {"python": os.fork, "c": ctypes.PyDLL(None).fork}
ALIVE = pathlib.Path("alive")

def linger():
    deadline = time.monotonic() + 120
    while ALIVE.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os._exit(0)

def start(kind):
    if kind == "multiprocessing":
        process = multiprocessing.get_context("fork").Process(target=linger, daemon=True)
        process.start()
        return process.pid
    if kind == "subprocess":
        code = "import sys, time; sys.stdin.read()"
        command = [sys.executable, "-c", code]
        return subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False).pid
    child = FORKS[kind]()
    if child == 0:
        linger()
    return child

async def fork(scope, receive, send):
    child = start(scope["query_string"].decode())
    await answer(send, b"%d %d" % (os.getpid(), child))
PATHS["/fork"] = fork

async def unbounded(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    start(scope["query_string"].decode())
    await send({"type": "http.response.body", "body": b"ended"})
PATHS["/unbounded"] = unbounded

async def wakeup(scope, receive, send):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"%d" % signal.set_wakeup_fd(-1))
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 16)
    os.close(reader)
    os.waitpid(child, 0)
    await answer(send, said)
PATHS["/wakeup"] = wakeup
"""
FORKS = ["python", "multiprocessing", "c"]


@pytest.fixture
def alive(tmp_path):
    """Children of the application end when this is removed."""
    write_version(tmp_path, 1, extra=FORKING)
    path = tmp_path / "alive"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def fork_in_every_worker(server, kind):
    """Return the numbers of all children."""
    expected, found = set(server.worker_pids()), {}

    def done():
        # Read by its length: a copy of a connection that was made in C keeps that open.
        with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as client:
            client.request("GET", f"/fork?{kind}")
            worker, child = map(int, client.getresponse().read().split())
        found.setdefault(worker, set()).add(child)
        return set(found) == expected

    wait_until(done)
    return set().union(*found.values())


def sockets_of(pid):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            link = os.readlink(f"/proc/{pid}/fd/{name}")
            if link.startswith("socket:"):
                found.append(link)
    return found


@pytest.mark.parametrize("kind", FORKS)
def test_a_slot_that_goes_away_takes_its_share_of_connections_along(tmp_path, alive, kind):
    """The kernel gives connections to every socket that listens in the group, whoever holds the last copy of it."""
    with Server(tmp_path, "--accept", "per-slot", "--no-defer-accept", workers=3) as server:
        fork_in_every_worker(server, kind)
        assert server.control("scale", "1").returncode == 0
        wait_until(lambda: len(server.status()["workers"]) == 1)
        assert {server.version() for _ in range(40)} == {1}
        alive.unlink()


def test_who_holds_the_socket_of_a_slot_that_went_away_is_named(tmp_path, alive):
    with Server(tmp_path, "--accept", "per-slot", workers=2) as server:
        children = fork_in_every_worker(server, "c")
        assert server.control("scale", "1").returncode == 0
        server.wait_log("holds a copy of the socket")
        named = re.search(r"process (\d+) \(.+\) holds a copy of the socket", server.log)
        assert int(named[1]) in children
        alive.unlink()


@pytest.mark.parametrize("kind", ["python", "multiprocessing"])
def test_a_response_that_ends_with_its_connection_ends(tmp_path, alive, kind):
    """As behind nginx, which speaks HTTP/1.0 to its upstreams by default: the end of file is the end."""
    with Server(tmp_path, workers=1) as server:
        assert server.get(f"/unbounded?{kind}") == "begun ended"
        alive.unlink()


@pytest.mark.parametrize("kind", ["python", "multiprocessing", "subprocess"])
def test_children_of_the_application_have_none_of_our_sockets(tmp_path, alive, kind):
    """Nor could they answer for the worker: an open connection, the listener and the channel are its own."""
    with Server(tmp_path, workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            idle.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            assert idle.recv(65536)
            _, child = map(int, server.get(f"/fork?{kind}").split())
            # But for the pair by which the event loop wakes itself.
            wait_until(lambda: len(sockets_of(child)) <= 2, what="no sockets")
            idle.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            assert idle.recv(65536)
        alive.unlink()


def test_signals_of_a_forked_child_do_not_wake_the_loop_of_its_worker(tmp_path, alive):
    with Server(tmp_path, workers=1) as server:
        assert server.get("/wakeup") == "-1"


@pytest.mark.parametrize("kind", FORKS)
@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_after_a_stop_the_address_is_free(tmp_path, alive, accept, kind):
    """Clients are refused at once, not taken into a queue of nobody, and the next server has the port."""
    with Server(tmp_path, "--accept", accept, workers=2) as server:
        children = fork_in_every_worker(server, kind)
        assert server.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), 5)
        named = re.findall(r"process (\d+) \(.+\) holds a copy of the socket", server.log)
        if kind == "c":
            assert named
            assert {int(pid) for pid in named} <= children
        else:
            assert not named
        with Server(tmp_path, "--port", str(server.port), workers=1) as successor:
            assert successor.version() == 1
        alive.unlink()


@pytest.mark.parametrize("kind", FORKS)
def test_a_unix_socket_is_refused_after_a_stop(tmp_path, alive, kind):
    path = tmp_path / "app.sock"
    with Server(tmp_path, "--bind", f"unix:{path}", workers=1) as server:
        link = tmp_path / "kept.sock"
        os.link(path, link)  # the file goes; this one leads to the same socket
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /fork?%s HTTP/1.0\r\nhost: test\r\n\r\n" % kind.encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.stop() == 0
        assert not path.exists()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            with pytest.raises(ConnectionRefusedError):
                client.connect(str(link))
        alive.unlink()


def test_an_inherited_socket_goes_on_listening(tmp_path, alive):
    """It belongs to whoever passed it on: systemd keeps it for the next start, and clients wait in its queue."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        os.set_inheritable(listening.fileno(), True)
        command = [sys.executable, "-m", "asgireload", "app:app", "--admin-socket", "none"]
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(
                [*command, "--fd", str(listening.fileno())],
                cwd=tmp_path,
                pass_fds=[listening.fileno()],
                stdout=log,
                stderr=log,
            )
        try:
            with socket.create_connection(listening.getsockname(), 20) as client:
                client.sendall(b"GET /fork?c HTTP/1.0\r\nhost: test\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 200")
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            if server.poll() is None:
                server.kill()
                server.wait()
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def test_a_port_in_use_names_the_process_that_listens(tmp_path):
    write_version(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "asgireload", "app:app", "--port", str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert f"process {os.getpid()} (" in done.stderr
