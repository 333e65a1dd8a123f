"""Files that are there as a whole or not at all, also where the disk is full."""

import os
from contextlib import suppress


def replace_file(path: str, data: bytes, *, mode: int) -> None:
    """Put `data` at `path` in one rename, so that nobody reads half of it. Raise OSError, with nothing left behind.

    `mode` is for a file that is new, less what the umask forbids.
    """
    temporary = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, mode), "wb", buffering=0) as file:
        try:
            written = 0
            while written < len(data):
                written += file.write(data[written:])
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):  # what went wrong first is told
                os.unlink(temporary)
            raise
