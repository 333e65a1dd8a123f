"""Reads the messages http.response.pathsend and zerocopysend: which part of which file they send.

`ResponseStream.send_file` sends the file.
"""

import os
import stat

from asgireload.errors import AppProtocolError


def open_file(path: object) -> tuple[int, int]:
    """Open a regular file for reading; return its descriptor, which the caller closes, and its size.

    A relative path is relative to the working directory. Raise AppProtocolError if `path` is not a path or not that
    of a regular file, OSError as open(2) does.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise AppProtocolError(f"pathsend needs a path, not {path!r:.100}")
    # O_NONBLOCK: to open a FIFO would block until its other end is opened.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise AppProtocolError(f"{path!r} is not a regular file")
    return descriptor, status.st_size


def span_of(file: object, offset: object, count: object) -> tuple[int, int, int, bool]:
    """Return the descriptor, the offset, the number of bytes, and whether the caller must move the file position.

    `file` has a `fileno()`, or is a descriptor; it is not closed. If `offset` is None, sending starts at the file
    position, which moves, as with sendfile(2). If `count` is None, sending goes to the end of the file. Raise
    AppProtocolError for a file that is not a regular one, and for bytes outside of the file.
    """
    descriptor = file if isinstance(file, int) else _fileno(file)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise AppProtocolError("zerocopysend needs a regular file")
    moves = offset is None
    start = os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset
    if not isinstance(start, int) or start < 0:
        raise AppProtocolError(f"{offset!r} is not an offset in a file")
    rest = max(status.st_size - start, 0)
    size = rest if count is None else count
    if not isinstance(size, int) or not 0 <= size <= rest:
        raise AppProtocolError(f"the file has {rest} bytes behind its offset, not {count!r}")
    return descriptor, start, size, moves


def _fileno(file: object) -> int:
    fileno = getattr(file, "fileno", None)
    if fileno is None:
        raise AppProtocolError(f"zerocopysend needs an open file, not {type(file).__name__}")
    return int(fileno())
