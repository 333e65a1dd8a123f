"""Which changed paths ask for a reload. Pure.

Patterns are matched against the file's name and against its path below the watched directory. By default Python
files are accepted; files of version control, virtual environments, caches and temporary files of editors are not.
The user's patterns come before the defaults: `--reload-include .env` accepts that file, although it is hidden.
"""

import os
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

import msgspec

from asgireload.development.pages.events import is_exchangeable

DEFAULT_INCLUDE = ("*.py",)
DEFAULT_EXCLUDE = (".*", "*.py[cod]", "*.sw?", "*~", "#*#", "4913")
"""Hidden files, bytecode, and temporary files of vim and emacs."""
IGNORED_DIRECTORIES = frozenset(
    {"__pycache__", "site-packages", "dist-packages", "node_modules", "venv"}
)
"""Ignored in addition to hidden directories, such as .git, .venv, .tox and .mypy_cache."""


class PathFilter(msgspec.Struct, frozen=True):
    """Decides for each path whether its change asks for a reload."""

    directories: tuple[str, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    with_assets: bool = False
    """Accept style sheets and images, too. Their changes cause no reload: open pages replace them."""

    def is_asset(self, path: str) -> bool:
        """Return whether a change of `path` is sent to open pages instead of a reload, also if the user includes
        it."""
        return self.with_assets and is_exchangeable(path)

    def accepts(self, path: str) -> bool:
        below = self._below(path)
        *parents, name = below.split(os.sep)
        if not all(is_entered(parent) for parent in parents):
            return False
        if _matches(name, below, self.exclude):
            return False
        if _matches(name, below, self.include):
            return True
        is_meant = self.is_asset(path) or _matches(name, below, DEFAULT_INCLUDE)
        return is_meant and not _matches(name, below, DEFAULT_EXCLUDE)

    def enters(self, directory: str) -> bool:
        """Return whether a file in `directory` could be accepted; other directories are not watched."""
        below = self._below(directory)
        name = os.path.basename(directory)
        return is_entered(name) and not _matches(name, below, self.exclude)

    def _below(self, path: str) -> str:
        """Return the path below the watched directory that holds it.

        Directories above the watched one are not matched: a project in ~/.config or in a directory named venv is
        watched, too.
        """
        for directory in self.directories:
            if path.startswith(directory + os.sep):
                return path[len(directory) + 1 :]
        return os.path.basename(path)


def make_filter(
    directories: Sequence[str],
    include: Iterable[str],
    exclude: Iterable[str],
    *,
    with_assets: bool = False,
) -> PathFilter:
    """Return the filter for absolute `directories`; the user's patterns come before the defaults."""
    return PathFilter(tuple(directories), tuple(include), tuple(exclude), with_assets)


def is_entered(name: str) -> bool:
    """Return whether a directory of this name may hold code; hidden directories, caches and the like may not."""
    return not name.startswith(".") and name not in IGNORED_DIRECTORIES


def describe(paths: Iterable[str], most: int = 3) -> str:
    """Return the changed files in a few words, relative to the working directory if there is one."""
    try:
        names = sorted(os.path.relpath(path) for path in paths)
    except FileNotFoundError:
        names = sorted(paths)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _matches(name: str, below: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) or fnmatch(below, pattern) for pattern in patterns)
