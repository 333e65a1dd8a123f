"""Remove bytecode that could stand for an older version of a source file.

Python takes a `.pyc` for valid when it names the source's size and its time of change in whole seconds
(`importlib`'s timestamp check). Two saves of the same size within one second look alike, so the first
version would be served for ever by whoever imports in between, which a fast reload does. Bytecode that
was written within two seconds of its source's change is not trusted: it is compiled anew, once.
"""

import os
from collections.abc import Iterator
from importlib.util import cache_from_source

DOUBTFUL_SECONDS = 2.0
"""One second of the time stamp's grain, and one for coarse file systems."""
_NOT_OURS = frozenset({"__pycache__", "site-packages", "node_modules", ".git", ".venv", "venv"})
"""Directories without source that a developer saves; installed packages do not change in place."""


def remove_doubtful_bytecode(directory: str) -> int:
    """Remove doubtful `.pyc` files of the sources below `directory`; return how many.

    A file that cannot be looked at or removed is left: importing it says more than we could.
    """
    return sum(remove_if_doubtful(path) for path in _sources(directory))


def _sources(directory: str) -> Iterator[str]:
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name not in _NOT_OURS]
        for name in names:
            if name.endswith(".py"):
                yield os.path.join(parent, name)


def remove_if_doubtful(source: str, *, is_strict: bool = False) -> bool:
    """Remove the bytecode of one source file if it is doubtful; return whether it was.

    `is_strict`, for development: a file may also come with an old time of change into the place of another
    (`mv`, `cp -p`, `rsync -t`). In images with bytecode in them that is so for every file, and no harm.
    """
    bytecode = cache_from_source(source)
    try:
        compiled_at = os.stat(bytecode).st_mtime
        status = os.stat(source)
        # The time of change of the entry is the kernel's own: nobody can set it back.
        changed_at = max(status.st_mtime, status.st_ctime) if is_strict else status.st_mtime
        if compiled_at >= changed_at + DOUBTFUL_SECONDS:
            return False
        os.unlink(bytecode)
    except OSError:
        return False
    return True
