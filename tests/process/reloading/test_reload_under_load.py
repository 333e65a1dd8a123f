"""Every kind of client goes on through reloads, good and broken, and loses nothing."""

import asyncio
import contextlib
import os
import socket
import time

import pytest

from tests.process.clients import Load
from tests.process.running import Server, wait_until, write_version

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

BROKEN = {
    "syntax error": ("\ndef (\n", "import"),
    "missing module": ("\nimport no_such_module_anywhere\n", "import"),
    "exception": ("\nraise RuntimeError('broken on purpose')\n", "import"),
    "missing attribute": ("\ndel app\n", "import"),
    "sys.exit": ("\nimport sys; sys.exit(1)\n", "import"),
    "os._exit": ("\nos._exit(0)\n", "import"),
    "segfault": ("\nimport ctypes; ctypes.string_at(0)\n", "import"),
    "endless import": ("\nimport time\nwhile True: time.sleep(1)\n", "import"),
    "lifespan fails": (
        "\nasync def lifespan(receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n",
        "lifespan",
    ),
    "lifespan hangs": (
        "\nasync def lifespan(receive, send):\n    await asyncio.sleep(1000)\n",
        "lifespan",
    ),
    "port in use": (
        "\nimport socket\n"
        "_taken = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_server(_taken.getsockname())\n",
        "import",
    ),
}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


async def reload(server, *, ok=True):
    return await asyncio.to_thread(server.reload, ok=ok)


LONGEST = 5.0
"""Seconds. An exchange that waits for a reload, or for the end of another exchange, takes longer. One that waits
for a CPU that other programs have takes less. `make reload-bench` measures how long they really wait."""


def assert_nothing_lost(load):
    for name, tally in load.tallies.items():
        assert tally.done, f"{name}: nothing was done"
        assert not tally.lost, f"{name}: lost {len(tally.lost)} of {tally.done}: {tally.lost[:5]}"
        assert tally.longest < LONGEST, f"{name}: an exchange took {tally.longest:.2f} s too long"
    codes = load.tallies["websocket"].codes
    assert set(codes) <= {1012}, f"close codes {codes}"


def test_twenty_reloads_lose_nothing(tmp_path):
    """Busy, idle, new, pipelined, slow, uploading, streaming, SSE and WebSocket clients through 20 reloads.

    No request is lost or stalls, WebSockets are closed with 1012, streams end properly, every
    connection opened after a verdict is answered by the new code, and nothing grows.
    """
    write_version(tmp_path, 1)
    options = ["--no-access-log", "--drain-grace", "0.8", "--probation", "0.2"]
    with Server(tmp_path, *options) as server:

        async def scenario():
            load = Load(server.port)
            load.start()
            await asyncio.sleep(0.5)
            processes = descriptor_count = None
            verdicts = []
            for version in range(2, 22):
                write_version(tmp_path, version)
                await reload(server)
                verdicts.append((time.monotonic(), version))
                if version == 3:
                    # Now one old generation sleeps, as it does from here on.
                    await asyncio.to_thread(wait_until, lambda: not server.workers("draining"))
                    processes, descriptor_count = len(server.processes()), descriptors(server.pid)
            await asyncio.sleep(1)
            await load.stop()
            return load, verdicts, processes, descriptor_count

        load, verdicts, processes, descriptor_count = asyncio.run(scenario())
        assert_nothing_lost(load)
        assert sum(load.tallies["websocket"].codes.values()) >= 20
        # Only a handshake that meets the very moment in which a drain begins is answered with 503.
        assert load.tallies["websocket"].refused <= 20, "more than one handshake a reload refused"
        for opened, answered in load.tallies["new connection"].versions:
            due = max((version for at, version in verdicts if at < opened), default=1)
            assert answered >= due, f"version {answered} answered after {due} was committed"
        wait_until(lambda: not server.workers("draining"))
        wait_until(lambda: len(server.processes()) == processes, what="as many processes as before")
        assert abs(descriptors(server.pid) - descriptor_count) <= 2
        assert server.status()["generation"] == 21


@pytest.mark.parametrize("breakage", BROKEN)
def test_broken_release_changes_nothing(tmp_path, breakage):
    """The old generation serves all of the load, and the verdict says what failed, where."""
    code, stage = BROKEN[breakage]
    write_version(tmp_path, 1)
    options = ["--no-access-log", "--drain-grace", "0.3", "--boot-timeout", "8", "--preload"]
    with Server(tmp_path, *options, workers=2) as server:
        before = sorted(server.worker_pids())

        async def scenario():
            load = Load(server.port)
            load.start()
            write_version(tmp_path, 2, extra=code)
            output = await reload(server, ok=False)
            await load.stop()
            return load, output

        load, output = asyncio.run(scenario())
        assert_nothing_lost(load)
        assert sorted(server.worker_pids()) == before
        assert "failed" in output
        status = server.status()
        assert status["last_reload"]["failure"]["stage"] == stage
        assert status["last_reload"]["uniform"]
        assert status["generation"] == 1
        assert server.version() == 1
        # The next good release goes through as if nothing had happened.
        write_version(tmp_path, 3)
        server.reload()
        assert server.version() == 3


def test_release_that_dies_at_its_first_request_is_taken_back(tmp_path):
    """The first worker of such a release meets some traffic and dies of it; the old code stays."""
    write_version(tmp_path, 1)
    deadly = (
        "\n_plain = app\nasync def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n        os._exit(9)\n    await _plain(scope, receive, send)\n"
    )
    with Server(tmp_path, "--drain-grace", "0.3") as server:
        write_version(tmp_path, 2, extra=deadly)
        server.control("reload")

        def over():
            with contextlib.suppress(AssertionError, OSError):
                server.get()
            last = server.status()["last_reload"]
            return last["id"] == 1 and last["outcome"] != "committed"

        # It fails while it is rolled out; should no request have met it by then, it is reverted.
        wait_until(over, timeout=40)
        last = server.status()["last_reload"]
        assert last["outcome"] in ("failed", "reverted")
        assert last["uniform"]
        assert "exit status 9" in last["failure"]["summary"]
        assert {server.version() for _ in range(20)} == {1}


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_deploy_on_disk_without_reload_changes_nothing_when_a_worker_dies(tmp_path, preload):
    """A worker killed after broken files were copied: the site stays, its version too (with preloading).

    Without preloading each worker imports by itself, so the new worker cannot boot; the others stay.
    """
    write_version(tmp_path, 1)
    with Server(tmp_path, preload, workers=2) as server:
        write_version(tmp_path, 2, extra="\nraise RuntimeError('broken deploy')\n")
        victim, survivor = server.worker_pids()
        os.kill(victim, 9)
        if preload == "--preload":
            wait_until(lambda: len(set(server.worker_pids()) - {victim}) == 2)
        else:
            server.wait_log("broken deploy")
        assert {server.version() for _ in range(20)} == {1}
        assert survivor in server.worker_pids()


ENDLESS = """
async def endless(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        await asyncio.sleep(0.05)
PATHS["/endless"] = endless
"""


@pytest.mark.parametrize(
    ("limit", "most"),
    [(["--no-drain-overlap"], 1), ([], 2), (["--drain-generations", "4"], 4)],
    ids=["no overlap", "default", "4"],
)
def test_reloads_every_moment_over_endless_streams_keep_few_old_workers(tmp_path, limit, most):
    """Each generation has a stream that it drains until its deadline. Processes and old workers are bounded."""
    write_version(tmp_path, 1, extra=ENDLESS)
    options = ["--no-access-log", "--drain-timeout", "4", "--probation", "0"]
    streams = []
    draining, processes = set(), set()
    with Server(tmp_path, *options, *limit, workers=2, app="app:app") as server:

        def look():
            draining.add(len(server.workers("draining")))
            processes.add(len(server.processes()))

        try:
            for version in range(2, 12):
                for _ in range(4):
                    stream = socket.create_connection(("127.0.0.1", server.port), 10)
                    streams.append(stream)
                    stream.sendall(b"GET /endless HTTP/1.1\r\nhost: test\r\n\r\n")
                    assert stream.recv(9) == b"HTTP/1.1 "
                write_version(tmp_path, version, extra=ENDLESS)
                assert server.control("reload").returncode == 0
                look()
            server.reload()
            look()
            assert server.version() == 11
        finally:
            for stream in streams:
                stream.close()
    assert 0 < max(draining) <= 2 * most
    # Supervisor; templates that serve, sleep and load; two workers that serve, and one that boots.
    assert max(processes) <= 1 + 3 + 2 * most + 2 + 1
