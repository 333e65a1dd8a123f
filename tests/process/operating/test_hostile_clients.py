"""Clients that want to keep the server busy, all at once, and one that only wants its answers."""

import asyncio
import os
import re
import resource
import time
import urllib.request

import pytest

from tests.process.running import Server, write_version

pytestmark = pytest.mark.process

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = """

async def large(scope, receive, send):
    await answer(send, b"x" * 1_000_000)


PATHS["/large"] = large
"""
CPU_PATIENCE = 0.5
"""Seconds of CPU that a worker may spend on others until it answers: so long does a busy machine not count."""
PATIENCE = 40.0
"""Seconds after which an answer does not come any more: nobody works for it."""


@pytest.fixture
def many_files():
    """Let this process open as many files as it may; return the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ask(port):
    """Ask on a new connection, and wait for the answer's head."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        writer.close()


def cpu_seconds(pid):
    """Return the CPU time that the process has spent, in seconds (proc_pid_stat(5): utime and stime)."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limits_hit(server):
    """Return the names of the limits that somebody has run into."""
    port = re.search(r"Admin on http://127.0.0.1:(\d+)", server.log)[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    counts = re.findall(r'asgireload_limits_hit_total\{.*limit="(\w+)".*\} (\S+)', text)
    return {name for name, count in counts if float(count) > 0}


class Attacker:
    """A connection that says `first`, then `more` again and again, and never reads; ended from outside."""

    def __init__(self, port, first, more=b""):
        self.port, self.first, self.more = port, first, more
        self.closed = 0

    async def run(self):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            try:
                writer.transport.pause_reading()
                writer.write(self.first)
                while not writer.transport.is_closing():
                    await asyncio.sleep(0.1)
                    writer.write(self.more)
                    await writer.drain()
            except OSError:
                pass
            finally:
                self.closed += 1
                writer.transport.abort()


def test_slow_and_silent_clients_do_not_keep_others_from_their_answers(tmp_path, many_files):
    write_version(tmp_path, 1, extra=LARGE)
    options = ("--admin-port", "0", "--timeout-request-head", "0.5")
    options += ("--timeout-request-body", "0.5")
    options += ("--timeout-write", "0.5", "--limit-connections", "200", "--no-access-log")
    attackers = (
        [(b"", b"")] * 100  # silent: a flood, together more than the server may hold
        + [(b"GET / HTTP/1.1\r\nHost: a\r\nx: ", b"y")] * 60
        + [(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"")] * 60
        + [(GET.replace(b" / ", b" /large ") * 50, b"")] * 20
    )

    async def main(port, pid):
        tasks = []
        async with asyncio.TaskGroup() as group:
            for first, more in attackers:
                tasks.append(group.create_task(Attacker(port, first, more).run()))
            costs = []
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline or len(costs) < 4:
                before = cpu_seconds(pid)
                await ask(port)
                costs.append(cpu_seconds(pid) - before)
                await asyncio.sleep(0.02)
            for task in tasks:
                task.cancel()
        return costs

    with Server(tmp_path, *options, workers=1) as server:
        pids = server.worker_pids()
        costs = asyncio.run(main(server.port, pids[0]))
        assert max(costs) < CPU_PATIENCE, costs
        assert server.worker_pids() == pids
        hit = limits_hit(server)
        assert {"head_timeout", "body_timeout", "write_timeout", "connections"} <= hit
        asyncio.run(ask(server.port))


def test_thousands_of_idle_connections_are_held_while_others_are_answered(tmp_path, many_files):
    count = min(2_000, many_files - 500)
    if count < 500:
        pytest.skip(f"only {many_files} files may be open here")
    write_version(tmp_path, 1)

    async def main(port):
        idle = []
        try:
            for _ in range(count):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
                idle.append((reader, writer))
                writer.write(GET)
                await reader.readuntil(b"\r\n\r\n")
            for _ in range(50):
                await ask(port)
            # None of them was given up for the others.
            for reader, writer in idle[:: count // 50]:
                assert not reader.at_eof()
                writer.write(GET)
                await asyncio.wait_for(reader.readuntil(b"HTTP/1.1 200"), PATIENCE)
        finally:
            for _, writer in idle:
                writer.transport.abort()

    options = ("--timeout-keep-alive", "120", "--no-access-log")
    with Server(tmp_path, *options, workers=1) as server:
        asyncio.run(main(server.port))
