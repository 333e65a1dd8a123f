"""What signals do to a running server, and what they must not do."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

STUBBORN = """
async def events(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0.05)
PATHS["/events"] = events
"""


@contextlib.contextmanager
def open_stream(port):
    with socket.create_connection(("127.0.0.1", port), 20) as client:
        client.sendall(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        yield client


@pytest.fixture
def app(tmp_path):
    write_version(tmp_path, 1)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_term_and_int_stop_gracefully_with_status_0(app, number):
    with Server(app, workers=2) as server:
        assert server.stop(number) == 0
        assert "Application shutdown complete" in server.log


def test_term_is_acted_on_at_once_in_the_middle_of_a_held_up_reload(app):
    """A stream that ignores the drain holds the roll; a stop must not wait for the roll."""
    write_version(app, 1, extra=STUBBORN)
    options = ["--no-drain-overlap", "--drain-timeout", "6", "--probation", "0"]
    options += ["--lifespan-timeout", "1"]
    with Server(app, *options, workers=2) as server, contextlib.ExitStack() as streams:
        # The roll is held up only where the slot that it begins with has a stream.
        while not all(worker["exchanges"] for worker in server.workers()):
            for _ in range(8):
                streams.enter_context(open_stream(server.port))
        server.kill(signal.SIGHUP)
        wait_until(lambda: server.workers("draining"))
        started = time.monotonic()
        server.kill(signal.SIGTERM)
        server.wait_log("Reload 1 abandoned", timeout=5)
        assert server.process.wait(20) == 0
        # One drain, and not that of the roll before that of the stop.
        assert time.monotonic() - started < 11


def test_second_int_and_quit_stop_at_once(app):
    write_version(app, 1, extra=STUBBORN)
    with Server(app, workers=2) as server, open_stream(server.port):
        server.kill(signal.SIGINT)
        server.wait_log("SIGINT: shutting down")
        started = time.monotonic()
        assert server.stop(signal.SIGINT) == 0
        assert time.monotonic() - started < 10  # a drain is 30 s
    with Server(app, workers=2) as server, open_stream(server.port):
        started = time.monotonic()
        assert server.stop(signal.SIGQUIT) == 0
        assert time.monotonic() - started < 10  # a drain is 30 s


def test_no_other_signal_ends_or_changes_anything(app):
    """Window changes, timers, and the signal kept for task workers."""
    with Server(app, workers=2) as server:
        before = sorted(server.worker_pids())
        for number in (
            signal.SIGUSR2,
            signal.SIGWINCH,
            signal.SIGALRM,
            signal.SIGVTALRM,
            signal.SIGPROF,
            signal.SIGIO,
            signal.SIGPWR,
            signal.SIGRTMIN,
        ):
            server.kill(number)
        server.wait_log("SIGUSR2 is kept for task workers")
        assert sorted(server.worker_pids()) == before
        assert server.status()["reloads_total"] == 0


def test_children_ignore_signals_meant_for_the_supervisor(app):
    """A closing terminal or `pkill -HUP` reaches the whole group: it may ask for a reload, no more."""
    with Server(app, workers=2) as server:
        before = sorted(server.worker_pids())
        children = [pid for pid in server.processes() if pid != server.pid]
        for number in (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGUSR1,
            signal.SIGUSR2,
            signal.SIGTTIN,
            signal.SIGTTOU,
            signal.SIGWINCH,
        ):
            for pid in children:
                os.kill(pid, number)
        assert sorted(server.worker_pids()) == before
        assert server.version() == 1


def test_workers_are_added_and_removed_one_by_one(app):
    with Server(app, workers=2) as server:
        server.kill(signal.SIGTTIN)
        wait_until(lambda: len(server.workers()) == 3)
        for left in (2, 1):
            # Two of one signal in an instant are one to the kernel.
            server.kill(signal.SIGTTOU)
            wait_until(lambda left=left: len(server.status()["workers"]) == left)
        server.kill(signal.SIGTTOU)
        server.wait_log("must be from 1")
        assert server.version() == 1


def reloads_under_way(server):
    status = server.status()
    return [status["current_reload"], status["pending_reload"]]


def test_fifty_hups_make_one_running_and_one_pending_reload(app):
    with Server(app, "--probation", "0.2", workers=2) as server:
        for number in range(50):
            if number == 40:
                write_version(app, 2)
            server.kill(signal.SIGHUP)
            time.sleep(0.01)
        wait_until(lambda: server.version() == 2)
        # The one that is running may have read version 2 already; the pending one follows it.
        wait_until(lambda: reloads_under_way(server) == [None, None], what="no more reloads")
        assert server.status()["last_reload"]["id"] <= 3
        assert server.version() == 2
        wait_until(lambda: len(server.processes()) == 5, what="no process is left over")


def test_reload_asked_for_while_the_first_boot_runs_follows_it(app):
    write_version(app, 1, extra="\nimport time; time.sleep(0.5)\n")
    server = Server(app, "--probation", "0", workers=1).launch()
    try:
        server.wait_log("Started parent process")
        server.kill(signal.SIGUSR1)
        server.wait_log("Reload 1 committed")
    finally:
        assert server.stop() == 0


def test_other_commands_answer_while_a_reload_runs(app):
    with Server(app, workers=2) as server:
        write_version(app, 2, extra="\nimport time; time.sleep(10)\n")
        server.control("reload")
        server.kill(signal.SIGTTIN)
        wait_until(lambda: len(server.workers()) == 3, timeout=8)
        current = wait_until(lambda: server.status()["current_reload"], timeout=8)
        assert current["phase"] == "preparing"


def test_kill_9_of_the_supervisor_leaves_nothing_and_the_port_free(app):
    """Workers see it, finish what is open, and go; the next start gets the same port."""
    with Server(app, workers=2) as server:
        port = server.port
        answers = []
        asking = threading.Thread(target=lambda: answers.append(server.get("/slow")))
        asking.start()
        wait_until(lambda: sum(worker["exchanges"] for worker in server.status()["workers"]))
        server.process.kill()
        asking.join(10)
        assert answers, "the request in flight was not finished"
        server.process.wait()
        assert not server.left_behind()
    with Server(app, "--port", str(port), workers=1) as server:
        assert server.version() == 1


def test_kill_9_of_the_supervisor_while_a_worker_is_blocked(app):
    write_version(
        app,
        1,
        extra="\nimport time\nasync def block(scope, receive, send):\n    time.sleep(1000)\n"
        "PATHS['/events'] = block\n",
    )
    options = ["--drain-timeout", "0.5", "--lifespan-timeout", "0.5"]
    with Server(app, *options, workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /events HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: sum(worker["exchanges"] for worker in server.status()["workers"]))
            server.process.kill()
            server.process.wait()
            wait_until(lambda: not server.processes(), timeout=15)


def test_foreign_children_are_collected(app):
    """Orphans of the application become our children; they must not stay as zombies, nor stop us."""
    orphan = (
        "\nasync def spawn(scope, receive, send):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0:\n            os._exit(5)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    await version(scope, receive, send)\n"
        "PATHS['/spawn'] = spawn\n"
    )
    write_version(app, 1, extra=orphan)
    with Server(app, workers=1) as server:
        for _ in range(5):
            server.get("/spawn")
        from tests.process.running import processes_of_session

        wait_until(lambda: "Z" not in processes_of_session(server.pid).values())
        assert server.version() == 1
