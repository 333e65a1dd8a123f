"""Which changed paths mean new code. Pure.

Patterns are matched against the file's name and against its path below the watched directory. By default
Python files count; version control, virtual environments, caches and editors' temporary files never do.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

DEFAULT_INCLUDE = ("*.py",)
DEFAULT_EXCLUDE = (".*", "*.py[cod]", "*.sw?", "*~", "#*#", "4913")
"""Hidden files, bytecode, and what vim and emacs write while they save."""
IGNORED_DIRECTORIES = frozenset(
    {
        "__pycache__",
        "site-packages",
        "node_modules",
        "venv",
        ".venv",
        ".git",
        ".hg",
        ".svn",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
    }
)


@dataclass(frozen=True, slots=True)
class PathFilter:
    """Answers for each path whether a change of it asks for a reload."""

    directories: tuple[str, ...]
    include: tuple[str, ...] = DEFAULT_INCLUDE
    exclude: tuple[str, ...] = DEFAULT_EXCLUDE

    def accepts(self, path: str) -> bool:
        below = self._below(path)
        *parents, name = below.split(os.sep)
        if not IGNORED_DIRECTORIES.isdisjoint(parents):
            return False
        if _matches(name, below, self.exclude):
            return False
        return _matches(name, below, self.include)

    def _below(self, path: str) -> str:
        """Return the path below the watched directory that holds it.

        What lies above is the user's business: a project in ~/.config or in a folder named venv is
        watched all the same.
        """
        for directory in self.directories:
            if path.startswith(directory + os.sep):
                return path[len(directory) + 1 :]
        return os.path.basename(path)


def make_filter(
    directories: Sequence[str], include: Iterable[str], exclude: Iterable[str]
) -> PathFilter:
    """Return the filter for absolute `directories`; the user's patterns are added to the defaults."""
    return PathFilter(
        tuple(directories),
        (*DEFAULT_INCLUDE, *include),
        (*DEFAULT_EXCLUDE, *exclude),
    )


def describe(paths: Iterable[str], most: int = 3) -> str:
    """Return the changed files in a few words, relative to the working directory."""
    names = sorted(os.path.relpath(path) for path in paths)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _matches(name: str, below: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) or fnmatch(below, pattern) for pattern in patterns)
