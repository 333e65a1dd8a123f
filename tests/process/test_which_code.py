"""Which code runs: release directories, symlinks, lazy imports, saved files."""

import os
import signal
import time

import pytest

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


def test_saving_a_file_reloads_and_a_broken_first_boot_waits(tmp_path):
    write_version(tmp_path, 1, extra="\ndef (\n")
    server = Server(tmp_path, "--reload", "--drain-grace", "0.1", workers=1).launch()
    try:
        server.wait_log("waiting for the next change")
        server.wait_log("Watching")
        # The watcher's thread may still be setting up: save until it is seen.
        deadline = time.monotonic() + 15
        while "asgireload running on" not in server.log and time.monotonic() < deadline:
            write_version(tmp_path, 2)
            time.sleep(0.5)
        server.wait_log("asgireload running on")
    finally:
        assert server.stop() == 0


def test_saves_reload_to_the_newest_code(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--reload", "--drain-grace", "0.1", workers=2) as server:
        server.wait_log("Watching")
        # Setting up the watch takes a moment that nobody announces: save until it is seen.
        while server.version() != 2:
            write_version(tmp_path, 2)
            time.sleep(0.6)
        for version in (20, 300, 4000):
            write_version(tmp_path, version)
            wait_until(lambda version=version: server.version() == version)
        write_version(tmp_path, 5, extra="\nraise RuntimeError('typo')\n")
        server.wait_log("typo")
        assert server.version() == 4000
        write_version(tmp_path, 66666)
        wait_until(lambda: server.version() == 66666)


def test_a_burst_of_changes_is_one_reload(tmp_path):
    write_version(tmp_path, 1)
    with Server(tmp_path, "--reload", "--drain-grace", "0.1", workers=1) as server:
        while server.version() != 22:
            write_version(tmp_path, 22)
            time.sleep(0.6)
        before = server.status()["last_reload"]["id"]
        for number in range(500):
            (tmp_path / f"module_{number}.py").write_text("x = 1\n")
        write_version(tmp_path, 333)
        wait_until(lambda: server.version() == 333)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.status()["last_reload"]["id"] - before <= 2
