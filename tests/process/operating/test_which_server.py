"""Commands go to the server that is meant: by directory, by pid as the kernel knows it, and to no other."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import asgireload
from asgireload.ipc.linux import children_of
from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


def command(*words, cwd, **variables):
    """Run a command with nothing but these variables of ours."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASGIRELOAD_", "XDG_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "asgireload", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**kept, "PWD": str(cwd), **variables},
    )


@pytest.fixture
def public_directory():
    """A directory that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="asgireload-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_nobody(*words, cwd, **variables):
    """Return what `subprocess` needs to run asgireload as another user; skip where that user may not run Python.

    The interpreter of a virtual environment in /root is out of its reach, so one of the same version is looked for.
    """
    packages = os.pathsep.join([str(Path(asgireload.__file__).parents[1]), *filter(None, sys.path)])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": packages, **variables}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    user: Any = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    for interpreter in (sys.executable, f"/usr/bin/python{version}"):
        probe = [interpreter, "-c", "import click, msgspec, asgireload"]
        try:
            done = subprocess.run(
                probe, env=environment, cwd="/", check=False, stderr=subprocess.DEVNULL, **user
            )
        except OSError:
            continue
        if done.returncode == 0:
            command = [interpreter, "-B", "-m", "asgireload", *words]
            return {"args": command, "cwd": cwd, "env": environment, **user}
    pytest.skip(f"no Python {version} that every user may run")


def test_a_reload_without_an_address_reaches_no_server_of_another_project(tmp_path):
    """The deploy script of a shop whose server has its socket elsewhere must not reload the blog."""
    runtime, blog, shop = tmp_path / "runtime", tmp_path / "blog", tmp_path / "shop"
    for directory in (runtime, blog, shop):
        directory.mkdir(mode=0o700)
    write_version(blog, 1)
    variables = {"XDG_RUNTIME_DIR": str(runtime)}
    options = ("--admin-socket", "auto", "--probation", "0")
    with Server(blog, *options, workers=1, env=variables) as server:
        for words in (["reload", "--wait"], ["scale", "2"], ["stop"], ["reload-certificates"]):
            refused = command(*words, cwd=shop, **variables)
            assert refused.returncode == 3, refused.stdout
            # Other servers of this user may run on the machine meanwhile.
            assert f"was started in {shop}; say" in refused.stderr.replace("not started", "started")
            # What it advises is what does it.
            advice = (
                f"  asgireload {' '.join(words)} --pid {server.pid}    app:app in {blog}, serving"
            )
            assert advice in refused.stderr
        looked_at = command("status", cwd=blog, **variables)
        assert looked_at.returncode == 0
        assert f"app:app in {blog}" in looked_at.stdout
        assert "generation  1\n" in looked_at.stdout
        done = command("reload", "--wait", cwd=blog, **variables)
        assert done.returncode == 0, done.stderr
        assert (
            f"server: app:app, pid {server.pid}, {runtime}/asgireload/{server.pid}.sock"
            in done.stdout
        )
        done = command("reload", "--wait", "--pid", str(server.pid), cwd=shop)
        assert "Reload 2: committed" in done.stdout


@needs_root
def test_root_operates_the_server_of_another_user(public_directory):
    """By pid file and by pid, wherever that server has its socket."""
    write_version(public_directory, 1)
    (public_directory / "app.py").chmod(0o644)
    own = public_directory / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    pid_file = own / "asgireload.pid"
    # It may be skipped by `as_nobody`.
    with (public_directory / "log").open("wb") as log:
        server = subprocess.Popen(
            **as_nobody(
                *("app:app", "--workers", "1", "--probation", "0"),
                *("--uds", str(own / "http.sock"), "--pid-file", str(pid_file)),
                cwd=public_directory,
                XDG_RUNTIME_DIR=str(own),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: (
                b"running on" in (public_directory / "log").read_bytes()
                or server.poll() is not None
            )
        )
        assert server.poll() is None, (public_directory / "log").read_text()
        done = command("reload", "--wait", "--pid-file", str(pid_file), cwd="/")
        assert done.returncode == 0, done.stderr
        assert (
            f"server: app:app, pid {server.pid}, {own}/asgireload/{server.pid}.sock" in done.stdout
        )
        worker = command("status", "--json", "--pid", str(server.pid), cwd="/")
        assert '"state": "serving"' in worker.stdout
        assert command("stop", "--wait", "--pid", str(server.pid), cwd="/").returncode == 0
        assert server.wait(20) == 0
        # The application has got none of it.
        assert "/status" not in (public_directory / "log").read_text()
    finally:
        server.kill()
        server.wait()


@needs_root
def test_root_operates_a_server_in_a_container(tmp_path):
    """It has a pid of its own there, and its socket lies where nobody outside sees it."""
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine allows no namespaces")
    write_version(tmp_path, 1)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    serve = (
        f"mount -t tmpfs -o mode=700 none {runtime} && exec {sys.executable} -m asgireload app:app"
        " --workers 1 --port 0 --probation 0"
    )
    with (tmp_path / "log").open("wb") as log:
        container = subprocess.Popen(
            [*unshare, "sh", "-c", serve],
            cwd=tmp_path,
            env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        # The admin socket may come a moment after the first worker.
        for said in ("running on", "Admin on"):
            wait_until(lambda said=said: said in (tmp_path / "log").read_text())
        (pid,) = children_of(container.pid)
        assert not list(runtime.iterdir())
        done = command("reload", "--wait", "--pid", str(pid), cwd="/")
        assert done.returncode == 0, done.stderr
        assert (
            f"server: app:app, pid {pid}, /proc/{pid}/root{runtime}/asgireload/1.sock"
            in done.stdout
        )
        # It waits for the end of the process that is meant here, not for the one that has this pid there.
        assert command("stop", "--wait", "--pid", str(pid), cwd="/").returncode == 0
        assert container.wait(20) == 0
    finally:
        container.kill()
        container.wait()


@needs_root
def test_another_user_is_told_what_to_do(tmp_path, public_directory):
    """Who may not see the descriptors of a process is not told that there is no server."""
    write_version(tmp_path, 1)
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    variables = {"XDG_RUNTIME_DIR": str(runtime)}
    with Server(tmp_path, "--admin-socket", "auto", workers=1, env=variables) as server:
        stranger = subprocess.run(
            **as_nobody("stop", "--pid", str(server.pid), cwd=public_directory),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert stranger.returncode == 3
        assert "run this command as the user of the server, or as root" in stranger.stderr


def test_a_pid_file_of_a_dead_server_stops_nobody(tmp_path):
    """Its pid has been given to another server meanwhile."""
    write_version(tmp_path, 1)
    left_behind = tmp_path / "old.pid"
    with Server(tmp_path, "--pid-file", "new.pid", workers=1) as server:
        left_behind.write_text(f"{server.pid}\n")
        refused = command("stop", "--pid-file", str(left_behind), cwd=tmp_path)
        assert refused.returncode == 3
        assert f"whose pid file is {tmp_path}/new.pid" in refused.stderr
        worker = command("stop", "--pid", str(server.worker_pids()[0]), cwd=tmp_path)
        assert worker.returncode == 3
        assert f"give --pid {server.pid}" in worker.stderr
        assert len(server.workers()) == 1
        done = command("stop", "--wait", "--pid-file", "new.pid", cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def test_the_socket_of_the_application_is_not_given_a_command(tmp_path):
    write_version(tmp_path, 1)
    path = str(tmp_path / "http.sock")
    with Server(tmp_path, "--bind", f"unix:{path}", workers=1) as server:
        refused = command("stop", "--socket", path, cwd=tmp_path)
        assert refused.returncode == 3
        assert "not the admin socket of an asgireload server" in refused.stderr
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert len(server.workers()) == 1
