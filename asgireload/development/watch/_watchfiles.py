"""Directory trees watched with watchfiles, which reports changed paths; stat(2) shows what has changed.

`wait` blocks, so it is called in a thread, as is everything else here, since file systems may be slow. The filter
decides which files count. watchfiles does not report that a writer has closed its file, nor that notices were lost,
and it watches all directories below the given ones, also those whose files the filter rejects.
"""

import os
import threading
import time
from collections.abc import Iterable, Mapping

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.filters import PathFilter
from asgireload.development.watch.polling import (
    Picture,
    add_to_picture,
    compare,
    take_picture,
    tell_environment,
)
from asgireload.development.watch.tree import CLOCK_GRAIN, changed_at, identity_of, is_of_library

STEP_MILLISECONDS = 20
"""The step of watchfiles: a change is reported one or two steps after it, and `stop` takes effect within one."""
LONGEST_MILLISECONDS = 100
"""Longest time for which watchfiles collects changes that follow one another; `bursts.py` decides when to load."""
LOOK_MILLISECONDS = 1000
"""Longest wait between two checks of the libraries and of whether watched directories have been replaced."""


class WatchfilesTree:
    """Reports the same changes as `Tree`, with the limits of watchfiles that are listed above.

    A file that vanishes with its directory is reported by its own path. The target of a link to a single file is
    not watched. `begin` and `wait` raise OSError when the kernel or watchfiles cannot watch so much. `stop` may be
    called in any thread; the next or running `wait` then closes the descriptors and threads of watchfiles.
    """

    def __init__(
        self,
        directories: Iterable[str],
        chosen: PathFilter,
        environment_file: str | None = None,
        project_file: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._directories = tuple(directories)
        self._filter = chosen
        self._environment_file = environment_file
        self._project_file = project_file
        self._others = frozenset(
            path for path in (environment_file, project_file) if path is not None
        )
        self._polling = _polling(environ)
        self._has_ended = threading.Event()
        self._trees: RustNotify | None = None
        self._identities: dict[str, tuple[int, int] | None] = {}
        self._picture: Picture = {}
        self._entries: RustNotify | None = None
        """Watches the entries, without subdirectories, of the directories of libraries and of `others`."""
        self._libraries: tuple[str, ...] = ()
        self._libraries_since = float("inf")
        self._is_outdated = True
        """`_entries` does not watch the present `_libraries`."""

    def begin(self, since: float) -> Changes:
        """Begin to watch; return the changes after `since`, a wall clock time in seconds."""
        self._open_trees()
        files = (path for path in self._picture if path not in self._others)
        return Changes(arrived=frozenset(path for path in files if changed_at(path) >= since))

    def watch_libraries(self, directories: Iterable[str]) -> None:
        """Report changes of libraries in these directories from now on, instead of those given before."""
        self._libraries_since = time.time() - CLOCK_GRAIN
        self._libraries = tuple(directories)
        self._is_outdated = True

    def wait(self) -> Changes | None:
        """Wait for at most about LOOK_MILLISECONDS; return the changes, possibly none, or None after `stop`."""
        changes = NOTHING
        if self._is_outdated:
            self._is_outdated = False
            changes = self._open_entries()
        if self._trees is None:
            self._has_ended.wait(LOOK_MILLISECONDS / 1000)
        else:
            changes |= self._read_trees(self._ask(self._trees, LOOK_MILLISECONDS))
        if self._entries is not None:
            changes |= self._read_entries(self._ask(self._entries, 1))
        if self._has_ended.is_set():
            self._close()
            return None
        return self._told(changes | self._check())

    def stop(self) -> None:
        self._has_ended.set()

    def _told(self, changes: Changes) -> Changes:
        return tell_environment(changes, self._filter, self._environment_file, self._project_file)

    # --- reports of watchfiles --------------------------------------------------------------------

    def _ask(self, notify: RustNotify, timeout: int) -> set[str]:
        try:
            told = notify.watch(
                LONGEST_MILLISECONDS, min(STEP_MILLISECONDS, timeout), timeout, self._has_ended
            )
        except WatchfilesRustInternalError as error:
            raise OSError(str(error)) from error
        return set() if isinstance(told, str) else {path for _, path in told}

    def _read_trees(self, paths: Iterable[str]) -> Changes:
        changes = NOTHING
        for path in paths:
            if path in self._directories:
                self._identities[path] = None  # removed or replaced; watchfiles lost it
            elif path in self._others or (
                self._is_within_reach(path) and self._filter.accepts(path)
            ):
                changes |= self._look_at_file(_resolved(path))
            elif self._is_within_reach(path):
                changes |= self._look_at_directory(path)
        return changes

    def _read_entries(self, paths: Iterable[str]) -> Changes:
        changes = NOTHING
        for path in paths:
            if path in self._others:
                changes |= self._look_at_file(path)
            elif os.path.dirname(path) in self._libraries:
                changes |= Changes(is_environment=is_of_library(path))
        return changes

    def _look_at_file(self, path: str) -> Changes:
        """Return the change of a reported file, also when its state is unchanged: two saves may have one mtime."""
        self._picture.pop(path, None)
        add_to_picture(self._picture, path)
        if path in self._picture:
            return Changes(arrived=frozenset({path}))
        return Changes(vanished=frozenset({path}))

    def _look_at_directory(self, path: str) -> Changes:
        """Return the changes of files in a reported directory: watchfiles does not report them one by one."""
        is_there = os.path.isdir(path) and _may_hold_code(path, self._filter)
        path = _resolved(path)
        below = path + os.sep
        before = {known: seen for known, seen in self._picture.items() if known.startswith(below)}
        after = take_picture((path,), self._filter, ()) if is_there else {}
        for known in before:
            del self._picture[known]
        self._picture.update(after)
        return compare(before, after)

    def _is_within_reach(self, path: str) -> bool:
        """Return whether every directory between a watched one and `path` may hold code."""
        for top in self._directories:
            if path.startswith(top + os.sep):
                parent = os.path.dirname(path)
                while parent != top and _may_hold_code(parent, self._filter):
                    parent = os.path.dirname(parent)
                return parent == top
        return False

    def _check(self) -> Changes:
        identities = {directory: identity_of(directory) for directory in self._directories}
        if identities == self._identities:
            return NOTHING
        has_come_back = any(
            identity is not None and identity != self._identities.get(directory)
            for directory, identity in identities.items()
        )
        before = self._picture
        self._open_trees()
        return compare(before, self._picture) | Changes(is_vague=has_come_back)

    # --- watches ----------------------------------------------------------------------------------

    def _open_trees(self) -> None:
        if self._trees is not None:
            self._trees.close()
        self._identities = {directory: identity_of(directory) for directory in self._directories}
        self._trees = self._open(self._directories, recursive=True)
        # After the watch, so that later changes are reported.
        self._picture = take_picture(self._directories, self._filter, self._others)

    def _open_entries(self) -> Changes:
        """Watch libraries and other files; return the changes that have occurred before the watch."""
        if self._entries is not None:
            self._entries.close()
        places = {os.path.dirname(path) for path in self._others if not self._is_below(path)}
        self._entries = self._open((*places, *self._libraries), recursive=False)
        since = self._libraries_since
        before = {path: self._picture.pop(path) for path in self._others if path in self._picture}
        after: Picture = {}
        for path in self._others:
            add_to_picture(after, path)
        self._picture.update(after)
        return compare(before, after) | Changes(
            is_environment=any(
                is_of_library(path) and changed_at(path) >= since
                for directory in self._libraries
                for path in _entries_of(directory)
            )
        )

    def _open(self, directories: Iterable[str], *, recursive: bool) -> RustNotify | None:
        existing = [directory for directory in directories if os.path.isdir(directory)]
        if not existing:
            return None
        try:
            return RustNotify(existing, False, *self._polling, recursive, True)
        except FileNotFoundError:
            return None  # a directory was removed just now, which `_check` finds
        except WatchfilesRustInternalError as error:
            raise OSError(str(error)) from error

    def _is_below(self, path: str) -> bool:
        return any(path.startswith(directory + os.sep) for directory in self._directories)

    def _close(self) -> None:
        for notify in (self._trees, self._entries):
            if notify is not None:
                notify.close()
        self._trees = self._entries = None


def _may_hold_code(directory: str, chosen: PathFilter) -> bool:
    return chosen.enters(directory) and not os.path.exists(os.path.join(directory, "pyvenv.cfg"))


def _resolved(path: str) -> str:
    """Return the path with the links of its directory resolved, as an import names it."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _entries_of(directory: str) -> list[str]:
    try:
        return [os.path.join(directory, name) for name in os.listdir(directory)]
    except OSError:
        return []


def _polling(environ: Mapping[str, str]) -> tuple[bool, int]:
    """Return whether watchfiles is to poll, and its poll interval in milliseconds, from its environment
    variables."""
    forced = environ.get("WATCHFILES_FORCE_POLLING", "").lower()
    delay = environ.get("WATCHFILES_POLL_DELAY_MS", "")
    return forced not in ("", "0", "false", "disable"), int(delay) if delay.isdecimal() else 300
