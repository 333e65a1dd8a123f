"""Commands to a running server: over its socket, its port, the command line, and from inside itself."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from asgireload.admin import client as client_module
from asgireload.cli import control as control_module
from asgireload.cli.control import control
from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process


def admin_port(server):
    line = next(line for line in server.log.splitlines() if "Admin on http" in line)
    return int(line.split("http://127.0.0.1:")[1].split(",")[0])


def call(port, method, path):
    """Return status and JSON of one admin request."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_two_requests_at_once_get_one_reload_and_both_learn_the_verdict(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--admin-port", "0", "--probation", "0", workers=2) as server:
        port = admin_port(server)
        write_version(tmp_path, 2)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = [pool.submit(call, port, "POST", "/reload?wait=1") for _ in range(2)]
            answers = [future.result() for future in asked]
        assert [status for status, _ in answers] == [200, 200]
        assert {answer["id"] for _, answer in answers} == {1}
        assert {answer["outcome"] for _, answer in answers} == {"committed"}
        assert server.version() == 2


def test_failed_reload_is_an_error_with_its_traceback_for_whoever_waits(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--admin-port", "0", workers=1) as server:
        write_version(tmp_path, 2, extra="\nraise RuntimeError('broken on purpose')\n")
        status, problem = call(admin_port(server), "POST", "/reload?wait=1")
        assert status >= 500
        assert "broken on purpose" in problem["reload"]["failure"]["traceback"]
        assert call(admin_port(server), "GET", "/ready")[0] == 200


def test_who_asks_while_the_first_import_takes_long_is_answered(tmp_path):
    """The admin server waits until workers serve, so that the import has the processor, but not for ever."""
    write_version(tmp_path, 1, extra="\nimport time\ntime.sleep(60)\n")
    server = Server(tmp_path, "--admin-port", "0", workers=1)
    server.launch()
    try:
        wait_until(lambda: "Admin on" in server.log, what="the address")
        status, answer = call(admin_port(server), "GET", "/status")
        assert status == 200
        assert answer["templates"][0]["state"] == "loading"
        assert call(admin_port(server), "GET", "/ready")[0] == 503
    finally:
        server.kill(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_admin_surface_answers_through_reloads_and_crashes(tmp_path):
    """It survives the reload of everything else."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--admin-port", "0", "--probation", "0.2", workers=2) as server:
        port = admin_port(server)
        server.control("reload")
        os.kill(server.worker_pids()[0], 9)
        seen = set()

        def over():
            for path in ("/", "/live", "/status", "/reloads", "/reloads/1"):
                request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
                with urllib.request.urlopen(request, timeout=5) as answer:
                    assert answer.status == 200
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                assert b"asgireload_workers" in answer.read()
            seen.add(call(port, "GET", "/status")[1]["state"])
            return call(port, "GET", "/status")[1]["last_reload"]["id"] == 1

        wait_until(over)
        assert "reloading" in seen


def test_reload_asked_for_by_a_request_that_a_reloaded_worker_serves_is_answered(tmp_path):
    """A deploy hook inside the application: its own worker is replaced, its answer arrives."""
    asking = (
        "\nasync def deploy(scope, receive, send):\n"
        "    reader, writer = await asyncio.open_unix_connection(os.environ['ADMIN'])\n"
        "    writer.write(b'POST /reload HTTP/1.1\\r\\nhost: admin\\r\\ncontent-length: 0\\r\\n'\n"
        "                 b'connection: close\\r\\n\\r\\n')\n"
        "    head = await reader.read()\n"
        "    writer.close()\n"
        "    await asyncio.sleep(1)\n"
        "    await answer(send, head.split(b'\\r\\n')[0])\n"
        "PATHS['/deploy'] = deploy\n"
    )
    write_version(tmp_path, 1, extra=asking)
    environment = {"ADMIN": str(tmp_path / "admin.sock")}
    with Server(tmp_path, "--probation", "0", workers=1, env=environment) as server:
        write_version(tmp_path, 2)
        assert server.get("/deploy") == "HTTP/1.1 202 Accepted"
        wait_until(lambda: server.version() == 2)


def test_broken_code_in_development_is_neither_ready_nor_serving(tmp_path):
    """Every page is an error page: probes and scripts must not take that for a server that works."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--reload", "--admin-port", "0", workers=1) as server:
        port = admin_port(server)
        assert call(port, "GET", "/ready")[0] == 200
        write_version(tmp_path, 2, extra="\nimport nowhere_to_be_found\n")
        wait_until(lambda: server.status()["state"] == "failing")
        status, answer = call(port, "GET", "/ready")
        assert status == 503
        assert "answered with an error page" in answer["detail"]
        shown = server.control("status")
        assert shown.returncode == 1
        assert "failing: every request is answered with an error page: import: " in shown.stdout
        assert "nowhere_to_be_found" in shown.stdout
        write_version(tmp_path, 3)
        wait_until(lambda: call(port, "GET", "/ready")[0] == 200)
        assert server.control("status").returncode == 0


def test_a_worker_that_hangs_is_not_ready(tmp_path):
    """Its heartbeat is shown, and before it is replaced it is called stalled."""
    hang = "\nasync def hang(scope, receive, send):\n    import time\n    time.sleep(60)\nPATHS['/hang'] = hang\n"
    write_version(tmp_path, 1, extra=hang)
    options = ("--timeout-worker-healthcheck", "20", "--admin-port", "0")
    with Server(tmp_path, *options, workers=1) as server:
        assert re.search(
            r" heartbeat +conns.*\n  0 .* (\d+ ms|\d\.\d s) ago ", server.control("status").stdout
        )
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /hang HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: server.status()["state"] == "degraded", timeout=18)
            shown = server.control("status")
            assert "stalled" in shown.stdout
            assert call(admin_port(server), "GET", "/ready")[0] == 503
        # It is replaced as before.
        wait_until(lambda: server.status()["state"] == "serving", timeout=40)


def test_commands_and_their_exit_statuses(tmp_path):
    """What a deploy script trusts."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", workers=2) as server:
        assert server.control("status").returncode == 0
        assert server.control("scale", "3").returncode == 0
        wait_until(lambda: len(server.workers()) == 3)
        assert server.control("scale", "0").returncode == 2
        write_version(tmp_path, 2)
        assert server.control("reload", "--wait").returncode == 0
        write_version(tmp_path, 3, extra="\ndef (\n")
        refused = server.control("reload", "--wait")
        assert refused.returncode == 1
        assert "SyntaxError" in refused.stdout + refused.stderr
        assert server.control("reload").returncode == 0
        assert server.control("stop", "--wait").returncode == 0
        assert server.process.wait(10) == 0
    assert server.control("status").returncode == 3
    assert server.control("reload", "--wait").returncode == 3


def test_a_server_is_found_by_its_process_number(tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    write_version(tmp_path, 1)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    with Server(tmp_path, "--admin-socket", "auto", workers=1, env=environment) as server:
        done = subprocess.run(
            [sys.executable, "-m", "asgireload", "status", "--json", "--pid", str(server.pid)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["workers_ready"] == 1


def test_supervisor_does_not_linger_on_a_port_asked_for_by_nobody(tmp_path):
    """No TCP port is opened for administration unless it is asked for."""
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=1) as server:
        with open(f"/proc/{server.pid}/net/tcp") as file:
            inodes = {line.split()[9] for line in file if line.split()[3] == "0A"}
        ours = {
            os.readlink(f"/proc/{server.pid}/fd/{fd}")
            for fd in os.listdir(f"/proc/{server.pid}/fd")
        }
        assert len([inode for inode in inodes if f"socket:[{inode}]" in ours]) == 1


SLOW_IMPORT = """
import pathlib, time
while pathlib.Path("slow").exists():
    time.sleep(0.02)
"""


HELD = """
import pathlib
async def held(scope, receive, send):
    while pathlib.Path("slow").exists():
        await asyncio.sleep(0.02)
    await version(scope, receive, send)
PATHS["/held"] = held
"""


def run_command(server, *words):
    """Run a command in a thread; return the future of its exit status."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    command = [*words, "--socket", str(server.admin_socket)]
    running = pool.submit(control.main, command, standalone_mode=False)
    pool.shutdown(wait=False)
    return running


@pytest.fixture
def impatient(monkeypatch):
    """Commands that look after a tenth of a second whether the server still answers, and give it a few."""
    monkeypatch.setattr(control_module, "SILENCE_INTERVAL", 0.1)
    monkeypatch.setattr(client_module, "SILENCE_INTERVAL", 0.1)
    monkeypatch.setattr(client_module, "ANSWER_TIMEOUT", 4.0)


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_a_reload_finds_out_that_the_supervisor_is_stopped(tmp_path, capsys):
    """Sent SIGSTOP, or frozen in its cgroup, it would say nothing for ever."""
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=1) as server:
        (tmp_path / "slow").touch()
        write_version(tmp_path, 2, extra=SLOW_IMPORT)
        waiting = run_command(server, "reload", "--wait")
        wait_until(lambda: server.status()["current_reload"] is not None)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert waiting.result(30) == 3
        finally:
            os.kill(server.pid, signal.SIGCONT)
            (tmp_path / "slow").unlink()
        assert f"kill -CONT {server.pid}" in capsys.readouterr().err
        wait_until(lambda: server.version() == 2)


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_the_end_finds_out_that_the_supervisor_is_stopped(tmp_path, capsys):
    write_version(tmp_path, 1, extra=HELD)
    (tmp_path / "slow").touch()
    with Server(tmp_path, workers=1) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: server.workers()[0]["exchanges"] == 1)
            waiting = run_command(server, "stop", "--wait")
            wait_until(lambda: server.status()["state"] == "stopping")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert waiting.result(30) == 3
            finally:
                os.kill(server.pid, signal.SIGCONT)
                (tmp_path / "slow").unlink()
        assert f"kill -CONT {server.pid}" in capsys.readouterr().err
        assert server.process.wait(30) == 0


@pytest.mark.usefixtures("impatient")
def test_who_waits_goes_on_while_the_supervisor_answers(tmp_path, capsys):
    """A reload may take as long as it needs: an import of two seconds is twenty times as long as the silence."""
    write_version(tmp_path, 1)
    with Server(tmp_path, workers=1) as server:
        write_version(tmp_path, 2, extra="import time; time.sleep(2)\n")
        assert run_command(server, "reload", "--wait").result(30) == 0
        assert "committed" in capsys.readouterr().out
        assert run_command(server, "stop", "--wait").result(30) == 0
        assert server.process.wait(30) == 0
