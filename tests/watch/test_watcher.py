"""Bursts of changes on a real directory."""

import asyncio
import shutil

import pytest

from asgireload.config import Config
from asgireload.watch.watcher import watch

pytest.importorskip("watchfiles")


class Watching:
    """A running watcher and what it has reported."""

    def __init__(self, directory, quiet):
        self.reports = []
        self._came = asyncio.Event()
        config = Config(
            app="app:app", reload=True, reload_dir=(str(directory),), reload_delay=quiet
        )
        self._task = asyncio.create_task(watch(config, self._take))
        self._directory = directory
        self._quiet = quiet

    def _take(self, text):
        self.reports.append(text)
        self._came.set()

    async def report(self):
        await asyncio.wait_for(self._came.wait(), 20)
        self._came.clear()
        return self.reports[-1]

    async def begin(self):
        """Save until the first save is seen: setting up a watch takes a moment nobody announces."""
        while not self.reports:
            (self._directory / "first.py").write_text("x = 1\n")
            await asyncio.sleep(3 * self._quiet)
        self._came.clear()
        self.reports.clear()

    async def end(self):
        self._task.cancel()
        await asyncio.wait([self._task])


def test_a_burst_that_goes_on_is_one_report_when_it_is_quiet(tmp_path):
    """Saves a tenth of a second apart, as of a checkout or a formatter, must not make a reload each."""

    async def scenario():
        watching = Watching(tmp_path, quiet=0.6)
        await watching.begin()
        for number in range(8):
            (tmp_path / f"module_{number}.py").write_text("x = 1\n")
            await asyncio.sleep(0.1)
        report = await watching.report()
        await watching.end()
        assert len(watching.reports) == 1
        assert "and 5 more" in report

    asyncio.run(scenario())


def test_a_directory_that_is_made_anew_is_watched_again(tmp_path):
    source = tmp_path / "src"
    source.mkdir()

    async def scenario():
        watching = Watching(source, quiet=0.1)
        await watching.begin()
        shutil.rmtree(source)
        source.mkdir()
        await watching.report()
        (source / "new.py").write_text("x = 1\n")
        while "new.py" not in watching.reports[-1]:
            (source / "new.py").write_text("x = 1\n")
            await watching.report()
        await watching.end()

    asyncio.run(scenario())


def test_clutter_makes_no_report(tmp_path):
    async def scenario():
        watching = Watching(tmp_path, quiet=0.1)
        await watching.begin()
        (tmp_path / "notes.txt").write_text("x")
        (tmp_path / ".swap.py.swp").write_text("x")
        (tmp_path / "real.py").write_text("x = 1\n")
        assert (await watching.report()).endswith("real.py")
        await watching.end()

    asyncio.run(scenario())


def test_a_file_that_changes_all_the_time_does_not_keep_the_report_waiting(tmp_path):
    async def scenario():
        watching = Watching(tmp_path, quiet=0.2)
        await watching.begin()
        deadline = asyncio.get_running_loop().time() + 20
        while not watching.reports:
            (tmp_path / "busy.py").write_text("x = 1\n")
            await asyncio.sleep(0.05)
            assert asyncio.get_running_loop().time() < deadline
        await watching.end()

    asyncio.run(scenario())
