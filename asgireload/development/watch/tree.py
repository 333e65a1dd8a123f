"""Directory trees watched with inotify: one watch for each directory that may hold code.

inotify reports the entries of single directories, so each directory of a tree has a watch; entries of a new
directory that were created before its watch are found by listing it. In addition to trees, single directories are
watched of which only some entries matter: the parent of a watched directory (which may be deleted and created
again), the directory of a symbolic link's target, and directories of installed libraries.
"""

import errno
import os
import stat
from collections.abc import Iterable

import msgspec

from asgireload.development.watch import inotify
from asgireload.development.watch.changes import NOTHING, Changes
from asgireload.development.watch.filters import PathFilter
from asgireload.development.watch.inotify import Inotify, Notice

_LIBRARY_SUFFIXES = (".py", ".so", ".pth", ".dist-info", ".egg-link")
"""Suffixes of entries in a library directory whose change means that a library was installed, removed or
changed."""


CLOCK_GRAIN = 0.02
"""Seconds by which timestamps of files may be behind the clock: they advance with the kernel's timer tick."""


class _Watched(msgspec.Struct):
    """A watched directory with the purposes of its watch, of which it may have several."""

    path: str
    is_tree: bool = False
    has_code: bool = False
    """An accepted file was seen in the directory, so its removal is a change."""
    names: set[str] = msgspec.field(default_factory=set)
    """Single entries that matter: targets of links, watched directories, environment and project file."""
    is_library: bool = False

    @property
    def is_wanted(self) -> bool:
        return self.is_tree or bool(self.names) or self.is_library


class Tree:
    """Watches `directories`, which are resolved paths, with all subdirectories that the filter enters, and
    `environment_file`.

    A change of `project_file` is a change of the environment, too, but does not ask for a reload. A tree is used by
    one thread at a time. It owns its descriptor until `close()`. Methods raise OSError at the kernel's limits
    (ENOSPC, EMFILE, ENOMEM); a directory that cannot be read is left out.
    """

    def __init__(
        self,
        directories: Iterable[str],
        chosen: PathFilter,
        environment_file: str | None = None,
        project_file: str | None = None,
    ) -> None:
        self._directories = tuple(directories)
        self._filter = chosen
        self._environment_file = environment_file
        self._project_file = project_file
        self._library_directories: tuple[str, ...] = ()
        self._inotify = Inotify()
        self._by_watch: dict[int, _Watched] = {}
        self._by_path: dict[str, int] = {}
        self._identities: dict[str, tuple[int, int] | None] = {}
        """Device and inode of each watched directory; None for a missing one."""
        self._tells_of: dict[str, str] = {}
        """Target of a symbolic link to a file, to the link."""

    def fileno(self) -> int:
        return self._inotify.fileno()

    def close(self) -> None:
        self._inotify.close()

    def begin(self, since: float) -> Changes:
        """Add all watches; return the changes after `since`, a wall clock time in seconds. Close on OSError."""
        found: set[str] = set()
        try:
            for directory in self._directories:
                self._look_out(os.path.dirname(directory), os.path.basename(directory))
                self._enter(directory, found)
                self._identities[directory] = identity_of(directory)
            self._look_out_for_files()
        except OSError:
            self.close()
            raise
        return Changes(arrived=frozenset(path for path in found if changed_at(path) >= since))

    def watch_libraries(self, directories: Iterable[str]) -> None:
        """Report changes of libraries in these directories from now on, instead of those given before."""
        wanted = set(directories)
        for watched in list(self._by_watch.values()):
            if watched.is_library and watched.path not in wanted:
                watched.is_library = False
                self._forget_unwanted(watched)
        for directory in wanted:
            if (place := self._watch(directory)) is not None:
                place.is_library = True
        self._library_directories = tuple(wanted)

    def read(self) -> Changes:
        """Return the changes since the last call, without waiting."""
        changes = NOTHING
        while notices := self._inotify.read():
            for notice in notices:
                if notice.mask & inotify.OVERFLOW:
                    # Lost notices may have been about new directories, so all watches are added again.
                    return self._begin_anew()
                changes |= self._take(notice)
        return changes

    def check(self) -> Changes:
        """Return the changes when a watched directory was replaced; call it at intervals.

        inotify does not report that a directory above the parent of a watched one was moved or deleted.
        """
        changes = NOTHING
        for directory in self._directories:
            identity = identity_of(directory)
            if identity == self._identities.get(directory):
                continue
            changes |= self._leave(directory)
            if identity is not None:
                self._look_out(os.path.dirname(directory), os.path.basename(directory))
                changes |= self._enter_again(directory)
            self._identities[directory] = identity
        return changes

    # --- notices ----------------------------------------------------------------------------------

    def _take(self, notice: Notice) -> Changes:
        watched = self._by_watch.get(notice.watch)
        if watched is None:
            return NOTHING
        if notice.mask & inotify.IGNORED:
            self._forget(notice.watch)
            return NOTHING
        if not notice.name:
            return self._take_self(watched, notice)
        path = os.path.join(watched.path, notice.name)
        came = bool(notice.mask & (inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.CREATE))
        changes = NOTHING
        if watched.is_library:
            changes |= Changes(is_environment=is_of_library(notice.name))
        if notice.name in watched.names:
            changes |= self._take_named(path, notice, came=came)
        if watched.is_tree:
            if notice.is_directory:
                changes |= self._take_directory(path, came=came)
            else:
                changes |= self._take_file(watched, path, notice, came=came)
        return changes

    def _take_self(self, watched: _Watched, notice: Notice) -> Changes:
        """Handle the removal or renaming of a watched directory; the watch of its parent reports a new one."""
        if notice.mask & inotify.MOVE_SELF:
            # The watch follows the directory, not its name.
            return self._leave(watched.path)
        return NOTHING

    def _take_named(self, path: str, notice: Notice, *, came: bool) -> Changes:
        """Handle a notice about a single entry: a watched directory, a link's target, --env-file, project file."""
        if path in self._directories:
            if not came:
                return self._leave(path)
            return self._enter_again(path)
        is_complete = not notice.mask & inotify.CREATE or _is_link(path)
        if came and not is_complete:
            return NOTHING
        if path == self._project_file:
            return Changes(is_environment=True)
        changed = frozenset({self._tells_of.get(path, path)})
        is_environment = path == self._environment_file
        if came:
            return Changes(arrived=changed, is_environment=is_environment)
        return Changes(vanished=changed, is_environment=is_environment)

    def _enter_again(self, directory: str) -> Changes:
        """Watch a directory that was created again."""
        found: set[str] = set()
        self._identities[directory] = identity_of(directory)
        self._enter(directory, found)
        return Changes(arrived=frozenset(found), is_vague=True)

    def _take_directory(self, path: str, *, came: bool) -> Changes:
        if not came:
            return self._leave(path)
        found: set[str] = set()
        self._enter(path, found)
        return Changes(arrived=frozenset(found))

    def _take_file(self, watched: _Watched, path: str, notice: Notice, *, came: bool) -> Changes:
        if notice.mask & inotify.CREATE:
            # A file is complete when it is closed; a link is complete when it exists.
            if not _is_link(path):
                return NOTHING
            found: set[str] = set()
            self._follow(path, found)
            return Changes(arrived=frozenset(found))
        if not self._filter.accepts(path):
            return NOTHING
        if came:
            watched.has_code = True
            return Changes(arrived=frozenset({path}))
        return Changes(vanished=frozenset({path}))

    def _begin_anew(self) -> Changes:
        for watch in list(self._by_watch):
            self._inotify.remove(watch)
        self._by_watch.clear()
        self._by_path.clear()
        self._tells_of.clear()
        while self._inotify.read():
            pass  # notices of removed watches
        for directory in self._directories:
            self._look_out(os.path.dirname(directory), os.path.basename(directory))
            self._enter(directory, set())
        self._look_out_for_files()
        self.watch_libraries(self._library_directories)
        return Changes(is_vague=True, is_environment=True)

    # --- watches ----------------------------------------------------------------------------------

    def _enter(self, top: str, found: set[str]) -> None:
        """Watch a directory with its subdirectories; add their accepted files to `found`."""
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            if directory not in self._directories and not self._filter.enters(directory):
                continue
            known = self._by_path.get(directory)
            if known is not None and self._by_watch[known].is_tree:
                continue  # two links, or a tree within a tree
            watched = self._watch(directory)
            if watched is None:
                continue
            watched.is_tree = True
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if entry.is_symlink():
                            self._follow(entry.path, found)
                        elif entry.is_dir(follow_symlinks=False):
                            if not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                                waiting.append(entry.path)
                        elif self._filter.accepts(entry.path):
                            watched.has_code = True
                            found.add(entry.path)
            except OSError:
                continue  # deleted, or not readable

    def _follow(self, link: str, found: set[str]) -> None:
        """Watch the target of a symbolic link: a directory as part of the tree, a file by its name."""
        target = os.path.realpath(link)
        if os.path.isdir(target):
            if not any(_is_within(target, directory) for directory in self._directories):
                self._enter(target, found)
        elif self._filter.accepts(link):
            found.add(link)
            self._tells_of[target] = link
            self._look_out(*os.path.split(target))

    def _look_out_for_files(self) -> None:
        for path in (self._environment_file, self._project_file):
            if path is not None:
                self._look_out(*os.path.split(path))

    def _look_out(self, directory: str, name: str) -> None:
        if (watched := self._watch(directory)) is not None:
            watched.names.add(name)

    def _watch(self, directory: str) -> _Watched | None:
        """Return the watch of a directory; None when the directory does not exist or cannot be read."""
        if (known := self._by_path.get(directory)) is not None:
            return self._by_watch[known]
        try:
            number = self._inotify.add(directory)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE, errno.ENOMEM):
                raise
            return None
        if number in self._by_watch:
            # The path is another name of a watched directory.
            return self._by_watch[number]
        self._by_path[directory] = number
        watched = self._by_watch[number] = _Watched(directory)
        return watched

    def _leave(self, top: str) -> Changes:
        """Remove the watches of a directory and those below; return a change if there was code in them."""
        gone = [
            (number, watched)
            for number, watched in self._by_watch.items()
            if _is_within(watched.path, top)
        ]
        had_code = any(watched.has_code for _, watched in gone)
        for number, _ in gone:
            self._forget(number)
            self._inotify.remove(number)
        return Changes(vanished=frozenset({top})) if had_code else NOTHING

    def _forget_unwanted(self, watched: _Watched) -> None:
        if not watched.is_wanted and (number := self._by_path.get(watched.path)) is not None:
            self._forget(number)
            self._inotify.remove(number)

    def _forget(self, number: int) -> None:
        watched = self._by_watch.pop(number, None)
        if watched is not None:
            self._by_path.pop(watched.path, None)


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + os.sep)


def is_of_library(path: str) -> bool:
    """Return whether a change of this entry of a library directory is a change of the libraries."""
    return path.endswith(_LIBRARY_SUFFIXES)


def identity_of(directory: str) -> tuple[int, int] | None:
    """Return device and inode number; None when the directory is missing."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_link(path: str) -> bool:
    """Return whether an entry is complete when it is created: a symbolic link, or a hard link to a file."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISLNK(status.st_mode) or status.st_nlink > 1


def changed_at(path: str) -> float:
    """Return the later of mtime and ctime, a wall clock time in seconds; -inf when the file is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return float("-inf")
    return max(status.st_mtime, status.st_ctime)
