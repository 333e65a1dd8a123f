"""The exit code of a stop says whether the application's lifespan shutdown succeeded in every worker."""

import os
import signal
import socket

import pytest

from asgireload.admin.client import AdminClient
from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

LIFESPAN = """
import os, pathlib, time

HERE = pathlib.Path(__file__).parent

async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    try:
        (HERE / "spared").unlink()  # one worker only finds it
    except FileNotFoundError:
        {how}
    await send({"type": "lifespan.shutdown.complete"})
"""
FAILS = 'await send({"type": "lifespan.shutdown.failed", "message": "no flush"}); return'
WAYS = {
    "fails": (FAILS, "no flush"),
    "raises": ("raise RuntimeError('pool is stuck')", "RuntimeError: pool is stuck"),
    "does not answer": ("await asyncio.sleep(60)", "it did not complete within 0.5 s"),
    "blocks": ("time.sleep(60)", "the worker was killed before it was complete"),
    "exits": ("os._exit(0)", "the worker ended before it was complete (exit status 0)"),
    "crashes": (
        "os.kill(os.getpid(), 9)",
        "the worker ended before it was complete (killed by SIG",
    ),
}
SHORT = ("--lifespan-timeout", "0.5", "--drain-timeout", "0.5")


def write(directory, how):
    write_version(directory, 1, extra=LIFESPAN.replace("{how}", how))


@pytest.mark.parametrize("way", WAYS)
def test_stop_whose_lifespan_shutdown_does_not_succeed_ends_with_5(tmp_path, way):
    how, why = WAYS[way]
    write(tmp_path, how)
    with Server(tmp_path, *SHORT, workers=1) as server:
        (pid,) = server.worker_pids()
        assert server.stop() == 5
        log = server.log
    assert f"[w0] The lifespan shutdown of worker {pid} did not succeed: {why}" in log
    last = [line for line in log.splitlines() if "exit code" in line]
    assert len(last) == 1
    assert "The exit code is 5, because the lifespan shutdown of one worker" in last[0]
    assert log.index(last[0]) < log.index("Finished parent process")


def test_one_worker_of_several_is_enough_and_is_named(tmp_path):
    write(tmp_path, FAILS)
    (tmp_path / "spared").touch()
    with Server(tmp_path, workers=2) as server:
        assert server.stop(signal.SIGINT) == 5
        assert server.log.count("did not succeed: no flush") == 1
        assert server.log.count("of one worker did not succeed") == 1


def test_all_processes_are_signalled_at_once_and_the_code_is_the_same(tmp_path):
    """As systemd's KillMode=control-group does."""
    write(tmp_path, FAILS)
    with Server(tmp_path, workers=2) as server:
        for pid in server.processes():
            os.kill(pid, signal.SIGTERM)
        assert server.process.wait(30) == 5
        assert server.log.count("did not succeed: no flush") == 2


def test_stop_at_once_does_without_the_shutdown_and_ends_with_0(tmp_path):
    write(tmp_path, FAILS)
    with Server(tmp_path, workers=2) as server:
        assert server.stop(signal.SIGQUIT) == 0
        assert "did not succeed" not in server.log


def test_application_without_lifespan_that_is_killed_ends_with_0(tmp_path):
    extra = (
        "\n_app = app\nasync def app(scope, receive, send):\n    assert scope['type'] == 'http'\n"
    )
    extra += "    import time; time.sleep(60)\n"
    write_version(tmp_path, 1, extra=extra)
    with Server(tmp_path, *SHORT, workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: server.workers()[0]["exchanges"])
            assert server.stop() == 0
        assert "did not leave in time and was killed" in server.log


def test_failure_in_a_reload_is_counted_and_the_stop_ends_with_0(tmp_path):
    write(tmp_path, FAILS)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        write_version(tmp_path, 2)
        server.reload()
        wait_until(lambda: server.status()["last_reload"]["shutdown_failures"] == 2)
        assert "lifespan shutdowns failed: 2" in server.control("status").stdout
        _, metrics = AdminClient(str(server.admin_socket)).request("GET", "/metrics")
        assert 'asgireload_worker_shutdown_failures_total{role="worker"} 2.0' in str(metrics)
        assert server.stop() == 0
        assert server.log.count("did not succeed: no flush") == 2
        assert "exit code" not in server.log
