"""Clients that have connected and said nothing yet: the kernel keeps them, and nobody loses them.

What waits at a listening socket when a worker or the server goes is not reset.
"""

import contextlib
import os
import signal
import socket
import time

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

GET = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"


@pytest.fixture
def app(tmp_path):
    write_version(tmp_path, 1)
    return tmp_path


@contextlib.contextmanager
def silent_clients(server, count=8):
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        yield [stack.enter_context(socket.create_connection(address, 20)) for _ in range(count)]


def answers_of(clients):
    """Let them speak, and return what each is answered."""
    for client in clients:
        client.sendall(GET)
    answers = []
    for client in clients:
        answer = b""
        while received := client.recv(65536):
            answer += received
        answers.append(answer)
    return answers


def stop(server):
    server.kill(signal.SIGTERM)


def stop_everybody(server):
    """As systemd does."""
    for pid in server.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def kill_supervisor(server):
    server.kill(signal.SIGKILL)
    server.process.wait()


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
@pytest.mark.parametrize("end", [stop, stop_everybody, kill_supervisor])
def test_who_had_connected_before_the_end_is_answered(app, accept, end):
    with Server(app, "--accept", accept, workers=2) as server, silent_clients(server) as clients:
        end(server)
        time.sleep(0.2)  # the pace of the clients
        for answer in answers_of(clients):
            assert answer.startswith(b"HTTP/1.1 200 ")
        # And then it does end.
        wait_until(lambda: set(server.processes()) <= {server.pid}, what="the workers have left")
        server.process.wait(20)


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_who_had_connected_before_a_worker_was_taken_away_is_answered(app, accept):
    with (
        Server(app, "--accept", accept, workers=3) as server,
        silent_clients(server, 24) as clients,
    ):
        for left in (2, 1):
            server.kill(signal.SIGTTOU)
            wait_until(lambda left=left: len(server.workers()) == left)
        for answer in answers_of(clients):
            assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_who_had_connected_before_a_reload_gets_the_new_code(app, accept):
    options = ("--accept", accept, "--probation", "0")
    with Server(app, *options, workers=2) as server, silent_clients(server) as clients:
        write_version(app, 2)
        server.reload()
        # The verdict does not wait until the connections that an old worker has accepted are with a new one.
        wait_until(lambda: not server.workers("draining"))
        for answer in answers_of(clients):
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.split(b"\r\n\r\n")[1].startswith(b"2 ")


def test_a_slot_that_was_added_again_defers_again(app):
    with Server(app, "--accept", "per-slot", workers=2) as server:
        server.kill(signal.SIGTTOU)
        wait_until(lambda: len(server.status()["workers"]) == 1)
        server.kill(signal.SIGTTIN)
        wait_until(lambda: len(server.workers()) == 2)
        with silent_clients(server, 16) as clients:
            time.sleep(0.1)  # for what must not happen
            assert sum(worker["connections"] for worker in server.workers()) == 0
            for answer in answers_of(clients):
                assert answer.startswith(b"HTTP/1.1 200 ")


def test_who_does_not_want_that_gets_silent_clients_at_once(app):
    with (
        Server(app, "--no-defer-accept", workers=1) as server,
        silent_clients(server, 3) as clients,
    ):
        wait_until(lambda: server.workers()[0]["connections"] == 3)
        for answer in answers_of(clients):
            assert answer.startswith(b"HTTP/1.1 200 ")
