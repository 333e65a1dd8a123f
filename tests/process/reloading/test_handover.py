"""Connections live through every way in which a worker leaves, on clients that never connect again."""

import contextlib
import os
import re
import resource
import select
import signal
import socket

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

OPTIONS = ["--no-access-log", "--probation", "0", "--timeout-keep-alive", "60"]
# However long a reload takes on a busy machine: it is no timeout that ends a connection here.
OPTIONS += ["--timeout-request-head", "60"]
GET = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


class Client:
    """One connection for good: whatever closes it fails the test."""

    def __init__(self, address):
        if isinstance(address, int):
            self.socket = socket.create_connection(("127.0.0.1", address), 20)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(20)
            self.socket.connect(str(address))
        self.received = b""

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        """Return version and pid of one answer, which must keep the connection open."""
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, _, rest = self.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        assert b"connection: close" not in head.lower(), head
        found = re.search(rb"content-length: (\d+)", head)
        assert found is not None, head
        length = int(found[1])
        self.received = rest
        while len(self.received) < length:
            self._receive()
        body, self.received = self.received[:length], self.received[length:]
        version, pid = body.split()
        return int(version), int(pid)

    def _receive(self):
        data = self.socket.recv(65536)
        assert data, f"the server has closed the connection; received: {self.received!r}"
        self.received += data

    def ask(self):
        self.send(GET)
        return self.answer()


@contextlib.contextmanager
def connected(address, count):
    clients = [Client(address) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.socket.close()


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request):
    return request.param


@pytest.mark.parametrize("workers", [1, 3])
def test_idle_silent_and_half_asked_connections_live_through_reloads(tmp_path, loop, workers):
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--loop", loop, workers=workers) as server,
        connected(server.port, 12) as clients,
    ):
        idle, silent, half = clients[:4], clients[4:8], clients[8:]
        for version in (1, 2, 3):
            for client in idle:
                assert client.ask()[0] == version
            for client in half:
                client.send(GET[:20])
            write_version(tmp_path, version + 1)
            server.reload()
            wait_until(lambda: not server.workers("draining"))
            pids = server.worker_pids()
            for client in half:
                client.send(GET[20:])
                answered, pid = client.answer()
                assert answered == version + 1
                assert pid in pids
        for client in [*idle, *silent]:
            assert client.ask()[0] == 4
        metrics = server.control("status", "--json").stdout
        assert '"handed_over"' in metrics


def test_a_drain_ends_as_soon_as_nothing_is_left(tmp_path):
    """Nobody waits for the grace that an idle connection gets where it cannot move."""
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--drain-grace", "15", workers=1) as server,
        connected(server.port, 3) as clients,
    ):
        for client in clients:
            client.ask()
        write_version(tmp_path, 2)
        server.reload()
        wait_until(lambda: not server.workers("draining"), timeout=10)
        for client in clients:
            assert client.ask()[0] == 2
        assert "Drained: 3 connections handed over" in server.log


def test_connections_of_a_unix_socket_live_through_a_reload(tmp_path):
    write_version(tmp_path, 1)
    path = tmp_path / "http.sock"
    with (
        Server(tmp_path, *OPTIONS, "--bind", f"unix:{path}", workers=2) as server,
        connected(path, 6) as clients,
    ):
        for client in clients[:3]:
            assert client.ask()[0] == 1
        write_version(tmp_path, 2)
        server.reload()
        for client in clients:
            assert client.ask()[0] == 2


def test_pipelined_requests_are_answered_in_their_order_by_both_workers(tmp_path):
    write_version(tmp_path, 1)
    slow = GET.replace(b"GET /", b"GET /slow")
    with (
        Server(tmp_path, *OPTIONS, workers=1) as server,
        connected(server.port, 1) as (client,),
    ):
        old = client.ask()[1]
        write_version(tmp_path, 2)
        done = server.control("reload")
        assert done.returncode == 0
        # Every answer takes half a second, so that the drain begins within one of them.
        client.send(slow * 8)
        answers = [client.answer() for _ in range(8)]
        assert answers[0] == (1, old)
        assert answers[-1][0] == 2
        assert [version for version, _ in answers] == sorted(version for version, _ in answers)


def test_connections_of_slots_that_are_scaled_away_go_to_a_sibling(tmp_path):
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, workers=3) as server,
        connected(server.port, 30) as clients,
    ):
        for client in clients:
            client.ask()
        assert server.control("scale", "1").returncode == 0
        wait_until(lambda: len(server.processes()) == 3, what="supervisor, template, one worker")
        (left,) = server.worker_pids()
        for client in clients:
            assert client.ask() == (1, left)


def test_connections_of_a_slot_that_is_scaled_away_are_shared_by_its_siblings(tmp_path):
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, workers=4) as server,
        connected(server.port, 120) as clients,
    ):
        for client in clients:
            client.ask()
        wait_until(lambda: sum(each["connections"] for each in server.workers()) == 120)
        before = {worker["slot"]: worker["connections"] for worker in server.workers()}
        assert server.control("scale", "3").returncode == 0
        wait_until(lambda: len(server.processes()) == 5, what="supervisor, template, three workers")
        wait_until(lambda: sum(each["connections"] for each in server.workers()) == 120)
        left = before.pop(3)
        for worker in server.workers():
            assert worker["connections"] - before[worker["slot"]] in (left // 3, left // 3 + 1)


def test_what_a_sibling_has_no_room_for_goes_to_the_next(tmp_path):
    """Those of one slot go away, and are more than fit into either of the two that stay."""
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--limit-connections", "45", workers=3) as server,
        connected(server.port, 78) as clients,
    ):
        for client in clients:
            client.ask()
        assert server.control("scale", "2").returncode == 0
        wait_until(lambda: len(server.processes()) == 4, what="supervisor, template, two workers")
        left = server.worker_pids()
        for client in clients:
            assert client.ask()[1] in left


def test_connections_live_through_a_recycle(tmp_path):
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--max-requests", "20", workers=1) as server,
        connected(server.port, 5) as clients,
    ):
        first = clients[0].ask()[1]
        for _ in range(10):
            for client in clients[1:]:
                client.ask()
        wait_until(lambda: server.worker_pids() not in ([], [first]), what="a new worker")
        wait_until(lambda: not server.workers("draining"))
        for client in clients:
            version, pid = client.ask()
            assert version == 1
            assert pid != first


def test_connections_go_back_when_a_roll_is_taken_back(tmp_path):
    """The first worker of the new code boots; the second fails, so slot 0 returns to the old code."""
    write_version(tmp_path, 1)
    fails_second = (
        "\nasync def lifespan(receive, send):\n"
        "    await receive()\n"
        "    try:\n"
        "        open('booted', 'x').close()\n"
        "    except FileExistsError:\n"
        "        await send({'type': 'lifespan.startup.failed', 'message': 'second'})\n"
        "        return\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.shutdown.complete'})\n"
    )
    with (
        Server(tmp_path, *OPTIONS, workers=2) as server,
        connected(server.port, 20) as clients,
    ):
        for client in clients:
            assert client.ask()[0] == 1
        write_version(tmp_path, 2, extra=fails_second)
        output = server.reload(ok=False)
        assert "failed" in output
        wait_until(lambda: not server.workers("draining"))
        for client in clients:
            assert client.ask()[0] == 1


def test_successor_killed_in_the_middle_costs_nothing(tmp_path):
    """It has its first offers and says nothing; when it is killed they come back, and go to the next."""
    write_version(tmp_path, 1)
    options = [*OPTIONS[:1], "--probation", "1.5", "--timeout-keep-alive", "60"]
    with (
        Server(tmp_path, *options, workers=1) as server,
        connected(server.port, 200) as clients,
    ):
        old = clients[0].ask()[1]
        for client in clients:
            client.ask()
        write_version(tmp_path, 2)
        assert server.control("reload").returncode == 0
        wait_until(lambda: len(server.workers()) == 2, what="the new worker")
        (new,) = set(server.worker_pids()) - {old}
        os.kill(new, signal.SIGSTOP)
        wait_until(lambda: old in [worker["pid"] for worker in server.workers("draining")])
        os.kill(new, signal.SIGKILL)
        wait_until(lambda: server.worker_pids() and not server.workers("draining"))
        for client in clients:
            version, pid = client.ask()
            # With one worker the generation is committed when the old one drains, so it stays.
            assert version == 2
            assert pid not in (old, new)


def test_old_worker_killed_in_the_middle_costs_no_connection_that_was_handed_over(tmp_path):
    """What was on its way arrives, what had not left ends with its worker; nothing is answered twice."""
    write_version(tmp_path, 1)
    options = [*OPTIONS[:1], "--probation", "1.5", "--timeout-keep-alive", "60"]
    with (
        Server(tmp_path, *options, workers=1) as server,
        connected(server.port, 300) as clients,
    ):
        old = clients[0].ask()[1]
        for client in clients:
            client.ask()
        write_version(tmp_path, 2)
        assert server.control("reload").returncode == 0
        wait_until(lambda: len(server.workers()) == 2, what="the new worker")
        (new,) = set(server.worker_pids()) - {old}
        os.kill(new, signal.SIGSTOP)
        wait_until(lambda: old in [worker["pid"] for worker in server.workers("draining")])
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: old not in server.processes())
        os.kill(new, signal.SIGCONT)
        lived = 0
        for client in clients:
            with contextlib.suppress(OSError, AssertionError):
                assert client.ask() == (2, new)
                assert client.received == b""
                lived += 1
        # A window of them at most; how far the old one had come is not for a test to know.
        assert lived <= 64
        assert server.version() == 2


def test_two_thousand_connections_live_through_a_reload(tmp_path, loop):
    count = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * count:
        pytest.skip(f"only {hard} files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count), hard))
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--loop", loop, workers=2) as server,
        connected(server.port, count) as clients,
    ):
        for client in clients:
            assert client.ask()[0] == 1
        write_version(tmp_path, 2)
        server.reload()
        wait_until(lambda: not server.workers("draining"))
        for client in clients:
            assert client.ask()[0] == 2
        assert server.status()["last_reload"]["handed_over"] == count
        assert server.status()["last_reload"]["came_back"] == 0


def test_connections_of_sixty_four_workers_live_through_a_reload(tmp_path):
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--surge", "16", workers=64) as server,
        connected(server.port, 256) as clients,
    ):
        assert len(server.worker_pids()) == 64
        before = {client.ask() for client in clients}
        assert {version for version, _ in before} == {1}
        write_version(tmp_path, 2)
        server.reload()
        wait_until(lambda: not server.workers("draining"))
        after = {client.ask() for client in clients}
        assert {version for version, _ in after} == {2}
        # Each went to the new worker of its old one's slot.
        assert len(after) == len(before)
        result = server.status()["last_reload"]
        assert result["handed_over"] == 256
        assert result["came_back"] == 0


def test_a_stop_still_closes_idle_connections_after_their_grace(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, *OPTIONS, "--drain-grace", "0.3", workers=1) as server:
        with connected(server.port, 2) as (idle, late):
            idle.ask()
            late.ask()
            server.kill(signal.SIGTERM)
            server.wait_log("shutting down")
            assert idle.socket.recv(1) == b""
        assert server.process.wait(20) == 0


def test_worker_that_has_no_room_for_files_goes_on_when_another_leaves(tmp_path):
    """It cannot be told where the other's connections come from, which is no reason to leave itself."""
    hoards = (
        "\nimport resource\nheld = []\n"
        "async def hoard(scope, receive, send):\n"
        "    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))\n"
        "    try:\n"
        "        while True:\n"
        "            held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "    except OSError:\n"
        "        await version(scope, receive, send)\n"
        "PATHS['/hoard'] = hoard\n"
    )
    write_version(tmp_path, 1, extra=hoards)
    with Server(tmp_path, *OPTIONS, workers=2) as server, connected(server.port, 1) as (client,):
        client.send(GET.replace(b"GET /", b"GET /hoard"))
        _, full = client.answer()
        (other,) = set(server.worker_pids()) - {full}
        os.kill(other, signal.SIGTERM)
        server.wait_log("TakeOver could not be carried out")
        wait_until(lambda: len(server.worker_pids()) == 2 and other not in server.worker_pids())
        assert client.ask() == (1, full)


def test_grace_of_a_worker_that_nobody_followed_at_first_does_not_end_what_moved_later(tmp_path):
    """The only worker leaves by itself: its successor is forked meanwhile, and grants what it had granted."""
    write_version(tmp_path, 1)
    with (
        Server(tmp_path, *OPTIONS, "--drain-grace", "0.6", workers=1) as server,
        connected(server.port, 20) as clients,
    ):
        for client in clients:
            first = client.ask()[1]
        os.kill(first, signal.SIGTERM)
        # Longer than the grace; a connection that the server ends is readable.
        assert not select.select([client.socket for client in clients], [], [], 1.5)[0]
        for client in clients:
            assert client.ask()[1] != first
