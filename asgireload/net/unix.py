"""Open listening Unix sockets, replacing stale files, and remove only files of this server.

Used for the sockets of clients and of the admin server, which differ in mode and backlog.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from asgireload.errors import ConfigError, ListenError

LOCK_TIMEOUT = 2.0
"""Seconds to wait for the lock of the directory, which each server holds for a few system calls only."""
_LOCK_POLL_INTERVAL = 0.01


class SocketFile(msgspec.Struct, frozen=True):
    """The file of a listening socket, identified by its inode so that no other file is ever removed."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, sock: socket.socket) -> "SocketFile":
        """Return the file of `sock`. Call right after `open_unix`. Raise OSError if the file is gone."""
        path: str = sock.getsockname()
        status = os.stat(path)
        return cls(path, status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove the file, unless it is gone or the file of another socket has replaced it.

        Call this while the socket still listens: as long as it does, no server takes the file for stale, so it
        cannot be replaced between check and removal. Afterwards new clients find no file, rather than a dead
        socket.
        """
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                os.unlink(self.path)
        except OSError:
            # The directory is gone, or may no longer be written: a leftover file does no harm, since the next
            # server replaces it as stale.
            pass


def open_unix(
    path: str,
    *,
    mode: int | None,
    usual_mode: int = 0o600,
    owner: str | None = None,
    backlog: int,
) -> socket.socket:
    """Return a listening, non-blocking socket at the absolute `path`, whose file has `mode`, and `owner` if given.

    A stale socket file, on which no process listens, is replaced. With `mode` None its permissions are kept, or are
    `usual_mode` if there was no file. `owner` has the syntax of chown(1). The file never has more permissions than
    in the end, and no client can connect before it has those. The caller closes the socket and removes its file,
    see `SocketFile`. Raise ListenError, or ConfigError for an unknown owner.
    """
    user, group = resolve_owner(owner) if owner is not None else (-1, -1)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Locked, so that no other server takes a socket between bind and listen for stale.
        with _locked_directory(path):
            found = _remove_stale(path)
            if mode is None:
                mode = usual_mode if found is None else found
            # Set before bind, so that the file never has more permissions than these; and again after bind, which
            # removes those that the umask forbids.
            os.fchmod(sock.fileno(), mode)
            sock.bind(path)
            try:
                os.chmod(path, mode)
                if owner is not None:
                    # Called only on request: a system call filter (`~@privileged`) kills a process for chown.
                    _give_to(path, owner, user, group)
                sock.listen(backlog)
            except BaseException:
                os.unlink(path)
                raise
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise ListenError(f"cannot listen on unix:{path}: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def remove_stale_socket(path: str) -> bool:
    """Remove a socket file on which no process listens; return whether the file is gone."""
    try:
        with _locked_directory(path):
            _remove_stale(path)
    except (OSError, ListenError):
        # A process listens, another holds the lock, or the directory is gone. A file that is left is harmless,
        # since the next start with this path replaces it.
        return not os.path.lexists(path)
    return True


def resolve_owner(owner: str) -> tuple[int, int]:
    """Return uid and gid of an owner, -1 for one that is not to change. Raise ConfigError for unknown names."""
    import grp
    import pwd

    user_name, _, group_name = owner.partition(":")
    user = group = -1
    try:
        if user_name:
            user = int(user_name) if user_name.isdigit() else pwd.getpwnam(user_name).pw_uid
        if group_name:
            group = int(group_name) if group_name.isdigit() else grp.getgrnam(group_name).gr_gid
    except KeyError as error:
        raise ConfigError(
            f"owner '{owner}': this system knows no such user or group ({error.args[0]})"
        ) from error
    return user, group


def _give_to(path: str, owner: str, user: int, group: int) -> None:
    try:
        os.chown(path, user, group, follow_symlinks=False)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen on unix:{path}: it cannot be given to '{owner}' ({reason}); only root may name"
            " another user, and others only a group that they are in"
        ) from error


def _remove_stale(path: str) -> int | None:
    """Remove a socket file on which no process listens, and return its permissions; None if there was no file.

    Raise ListenError if the path is in use.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            f"cannot listen on unix:{path}: a file that is no socket is there; it was not replaced"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # Non-blocking: a full queue results in EAGAIN, which also means that a process listens.
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:
        os.unlink(path)
        return stat.S_IMODE(mode) & 0o777
    elif result == errno.EACCES:
        raise ListenError(
            f"cannot listen on unix:{path}: a socket of another user is there; remove it or give"
            " another path"
        )
    elif result != errno.ENOENT:
        raise ListenError(
            f"cannot listen on unix:{path}: another server listens there; stop it or give another path"
        )
    return None


@contextmanager
def _locked_directory(path: str) -> Iterator[None]:
    """Hold an advisory lock on the directory of `path`. Raise ListenError after LOCK_TIMEOUT."""
    directory = os.path.dirname(os.path.abspath(path))
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # A directory that may be written but not read: the lock prevents a rare race, and binding works without.
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
