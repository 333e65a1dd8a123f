"""`--reload`: which changes of files reach a real server, and how they are taken."""

import os
import shutil
import signal
import time

import pytest

from tests.process.running import Server, wait_until, write_version

pytestmark = pytest.mark.process

READS_DATA = (
    "\nimport os\nwith open(os.path.join(os.path.dirname(__file__), 'data.toml')) as file:\n"
    "    VERSION = int(file.read())\n"
)


def develop(directory, *options, workers=1, **more):
    return Server(directory, "--reload", *options, workers=workers, **more)


def wait_version(server, version):
    wait_until(lambda: server.version() == version, what=f"version {version}")


def newest_reload(server):
    """Return the number of the reload that was asked for last, begun or not."""
    status = server.status()
    return max(
        reload["id"] for reload in (status["last_reload"], status["pending_reload"]) if reload
    )


def newer_reload(server, known):
    newest = newest_reload(server)
    return newest if newest > known else 0


def reloads(server):
    return server.status()["last_reload"]["id"]


@pytest.mark.parametrize("workers", [1, 4])
def test_who_asks_when_a_save_was_noticed_gets_what_was_saved(tmp_path, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, workers=workers) as server:
        server.wait_log("Watching")
        before = newest_reload(server)
        for version in range(2, 10):
            write_version(tmp_path, version)
            before = wait_until(lambda: newer_reload(server, before), what="a reload is asked for")  # noqa: B023 - called here
            assert server.version() == version


def test_a_half_written_file_is_not_loaded_before_it_is_closed(tmp_path):
    write_version(tmp_path, 1)
    whole = (tmp_path / "app.py").read_text().replace("VERSION = 1", "VERSION = 2")
    with develop(tmp_path) as server:
        server.wait_log("Watching")
        before = reloads(server)
        with (tmp_path / "app.py").open("w") as file:
            for start in range(0, len(whole), 200):
                file.write(whole[start : start + 200])
                file.flush()
            assert reloads(server) == before
            assert server.version() == 1
        wait_version(server, 2)
        wait_until(
            lambda: reloads(server) == before + 1, what="its commit, behind the first answer"
        )
        assert "failed" not in server.log


def test_a_file_that_is_written_in_pieces_is_served_whole(tmp_path):
    """Closed in between, it is a mistake for a moment, which nobody is told of."""
    write_version(tmp_path, 1)
    whole = (tmp_path / "app.py").read_text().replace("VERSION = 1", "VERSION = 2")
    with develop(tmp_path) as server:
        server.wait_log("Watching")
        (tmp_path / "app.py").write_text(whole[: len(whole) // 2] + "\n(")
        with (tmp_path / "app.py").open("w") as file:
            file.write(whole)
        wait_version(server, 2)
        assert "failed" not in server.log
        assert server.version() == 2


def test_saves_of_one_size_while_the_one_before_is_imported_serve_the_last(tmp_path):
    """The import that is given up must not write its bytecode afterwards."""
    part = tmp_path / "part.py"
    part.write_text("P = 10\n")
    slow = "\nimport time\nfrom part import P\nprint('read', P, flush=True)\ntime.sleep(0.1)\nVERSION = P\n"
    write_version(tmp_path, 1, extra=slow)
    with develop(tmp_path, env={"PYTHONDONTWRITEBYTECODE": ""}) as server:
        server.wait_log("Watching")
        for version in range(20, 50, 3):
            for number in (version, version + 1, version + 2):
                part.write_text(f"P = {number}\n")
                time.sleep(0.03)
            wait_version(server, version + 2)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.version() == 49


def test_a_save_during_the_first_start_makes_exactly_one_more(tmp_path):
    """Nothing of what was saved while it started is lost or loaded twice."""
    write_version(
        tmp_path, 1, extra="\nimport time\nprint('importing', flush=True)\ntime.sleep(20)\n"
    )
    server = develop(tmp_path)
    server.launch()
    try:
        server.wait_log("importing")
        server.wait_log("Watching")
        write_version(tmp_path, 2)
        server.wait_log("asgireload running on")
        wait_until(lambda: reloads(server) == 1)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.log.count(" begins (changed: ") == 1
        assert server.stop() == 0
        assert not server.left_behind()
    finally:
        server._destroy()


@pytest.mark.parametrize("watcher", ["inotify", "watchfiles"])
def test_a_checkout_commits_once(tmp_path, tmp_path_factory, watcher):
    """Files of 2,000 modules come and go, the application's among them."""
    write_version(tmp_path, 1)
    # Written before, and only moved while the server looks: a slow machine must not make several bursts of it.
    prepared = tmp_path_factory.mktemp("prepared")
    names = [f"module_{number}.py" for number in range(2000)]
    for name in names:
        (prepared / name).write_text("x = 1\n")
    with develop(tmp_path, "--reload-watcher", watcher) as server:
        server.wait_log("Watching")
        write_version(tmp_path, 2)
        for name in names:
            os.rename(prepared / name, tmp_path / name)
        write_version(tmp_path, 3)
        wait_version(server, 3)
        wait_until(lambda: server.status()["current_reload"] is None)
        assert server.log.count(": read ") <= 3  # the start, at most an early try, and the load
        assert server.version() == 3


@pytest.mark.parametrize("watcher", ["inotify", "watchfiles"])
def test_a_directory_that_is_deleted_and_made_anew_goes_on_counting(tmp_path, watcher):
    """A package, and the watched directory itself."""
    project = tmp_path / "project"
    (project / "shop").mkdir(parents=True)
    (project / "shop" / "part.py").write_text("P = 1\n")
    write_version(project, 0, extra="\nfrom shop.part import P\nVERSION = P\n")
    options = ("--app-dir", str(project), "--reload-watcher", watcher)
    with Server(tmp_path, "--reload", *options, workers=1) as server:
        server.wait_log("Watching")
        assert server.version() == 1
        shutil.rmtree(project / "shop")
        (project / "shop").mkdir()
        (project / "shop" / "part.py").write_text("P = 22\n")
        wait_version(server, 22)
        shutil.rmtree(project)
        (project / "shop").mkdir(parents=True)
        (project / "shop" / "part.py").write_text("P = 333\n")
        write_version(project, 0, extra="\nfrom shop.part import P\nVERSION = P\n")
        wait_until(lambda: answers(server, 333))
        (project / "shop" / "part.py").write_text("P = 4444\n")
        wait_version(server, 4444)


@pytest.mark.parametrize("workers", [1, 2])
def test_saves_are_served_and_a_stop_is_clean_where_watchfiles_tells(tmp_path, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, "--reload-watcher", "watchfiles", workers=workers) as server:
        server.wait_log("Watching")
        for version in range(2, 6):
            write_version(tmp_path, version)
            wait_version(server, version)
        assert server.stop() == 0
        assert not server.left_behind()
        assert "Traceback" not in server.log


def answers(server, version):
    """Whether that version is served; a page with a mistake is none."""
    try:
        return server.version() == version
    except AssertionError:
        return False


def test_what_symbolic_links_lead_to_counts(tmp_path):
    project, library = tmp_path / "project", tmp_path / "shared"
    project.mkdir()
    library.mkdir()
    (library / "part.py").write_text("P = 1\n")
    (project / "shop").symlink_to(library)
    write_version(project, 0, extra="\nfrom shop.part import P\nVERSION = P\n")
    with Server(tmp_path, "--reload", "--app-dir", str(project), workers=1) as server:
        server.wait_log("Watching")
        assert server.version() == 1
        (library / "part.py").write_text("P = 22\n")
        wait_version(server, 22)


def test_other_files_count_where_they_are_asked_for(tmp_path):
    (tmp_path / "data.toml").write_text("1")
    (tmp_path / "notes.txt").write_text("1")
    write_version(tmp_path, 0, extra=READS_DATA)
    with develop(tmp_path, "--reload-include", "*.toml") as server:
        server.wait_log("Watching")
        before = reloads(server)
        (tmp_path / "notes.txt").write_text("2")
        (tmp_path / "data.toml").write_text("22")
        wait_version(server, 22)
        wait_until(
            lambda: reloads(server) == before + 1, what="its commit, behind the first answer"
        )
        server.wait_log("changed: data.toml")


def test_variables_of_the_environment_file_are_those_that_were_saved(tmp_path):
    (tmp_path / ".env").write_text("NUMBER=10\n")
    write_version(tmp_path, 0, extra="\nVERSION = int(os.environ['NUMBER'])\n")
    with develop(tmp_path, "--env-file", ".env") as server:
        server.wait_log("kept in memory")
        assert server.version() == 10
        for number in (20, 30):
            (tmp_path / ".env").write_text(f"NUMBER={number}\n")
            wait_version(server, number)


def test_notices_that_are_lost_lose_no_save(tmp_path):
    """The kernel's queue holds 16,384; a supervisor that does not run reads none of them."""
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        room = int(file.read())
    if room > 20_000:
        pytest.skip("the queue is too long to be filled here")
    write_version(tmp_path, 1)
    scratch = tmp_path / "scratch.txt"
    with develop(tmp_path) as server:
        server.wait_log("Watching")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(room + 100):
                # Two kinds in turn: equal notices in a row are one.
                scratch.write_text("x")
                scratch.unlink()
            write_version(tmp_path, 2)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_version(server, 2)
        write_version(tmp_path, 3)
        wait_version(server, 3)


@pytest.mark.parametrize("workers", [1, 2])
def test_files_are_looked_at_where_that_is_asked_for(tmp_path, workers):
    write_version(tmp_path, 1)
    with develop(tmp_path, "--reload-poll", "0.1", workers=workers) as server:
        server.wait_log("Watching")
        for version in (22, 33, 44):
            time.sleep(0.3)
            write_version(tmp_path, version)
            wait_version(server, version)


def test_several_workers_without_a_terminal_are_warned_of_and_one_is_not(tmp_path):
    write_version(tmp_path, 1)
    with develop(tmp_path, workers=2) as server:
        assert server.log.count("--reload is for development") == 1
    with develop(tmp_path, workers=1) as server:
        assert "--reload is for development" not in server.log
    with develop(tmp_path, "--pid-file", str(tmp_path / "pid"), workers=1) as server:
        assert server.log.count("--reload is for development") == 1


def test_the_log_says_what_changed_what_was_read_and_how_long_it_took(tmp_path):
    write_version(tmp_path, 1)
    with develop(tmp_path) as server:
        server.wait_log("Watching")
        write_version(tmp_path, 2)
        wait_version(server, 2)
        server.wait_log("Reload 1 begins (changed: app.py)")
        server.wait_log("Reload 1 committed in ")
        line = next(text for text in server.log.splitlines() if "Reload 1 committed" in text)
        assert " ms: read app in " in line
        assert " ms, from " in line
