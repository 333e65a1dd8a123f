"""Write files that exist completely or not at all, even when the disk is full."""

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
    """Write `data` to `path` with one rename, so that no reader sees a part. Raise OSError, with nothing left
    behind.

    `mode` is for a new file, minus the umask. `on_written` is called with the descriptor of the complete file
    before `place` moves the file to the path.
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
            with suppress(OSError):  # the first error is the one to raise
                os.unlink(temporary)
            raise


def place_new(temporary: str, path: str) -> None:
    """Move a file to a free path. Raise FileExistsError if there is one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        os.replace(temporary, path)  # a file system without links
    else:
        os.unlink(temporary)
