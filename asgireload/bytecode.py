"""Remove bytecode that may belong to an older version of its source file.

Python accepts a `.pyc` file when it records the size of the source and its modification time in whole seconds
(`importlib`'s timestamp check). Two saves of the same size within one second look equal, so bytecode that a fast
reload compiles between them would be used for ever. Bytecode that was written within two seconds after a change of
its source is removed, so that the source is compiled again.
"""

import os
from collections.abc import Iterator
from importlib.util import cache_from_source

DOUBTFUL_SECONDS = 2.0
"""One second for the resolution of the recorded time, and one for file systems with coarse timestamps."""
_NOT_OURS = frozenset({"__pycache__", "site-packages", "node_modules", ".git", ".venv", "venv"})
"""Directories without source that a developer edits; installed packages do not change in place."""


def remove_doubtful_bytecode(directory: str) -> int:
    """Remove doubtful `.pyc` files of the sources below `directory`; return their number.

    Files that cannot be examined or removed are left, without an error.
    """
    return sum(remove_if_doubtful(path) for path in _sources(directory))


def _sources(directory: str) -> Iterator[str]:
    for parent, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if name not in _NOT_OURS]
        for name in names:
            if name.endswith(".py"):
                yield os.path.join(parent, name)


def remove_if_doubtful(source: str, *, is_strict: bool = False) -> bool:
    """Remove the bytecode of one source file if it is doubtful; return whether it was removed.

    `is_strict`, for development: the change time of the inode (ctime) counts, too, since a file with an old
    modification time may replace another (`mv`, `cp -p`, `rsync -t`). In container images this is so for every
    file, and harmless.
    """
    bytecode = cache_from_source(source)
    try:
        compiled_at = os.stat(bytecode).st_mtime
        status = os.stat(source)
        # Programs can set the modification time back, but not the ctime.
        changed_at = max(status.st_mtime, status.st_ctime) if is_strict else status.st_mtime
        if compiled_at >= changed_at + DOUBTFUL_SECONDS:
            return False
        os.unlink(bytecode)
    except OSError:
        return False
    return True
