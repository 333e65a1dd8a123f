"""Listening Unix sockets: taking a path that a dead server left, and giving it back only if still ours."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

from asgireload.errors import ListenError

LOCK_TIMEOUT = 5.0
"""Seconds to wait for the directory's lock, which any of us holds for a few system calls only."""
_LOCK_POLL_INTERVAL = 0.01
SOCKET_MODE = 0o666
"""As other servers do: who may connect is the directory's business, since a proxy runs as another user."""

FileIdentity = tuple[int, int]
"""Device and inode: a path that shows another identity was taken over by a successor."""


def open_unix(path: str, backlog: int) -> tuple[socket.socket, FileIdentity]:
    """Return a listening socket at `path` and the identity of its file, for `remove_unix`.

    A socket file on which nobody listens is replaced. The caller closes the socket. Raise ListenError.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Locked, so that two servers that start together cannot both take the path for stale.
        with _locked_directory_of(path):
            _remove_stale(path)
            sock.bind(path)
            os.chmod(path, SOCKET_MODE)
            sock.listen(backlog)
            identity = _identity(path)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock, identity


def remove_unix(path: str, identity: FileIdentity) -> None:
    """Remove the socket's file, unless it is gone or a successor's."""
    try:
        with _locked_directory_of(path):
            if _identity(path) == identity:
                os.unlink(path)
    except (OSError, ListenError):
        # A file left behind is harmless: nobody listens there, so the next server replaces it.
        pass


def _identity(path: str) -> FileIdentity:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"cannot listen on unix:{path}: a file that is no socket is there; it was not replaced"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Not blocking: a full queue answers EAGAIN, and also means that somebody listens.
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:
        os.unlink(path)
    elif result == errno.EACCES:
        raise ListenError(
            f"cannot listen on unix:{path}: a socket of another user is there; remove it or give"
            " another path"
        )
    elif result != errno.ENOENT:
        raise ListenError(
            f"cannot listen on unix:{path}: another server listens there; stop it or give another path"
        )


@contextmanager
def _locked_directory_of(path: str) -> Iterator[None]:
    """Hold an advisory lock on the directory; raise ListenError if it cannot be had in time."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # A directory we may write but not read: the lock guards a rare race, binding works without.
        yield
        return
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ListenError(
                        f"cannot listen on unix:{path}: another process keeps {directory} locked"
                    ) from None
                time.sleep(_LOCK_POLL_INTERVAL)
        yield
    finally:
        os.close(descriptor)
