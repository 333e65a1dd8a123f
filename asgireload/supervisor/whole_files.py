"""Files that are there as a whole or not at all, also where the disk is full."""

import os
from collections.abc import Callable
from contextlib import suppress


def replace_file(
    path: str,
    data: bytes,
    *,
    mode: int,
    place: Callable[[str, str], None] = os.replace,
    on_written: Callable[[int], None] | None = None,
) -> None:
    """Put `data` at `path` in one rename, so that nobody reads half of it. Raise OSError, with nothing left behind.

    `mode` is for a file that is new, less what the umask forbids. `on_written` is given the descriptor of the whole
    file before `place` moves it to the path.
    """
    temporary = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, mode), "wb", buffering=0) as file:
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
            if on_written is not None:
                on_written(file.fileno())
            place(temporary, path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is told
                os.unlink(temporary)
            raise


def place_new(temporary: str, path: str) -> None:
    """Move a file to a path at which there is none. Raise FileExistsError where there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        os.replace(temporary, path)  # a file system without links
    else:
        os.unlink(temporary)
