"""The watcher on a real directory: what it tells, and when."""

import asyncio
import shutil
import signal

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from asgireload.config import Config
from asgireload.development.watch import _watchfiles, watcher
from asgireload.development.watch.watcher import Watcher


class Listening:
    """A running watcher, and what it has told."""

    def __init__(self, directory, **options):
        config = Config(app="app:app", reload=True, reload_dir=(str(directory),), **options)
        self.changing = []
        self.loads = []
        self._told = asyncio.Event()
        self.watcher = Watcher(config, self)

    def on_changing(self, changes, *, gives_up):
        self.changing.append(changes)
        self._told.set()

    def on_settled(self, changes, *, gives_up):
        self.loads.append(changes)
        self._told.set()

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                self._told.clear()
                await self._told.wait()

    async def until_loaded(self, path):
        await self.until(lambda: any(str(path) in load.paths for load in self.loads))

    async def __aenter__(self):
        self._task = asyncio.create_task(self.watcher.run())
        return self

    async def __aexit__(self, *error):
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture(params=["inotify", "watchfiles"])
def told_by(request):
    """Who tells of changes, as an option."""
    return {"reload_watcher": request.param}


def test_a_save_is_told_and_loaded_even_if_it_comes_while_the_watch_is_set_up(tmp_path, told_by):
    async def scenario():
        listening = Listening(tmp_path, **told_by)
        async with listening:
            (tmp_path / "early.py").write_text("x = 1\n")
            await listening.until_loaded(tmp_path / "early.py")
            (tmp_path / "late.py").write_text("x = 1\n")
            await listening.until_loaded(tmp_path / "late.py")

    asyncio.run(scenario())


def test_a_burst_is_one_early_load_and_one_when_it_is_quiet(tmp_path, told_by):
    """Saves that belong together must not make a reload each."""

    async def scenario():
        async with Listening(tmp_path, reload_delay=0.3, **told_by) as listening:
            for number in range(500):
                (tmp_path / f"module_{number}.py").write_text("x = 1\n")
                await asyncio.sleep(0)
            await listening.until_loaded(tmp_path / "module_499.py")
            assert len(listening.loads) == 2
            assert sum(len(load.paths) for load in listening.loads) >= 500

    asyncio.run(scenario())


def test_watching_goes_on_when_the_directory_is_made_anew(tmp_path, told_by):
    """The watched directory is deleted, and comes back."""
    source = tmp_path / "src"
    source.mkdir()

    async def scenario():
        async with Listening(source, **told_by) as listening:
            (source / "first.py").write_text("x = 1\n")
            await listening.until_loaded(source / "first.py")
            shutil.rmtree(source)
            source.mkdir()
            await listening.until(lambda: any(load.is_vague for load in listening.loads))
            (source / "second.py").write_text("x = 1\n")
            await listening.until_loaded(source / "second.py")

    asyncio.run(scenario())


def test_files_are_looked_at_where_the_kernel_does_not_tell(tmp_path):
    async def scenario():
        async with Listening(tmp_path, reload_poll=0.02) as listening:
            while not listening.loads:
                (tmp_path / "main.py").write_text("x = 1\n")
                await asyncio.sleep(0.1)
            (tmp_path / "main.py").unlink()
            await listening.until(
                lambda: any(str(tmp_path / "main.py") in load.vanished for load in listening.loads)
            )

    asyncio.run(scenario())


def test_the_projects_file_is_looked_at_and_loads_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def scenario():
        async with Listening(tmp_path, reload_poll=0.02) as listening:
            while not any(change.is_environment for change in listening.changing):
                (tmp_path / "pyproject.toml").write_text("[project]\n")
                await asyncio.sleep(0.1)
            assert not listening.loads

    asyncio.run(scenario())


def test_files_are_looked_at_where_the_kernel_has_no_room(tmp_path, told_by, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(watcher, "Tree", refuse)
    monkeypatch.setattr(_watchfiles, "RustNotify", refuse)
    monkeypatch.setattr(watcher, "POLL_INTERVAL", 0.02)

    async def scenario():
        async with Listening(tmp_path, **told_by) as listening:
            while not listening.loads:
                (tmp_path / "main.py").write_text("x = 1\n")
                await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert "(No space left on device)" in caplog.text
    assert "max_user_watches" in caplog.text


def test_what_goes_wrong_inside_watchfiles_is_told_and_files_are_looked_at(
    tmp_path, monkeypatch, caplog
):
    class Broken:
        def __init__(self, *arguments):
            pass

        def watch(self, *arguments):
            raise WatchfilesRustInternalError("the thread is gone")

        def close(self):
            pass

    monkeypatch.setattr(_watchfiles, "RustNotify", Broken)
    monkeypatch.setattr(watcher, "POLL_INTERVAL", 0.02)

    async def scenario():
        async with Listening(tmp_path, reload_watcher="watchfiles") as listening:
            while not listening.loads:
                (tmp_path / "main.py").write_text("x = 1\n")
                await asyncio.sleep(0.1)

    asyncio.run(scenario())
    assert "(the thread is gone)" in caplog.text


def test_the_environment_is_told_of_wherever_it_lies(tmp_path, told_by, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()

    async def scenario():
        env_file = str(tmp_path / "production.env")
        async with Listening(tmp_path / "src", env_file=env_file, **told_by) as listening:
            (tmp_path / "src" / "main.py").write_text("x = 1\n")
            await listening.until_loaded(tmp_path / "src" / "main.py")
            (tmp_path / "pyproject.toml").write_text("[project]\n")
            # Perhaps together with another notice of the file before.
            await listening.until(
                lambda: any(changes.is_environment for changes in listening.changing)
            )
            assert not any(
                str(tmp_path / "pyproject.toml") in changes.paths for changes in listening.changing
            )
            (tmp_path / "production.env").write_text("A=1\n")
            await listening.until_loaded(tmp_path / "production.env")
            assert listening.loads[-1].is_environment

    asyncio.run(scenario())


def test_a_library_that_changes_is_told_and_loads_nothing(tmp_path, told_by):
    library = tmp_path / "site-packages"
    library.mkdir()

    async def scenario():
        async with Listening(tmp_path, **told_by) as listening:
            (tmp_path / "main.py").write_text("x = 1\n")
            await listening.until_loaded(tmp_path / "main.py")
            listening.watcher.watch_libraries([str(library)])
            (library / "thing.py").write_text("x = 1\n")
            await listening.until(
                lambda: any(changes.is_environment for changes in listening.changing)
            )
            assert not any(load.is_environment for load in listening.loads)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "interval"),
    [
        ({"reload_watcher": "polling"}, watcher.POLL_INTERVAL),
        ({"reload_watcher": "polling", "reload_poll": 2.0}, 2.0),
        ({"reload_watcher": "inotify"}, None),
        ({"reload_watcher": "watchfiles"}, None),
    ],
)
def test_a_watcher_that_is_named_is_taken_whatever_the_surroundings(
    tmp_path, monkeypatch, options, interval
):
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    monkeypatch.setattr(watcher, "is_remote", lambda *_: True)
    config = Config(app="app:app", reload=True, **options)
    assert watcher._poll_interval(config, (str(tmp_path),)) == interval


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("0", False), ("", False)])
def test_the_variable_that_forces_watchfiles_to_poll_does_so_here(
    tmp_path, monkeypatch, value, expected
):
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", value)
    monkeypatch.chdir(tmp_path)
    interval = watcher._poll_interval(Config(app="app:app", reload=True), (str(tmp_path),))
    assert (interval is not None) is expected


def test_threads_that_look_at_files_take_no_signals():
    """They end after the main thread has begun to hold signals, and would write to a closed loop."""
    blocked = asyncio.run(
        watcher._in_thread(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGCHLD})
    )
    assert {signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP} <= blocked
    assert signal.SIGSEGV not in blocked
    assert signal.SIGCHLD not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
