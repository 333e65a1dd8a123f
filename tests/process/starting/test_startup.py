"""Starting: exit codes, places to listen, loops and parsers, how the application is found."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

FAILURES = {
    "import error": "\nimport no_such_module_anywhere\n",
    "syntax error": "\ndef (\n",
    "sys.exit(0)": "\nimport sys; sys.exit(0)\n",
    "death": "\nos._exit(0)\n",
    "lifespan fails": (
        "\nasync def lifespan(receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    ),
    "endless import": "\nimport time; time.sleep(1000)\n",
}


def run(directory, *arguments, timeout=30):
    return subprocess.run(
        [sys.executable, "-m", "asgireload", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PWD": str(directory)},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("mode", [["--workers", "1"], ["--workers", "3"], ["--no-preload"]])
@pytest.mark.parametrize("failure", FAILURES)
def test_broken_first_boot_ends_fast_with_status_3(tmp_path, failure, mode):
    """In every mode: an orchestrator must not read a failed start as a clean stop."""
    write_version(tmp_path, 1, extra=FAILURES[failure])
    done = run(tmp_path, "app:app", "--port", "0", "--boot-timeout", "1", *mode)
    assert done.returncode == 3, done.stderr
    assert "Start failed" in done.stderr
    if failure == "import error":
        assert "No module named 'no_such_module_anywhere'" in done.stderr
    if failure == "endless import":
        assert "app.py" in done.stderr, "the stack of the hang"


def test_application_that_does_not_exist_is_explained(tmp_path):
    done = run(tmp_path, "nothing:app", "--port", "0")
    assert done.returncode == 3
    assert 'Could not import module "nothing"' in done.stderr
    write_version(tmp_path, 1)
    done = run(tmp_path, "app:application", "--port", "0")
    assert done.returncode == 3
    assert 'Attribute "application" not found in module "app"' in done.stderr


def test_port_in_use_is_status_3_and_names_the_address(tmp_path):
    write_version(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, "app:app", "--port", str(port))
    assert done.returncode == 3
    assert str(port) in done.stderr


def test_a_server_that_cannot_have_its_address_imports_nothing(tmp_path):
    """What an application does while it is imported would be broken off in the middle."""
    write_version(tmp_path, 1, extra="\nopen('imported', 'w').close()\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run(tmp_path, "app:app", "--port", str(taken.getsockname()[1]))
    assert not (tmp_path / "imported").exists()


def test_a_working_directory_that_is_gone_is_explained(tmp_path):
    """Deploys replace directories, and the shell that looks at one stays in the old one."""
    gone = tmp_path / "release"
    gone.mkdir()
    program = "import os, sys; os.rmdir(os.getcwd()); from asgireload.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "app:app", "--port", "0"],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert "the working directory is gone" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_standard_streams_may_be_closed(tmp_path, closed):
    """Otherwise a channel has the number of one, and an application that prints writes into it."""
    write_version(tmp_path, 1, extra="\nos.write(1, b'noise'); print('noise', flush=True)\n")
    server = Server(tmp_path, workers=2)
    server.command = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *server.command]
    with server:
        server.reload()
        assert server.version() == 1


def listens(path):
    """Its file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_a_server_without_a_stream_for_its_log_serves(tmp_path):
    write_version(tmp_path, 1)
    path = tmp_path / "web.sock"
    server = Server(tmp_path, "--bind", f"unix:{path}", workers=1)
    server.command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *server.command]
    server.launch()
    try:
        wait_until(lambda: listens(path))
        assert ask_unix(path).startswith(b"HTTP/1.1 200")
    finally:
        server.kill(signal.SIGTERM)
        assert server.process.wait(20) == 0


SURROUNDINGS = """
import gc, json, signal, sys, threading
with open("surroundings", "a") as file:
    main = sys.modules["__main__"]
    print(json.dumps({
        "path": sys.path,
        "argv": sys.argv[:1],
        "orig_argv": sys.orig_argv[:-1],
        "main": [main.__name__, main.__file__, main.__spec__.name],
        "signals": [str(getattr(handler := signal.getsignal(n), "__name__", handler))
                    for n in sorted(signal.valid_signals())
                    if n not in (signal.SIGHUP, signal.SIGINT)],
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "environ": dict(os.environ),
        "recursion": sys.getrecursionlimit(),
        "warnings": len(sys.warnoptions),
        "gc": [gc.isenabled(), gc.get_threshold()],
        "threads": threading.active_count(),
        "files": sorted(os.readlink(f"/proc/self/fd/{n}").partition(":")[0]
                        for n in map(int, os.listdir("/proc/self/fd")) if n > 2
                        if os.path.exists(f"/proc/self/fd/{n}")),
    }), file=file)
"""


@pytest.mark.parametrize("way", ["-m", "script", "-P"])
def test_the_first_load_finds_the_same_as_every_other(tmp_path, way):
    """It is the only one that is forked from the command line; code must not work at the start and fail later."""
    write_version(tmp_path, 1, extra=SURROUNDINGS)
    script = tmp_path / "bin" / "asgireload"
    script.parent.mkdir()
    script.write_text("import sys\nfrom asgireload.cli.main import main\nsys.exit(main())\n")
    server = Server(tmp_path, workers=1)
    if way != "-m":
        words = {"script": [str(script)], "-P": ["-P", "-m", "asgireload"]}[way]
        server.command[1:3] = words
    with server:
        server.reload()
    first, later = map(json.loads, (tmp_path / "surroundings").read_text().splitlines())
    assert first == later


@pytest.mark.parametrize("arguments", [["--workers", "none"], ["--no-such-option"], []])
def test_usage_errors_are_status_2(tmp_path, arguments):
    app = ["app:app"] if arguments else []
    assert run(tmp_path, *app, *arguments).returncode == 2


def ask_unix(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\nhost: test\r\n\r\n")
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("accept", ["shared", "per-slot"])
def test_several_addresses_with_every_loop_parser_and_way_to_accept(tmp_path, loop, http, accept):
    write_version(tmp_path, 1)
    path = tmp_path / "web.sock"
    options = ["--bind", "127.0.0.1:0", "--bind", f"unix:{path}"]
    with Server(
        tmp_path, *options, "--loop", loop, "--http", http, "--accept", accept, workers=2
    ) as server:
        write_version(tmp_path, 2)
        server.reload()
        assert server.version() == 2
        assert ask_unix(path).startswith(b"HTTP/1.1 200")
        server.control("scale", "4")
        wait_until(lambda: len(server.workers()) == 4)
        server.control("scale", "1")
        wait_until(lambda: len(server.status()["workers"]) == 1)
        assert {server.version() for _ in range(30)} == {2}
    assert not path.exists()


def test_scaling_down_per_slot_resets_no_connection(tmp_path):
    """Connections that wait for a slot which goes away are answered, not reset."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--accept", "per-slot", workers=4) as server:
        pids = server.worker_pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        server.control("scale", "1")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            client.settimeout(10)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            client.close()


def test_connections_waiting_in_the_queue_survive_a_reload(tmp_path):
    """Stop a worker with connections in its queue, replace it: none is reset."""
    write_version(tmp_path, 1)
    with Server(tmp_path, "--probation", "0", workers=1) as server:
        (pid,) = server.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
        write_version(tmp_path, 2)
        server.control("reload")
        for client in clients:
            client.settimeout(10)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
            client.close()
        os.kill(pid, signal.SIGCONT)


def test_inherited_descriptor(tmp_path):
    write_version(tmp_path, 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "asgireload", "app:app", "--fd", str(listener.fileno())],
            cwd=tmp_path,
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.settimeout(20)
            client.sendall(b"GET / HTTP/1.0\r\nhost: test\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        process.terminate()
        assert process.wait(20) == 0


def test_env_file_is_for_the_application_and_read_again_at_reload(tmp_path):
    write_version(tmp_path, 1, extra="\nVERSION = int(os.environ['RELEASE'])\n")
    (tmp_path / "app.env").write_text("RELEASE=5\n")
    with Server(tmp_path, "--env-file", "app.env", workers=1) as server:
        assert server.version() == 5
        (tmp_path / "app.env").write_text("RELEASE=6\n")
        server.reload()
        assert server.version() == 6
        # A missing file at reload is one more kind of broken release.
        (tmp_path / "app.env").unlink()
        assert "app.env" in server.reload(ok=False)
        assert server.version() == 6


def test_factory_and_app_dir(tmp_path):
    source = tmp_path / "src"
    source.mkdir()
    write_version(source, 3, extra="\ndef make():\n    return app\n")
    options = ["--factory", "--app-dir", "src"]
    with Server(tmp_path, *options, app="app:make", workers=1) as server:
        assert server.version() == 3


def test_pid_file_and_titles(tmp_path):
    pytest.importorskip("setproctitle")
    write_version(tmp_path, 1)
    with Server(tmp_path, "--pid-file", "server.pid", workers=1) as server:
        assert (tmp_path / "server.pid").read_text() == f"{server.pid}\n"
        titles = set()
        for pid in server.processes():
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                titles.add(file.read().rstrip(b"\0").decode())
        assert titles == {
            "asgireload supervisor [app:app]",
            "asgireload template, generation 1 [app:app]",
            "asgireload worker 0, generation 1 [app:app]",
        }
    assert not (tmp_path / "server.pid").exists()


def test_a_second_server_does_not_take_the_pid_file_of_a_running_one(tmp_path):
    """Its commands would go to the second, and the end of the second would leave the first without a file."""
    write_version(tmp_path, 1)
    second = [sys.executable, "-m", "asgireload", "app:app", "--port", "0"]
    with Server(tmp_path, "--pid-file", "server.pid", workers=1) as server:
        done = subprocess.run(
            [*second, "--pid-file", "server.pid"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 3
        assert f"--pid-file server.pid: process {server.pid} has written it" in done.stderr
        assert (tmp_path / "server.pid").read_text() == f"{server.pid}\n"
    assert not (tmp_path / "server.pid").exists()


HELD = """
import pathlib
async def held(scope, receive, send):
    while pathlib.Path("slow").exists():
        await asyncio.sleep(0.02)
    await version(scope, receive, send)
PATHS["/held"] = held
"""


def test_the_successor_of_a_server_that_stops_takes_its_pid_file_over(tmp_path):
    """`stop` and a start behind it, while the first still drains."""
    write_version(tmp_path, 1, extra=HELD)
    (tmp_path / "slow").touch()
    with Server(tmp_path, "--pid-file", "server.pid", workers=1) as first:
        with socket.create_connection(("127.0.0.1", first.port)) as client:
            client.sendall(b"GET /held HTTP/1.1\r\nhost: test\r\n\r\n")
            wait_until(lambda: first.workers()[0]["exchanges"] == 1)
            os.kill(first.pid, signal.SIGTERM)
            wait_until(lambda: first.status()["state"] == "stopping")
            own = ["--admin-socket", str(tmp_path / "second.sock")]
            with Server(tmp_path, *own, "--pid-file", "server.pid", workers=1) as second:
                assert (tmp_path / "server.pid").read_text() == f"{second.pid}\n"
                (tmp_path / "slow").unlink()
                assert first.process.wait(30) == 0
                assert (tmp_path / "server.pid").read_text() == f"{second.pid}\n"
    assert not (tmp_path / "server.pid").exists()


def test_long_boot_is_not_mistaken_for_a_hang(tmp_path):
    """A boot that takes several times the heartbeat limit: no stall, no refusal, one reload."""
    write_version(tmp_path, 1)
    options = ["--timeout-worker-healthcheck", "2", "--probation", "0"]
    with Server(tmp_path, *options, workers=1) as server:
        write_version(tmp_path, 2, extra="\nimport time; time.sleep(5)\n")
        server.reload()
        assert server.version() == 2
        write_version(
            tmp_path,
            3,
            extra="\nimport time\n_plain = lifespan\nasync def lifespan(receive, send):\n"
            "    time.sleep(5)\n    await _plain(receive, send)\n",
        )
        server.reload()
        assert server.version() == 3
        assert server.status()["restarts_total"] == 0


@pytest.mark.parametrize("options", [[], ["--accept", "per-slot"]])
def test_more_workers_than_descriptors_are_refused_at_the_start(tmp_path, options):
    write_version(tmp_path, 1)
    program = [sys.executable, "-m", "asgireload", "app:app", "--port", "0", "--workers", "100"]
    done = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *program, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 3, done.stderr
    assert "--workers 100: there is room for" in done.stderr
    assert "LimitNOFILE=" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_soft_limit_of_descriptors_is_raised_where_workers_need_it(tmp_path):
    write_version(tmp_path, 1)
    server = Server(tmp_path, workers=4)
    server.command = ["/bin/sh", "-c", 'ulimit -Sn 60; exec "$@"', "sh", *server.command]
    with server:
        server.reload()
        assert len(server.workers()) == 4
