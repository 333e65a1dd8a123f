"""Watch the application's files, and report changes and when to load them.

Changes come from inotify (`tree.py`), from watchfiles if configured (`_watchfiles.py`), or from polling when
inotify cannot be used (`polling.py`). `bursts.py` decides when to load; this file waits, and calls the listener.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from asgireload.config import Config
from asgireload.development.watch.bursts import BurstDecision, Bursts
from asgireload.development.watch.changes import Changes
from asgireload.development.watch.filters import make_filter
from asgireload.development.watch.polling import (
    Picture,
    compare,
    is_remote,
    take_picture,
    tell_environment,
)
from asgireload.development.watch.tree import CLOCK_GRAIN, Tree
from asgireload.supervisor import signals

if TYPE_CHECKING:
    from asgireload.development.watch._watchfiles import WatchfilesTree

LOOK_INTERVAL = 3.0
"""Seconds between two checks that the watched directories have not been replaced."""
PROJECT_FILE = "pyproject.toml"
"""A file in the working directory that lists the required libraries."""
POLL_INTERVAL = 0.5
"""Default seconds between two polls of all files."""
POLL_SHARE = 20
"""The wait between two polls is at least so many times the duration of a poll, to spare slow file systems."""

_logger = logging.getLogger("asgireload.error")


Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


async def _in_thread(
    call: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Value:
    """Call a function in a thread in which signals are blocked, as in all threads that it starts.

    The main thread blocks signals while its loop closes; a signal handled in another thread would then write to a
    closed descriptor of the loop.
    """

    def run() -> Value:
        signals.hold()
        signals.hold_children()
        return call(*args, **kwargs)

    return await asyncio.to_thread(run)


class ChangeListener(Protocol):
    """The callbacks of a watcher."""

    def on_changing(self, changes: Changes, *, gives_up: bool) -> None:
        """Called when files have changed, and more may follow. `gives_up`: a running load may have read old and new
        files."""

    def on_settled(self, changes: Changes, *, gives_up: bool) -> None:
        """Called when the present files are to be loaded; `changes` are those since the last load.

        `gives_up`: a running load is to be abandoned.
        """

    def on_assets(self, paths: frozenset[str]) -> None:
        """Called when style sheets or images were saved, which open pages replace (--reload-browser)."""


class Watcher:
    """Watches the directories of `config` while `run()` runs, and calls `listener`."""

    def __init__(self, config: Config, listener: ChangeListener) -> None:
        self._listener = listener
        self._directories = watched_directories(config)
        self._filter = make_filter(
            self._directories,
            config.reload_include,
            config.reload_exclude,
            with_assets=config.reload_browser,
        )
        self._environment_file = (
            os.path.realpath(config.env_file) if config.env_file is not None else None
        )
        self._project_file = os.path.realpath(PROJECT_FILE)
        self._poll_interval = _poll_interval(config, self._directories)
        self._is_watchfiles = config.reload_watcher == "watchfiles"
        self._bursts = Bursts(config.reload_delay)
        self._libraries: tuple[str, ...] = ()
        self._tree: Tree | WatchfilesTree | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_at = time.time()

    def watch_libraries(self, directories: Iterable[str]) -> None:
        """Report changes of libraries in these directories from now on. Polling does not report them."""
        self._libraries = tuple(directories)
        if self._tree is not None:
            self._watch_libraries(self._tree)

    async def run(self) -> None:
        """Watch until cancelled."""
        _logger.info("Watching %s for changes", ", ".join(self._directories))
        try:
            if self._poll_interval is None:
                try:
                    await (self._follow_watchfiles() if self._is_watchfiles else self._follow())
                except OSError as error:
                    _logger.warning(
                        "The kernel cannot watch so much (%s): files are looked at every %g s."
                        " Raise fs.inotify.max_user_watches and max_user_instances (sysctl), or name"
                        " fewer directories with --reload-dir",
                        error.strerror or error,
                        POLL_INTERVAL,
                    )
            await self._poll(self._poll_interval or POLL_INTERVAL)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    # --- inotify and watchfiles -------------------------------------------------------------------

    async def _follow(self) -> None:
        """Watch with inotify. Raise OSError when a limit of the kernel is reached, also later on."""
        tree = Tree(self._directories, self._filter, self._environment_file, self._project_file)
        # In a thread: this takes seconds for a tree of a hundred thousand directories.
        found = await _in_thread(tree.begin, self._began_at - CLOCK_GRAIN)
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[None] = loop.create_future()

        def on_readable() -> None:
            try:
                changes = tree.read()
            except OSError as error:
                loop.remove_reader(tree.fileno())
                if not broken.done():
                    broken.set_exception(error)
            else:
                self._take(changes)

        self._tree = tree
        try:
            self._watch_libraries(tree)
            self._take(found)
            loop.add_reader(tree.fileno(), on_readable)
            while True:
                done, _ = await asyncio.wait((broken,), timeout=LOOK_INTERVAL)
                if done:
                    broken.result()
                self._take(tree.check())
        finally:
            self._tree = None
            loop.remove_reader(tree.fileno())
            tree.close()

    async def _follow_watchfiles(self) -> None:
        """Watch with watchfiles, which waits in a thread. Raise OSError when a limit of the kernel is reached."""
        tree = await _in_thread(self._make_watchfiles_tree)
        try:
            changes: Changes | None = await _in_thread(tree.begin, self._began_at - CLOCK_GRAIN)
            self._tree = tree
            self._watch_libraries(tree)
            while changes is not None:
                self._take(changes)
                changes = await _in_thread(tree.wait)
        finally:
            self._tree = None
            tree.stop()  # the thread notices within milliseconds, and closes everything

    def _make_watchfiles_tree(self) -> "WatchfilesTree":
        # watchfiles is an optional dependency, and imports other packages, which takes time.
        from asgireload.development.watch._watchfiles import WatchfilesTree

        return WatchfilesTree(
            self._directories, self._filter, self._environment_file, self._project_file
        )

    def _watch_libraries(self, tree: "Tree | WatchfilesTree") -> None:
        try:
            tree.watch_libraries(self._libraries)
        except OSError as error:
            _logger.debug("Libraries are not watched: %s", error)

    # --- polling ----------------------------------------------------------------------------------

    async def _poll(self, interval: float) -> None:
        others = [path for path in (self._environment_file, self._project_file) if path is not None]
        loop = asyncio.get_running_loop()
        before: Picture | None = None
        while True:
            began = loop.time()
            after = await _in_thread(take_picture, self._directories, self._filter, others)
            if before is not None:
                self._take(
                    tell_environment(
                        compare(before, after),
                        self._filter,
                        self._environment_file,
                        self._project_file,
                    )
                )
            before = after
            await asyncio.sleep(max(interval, POLL_SHARE * (loop.time() - began)))

    # --- reports ----------------------------------------------------------------------------------

    def _take(self, changes: Changes) -> None:
        assets = frozenset(filter(self._filter.is_asset, changes.arrived))
        if assets:
            self._listener.on_assets(assets)
        changes = changes.without(self._filter.is_asset)
        if not changes:
            return
        if not changes.asks_for_reload:
            self._listener.on_changing(changes, gives_up=False)
            return
        loop = asyncio.get_running_loop()
        decision = self._bursts.add(changes, loop.time())
        self._listener.on_changing(changes, gives_up=decision.gives_up)
        self._pass_on(decision)
        self._set_timer(loop)

    def _on_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        # asyncio may call a timer up to one tick of the clock early.
        self._pass_on(self._bursts.expire(loop.time() + 0.001))
        self._set_timer(loop)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bursts.deadline is not None:
            self._timer = loop.call_at(self._bursts.deadline, self._on_timer)

    def _pass_on(self, decision: BurstDecision) -> None:
        if decision.load is not None:
            self._listener.on_settled(decision.load, gives_up=decision.gives_up)


def watched_directories(config: Config) -> tuple[str, ...]:
    """Return the watched directories: --reload-dir, or the directory that the application is imported from."""
    names = config.reload_dir or (config.app_dir or ".",)
    return tuple(dict.fromkeys(os.path.realpath(name) for name in names))


def _poll_interval(config: Config, directories: tuple[str, ...]) -> float | None:
    """Return the poll interval in seconds; None when inotify or watchfiles is used."""
    if config.reload_watcher == "polling":
        return config.reload_poll or POLL_INTERVAL
    if config.reload_watcher != "auto":
        return None
    if config.reload_poll is not None:
        return config.reload_poll or None
    # Often set already where a project is mounted into a container.
    if os.environ.get("WATCHFILES_FORCE_POLLING", "").lower() not in ("", "0", "false", "disable"):
        return POLL_INTERVAL
    try:
        with open("/proc/self/mountinfo") as file:
            mountinfo = file.read()
    except OSError:
        return None
    return POLL_INTERVAL if any(is_remote(name, mountinfo) for name in directories) else None
