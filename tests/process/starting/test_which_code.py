"""Which code runs: release directories, symlinks, lazy imports, saved files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import asgireload
from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process


def make_release(root, number, extra=""):
    release = root / f"release-{number}"
    release.mkdir()
    write_version(release, number, extra=extra)
    (release / "lazy.py").write_text(f"ORIGIN = {number}\n")
    return release


def switch(root, release):
    """Point `current` to a release in one step, as deploy tools do."""
    link = root / "next"
    link.symlink_to(release.name)
    link.rename(root / "current")


WHERE = """
async def where(scope, receive, send):
    import sys
    await answer(send, sys.prefix.encode())
PATHS["/where"] = where
"""
LAZY = """
async def lazy(scope, receive, send):
    import lazy
    await answer(send, b"%d" % lazy.ORIGIN)
PATHS["/lazy"] = lazy
"""


def test_symlink_switch_is_followed_by_a_reload_and_by_nothing_else(tmp_path):
    """After the switch, crashes and lazy imports stay with the old release; after the reload, with the new."""
    switch(tmp_path, make_release(tmp_path, 1, LAZY))
    with Server(tmp_path, "--probation", "0.1", workers=2, cwd=tmp_path / "current") as server:
        switch(tmp_path, make_release(tmp_path, 2, LAZY))
        victim, _ = server.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(set(server.worker_pids()) - {victim}) == 2)
        assert {server.version() for _ in range(20)} == {1}
        assert {server.get("/lazy") for _ in range(20)} == {"1"}
        server.reload()
        victim, _ = server.worker_pids()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(set(server.worker_pids()) - {victim}) == 2)
        assert {server.version() for _ in range(20)} == {2}
        assert {server.get("/lazy") for _ in range(20)} == {"2"}


def make_environment(release):
    """Give a release a virtual environment of its own, as `python -m venv` does it, with this one's packages."""
    environment = release / ".venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60
    )
    (packages,) = environment.glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    root = str(Path(asgireload.__file__).parent.parent)
    (packages / "tests.pth").write_text("\n".join([root, *paths]) + "\n")
    return environment


@pytest.mark.parametrize("is_mixed", [True, False])
def test_packages_of_another_release_are_warned_of(tmp_path, is_mixed):
    """A console script names its interpreter by the release that it was installed in."""
    first = make_release(tmp_path, 1, WHERE)
    environment = make_environment(first)
    switch(tmp_path, first)
    server = Server(tmp_path, workers=1, cwd=tmp_path / "current")
    python = environment if is_mixed else tmp_path / "current" / ".venv"
    server.command[0] = str(python / "bin" / "python")
    with server:
        second = make_release(tmp_path, 2, WHERE)
        make_environment(second)
        switch(tmp_path, second)
        server.reload()
        assert server.version() == 2
        own = first if is_mixed else second
        assert os.path.realpath(server.get("/where")) == str(own / ".venv")
        advice = f"{tmp_path / 'current' / '.venv' / 'bin' / 'python'} -m asgireload"
        assert (f"with the packages of another release, {environment}" in server.log) is is_mixed
        assert (advice in server.log) is is_mixed


def test_two_saves_of_one_size_within_a_second_serve_the_second(tmp_path):
    """Bytecode is keyed by whole seconds and size; a reload in between must not freeze the first save."""
    write_version(tmp_path, 1)
    environment = {"PYTHONDONTWRITEBYTECODE": ""}
    options = ["--probation", "0", "--drain-grace", "0"]
    with Server(tmp_path, *options, workers=1, env=environment) as server:
        for version in range(2, 8):
            write_version(tmp_path, version)
            server.reload()
            assert server.version() == version


def start_directory(tmp_path):
    start = tmp_path / "start"
    start.mkdir()
    return start


@pytest.mark.parametrize("options", [[], ["--no-preload"], ["--reload"]], ids=" ".join)
def test_a_start_directory_that_is_gone_is_not_needed_beside_an_absolute_app_dir(tmp_path, options):
    """Shells of operators, and unit files, start servers in directories that are tidied up later."""
    code = tmp_path / "code"
    code.mkdir()
    write_version(code, 1)
    start = start_directory(tmp_path)
    options = ["--app-dir", str(code), *options]
    with Server(tmp_path, *options, workers=1, cwd=start) as server:
        start.rmdir()
        for version in (2, 3):
            write_version(code, version)
            if "--reload" in options:
                wait_until(lambda version=version: server.version() == version)
            else:
                server._start["cwd"] = tmp_path  # of the command
                server.reload()
            assert server.version() == version
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        wait_until(lambda: server.worker_pids() and server.version() == 3)


def test_a_start_directory_that_is_gone_is_named_where_it_is_needed(tmp_path):
    start = start_directory(tmp_path)
    write_version(start, 1)
    with Server(tmp_path, workers=1, cwd=start) as server:
        start.rename(tmp_path / "moved")
        server._start["cwd"] = tmp_path  # of the command
        told = server.reload(ok=False)
        assert f"directory: the directory {start}, in which the server was started" in told
        assert "--app-dir" in told
        assert server.version() == 1
        (tmp_path / "moved").rename(start)
        server.reload()


def test_commands_need_no_working_directory(tmp_path):
    write_version(tmp_path, 1)
    start = start_directory(tmp_path)
    with Server(tmp_path, workers=1) as server:
        command = f'rmdir "$PWD" && exec "{sys.executable}" -m asgireload status --socket "$0"'
        done = subprocess.run(
            ["/bin/sh", "-c", command, str(server.admin_socket)],
            cwd=start,
            env={**os.environ, "PWD": str(start)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
