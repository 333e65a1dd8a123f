"""Listening Unix sockets: taking a path that a dead server left, and giving it back only if still ours.

Used for what clients connect to and for what operators do; they differ in mode and backlog.
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
"""Seconds to wait for the directory's lock, which any of us holds for a few system calls only."""
_LOCK_POLL_INTERVAL = 0.01


class SocketFile(msgspec.Struct, frozen=True):
    """The file of a listening socket, remembered so that only this one is ever removed."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, sock: socket.socket) -> "SocketFile":
        """Call right after `open_unix`."""
        path: str = sock.getsockname()
        status = os.stat(path)
        return cls(path, status.st_dev, status.st_ino)

    def remove(self) -> None:
        """Remove the file, unless it is gone or a successor has taken its place.

        Call it while the socket still listens: until then nobody takes the file for stale, so nothing
        can come between looking and removing. After it new clients find no server, not a dead one.
        """
        try:
            status = os.stat(self.path)
            if (status.st_dev, status.st_ino) == (self.device, self.inode):
                os.unlink(self.path)
        except OSError:
            # Gone with its directory, or no longer ours to remove: a leftover harms nobody, since
            # whoever meets it removes it as stale.
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

    A socket file on which nobody listens is replaced; with `mode` None its permissions are kept, and there are
    the usual ones where there is none. `owner` is as chown(1) takes it. The file never gives anybody
    more rights than in the end, and nobody can connect before it has those. The caller closes the socket and
    removes its file, see `SocketFile`. Raise ListenError, and ConfigError for an owner that there is not.
    """
    user, group = resolve_owner(owner) if owner is not None else (-1, -1)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Locked, so that nobody takes a socket between bind and listen for stale.
        with _locked_directory(path):
            found = _remove_stale(path)
            if mode is None:
                mode = usual_mode if found is None else found
            # Set before bind, so that the file never has more rights than these; and after it, since
            # bind takes away those that the umask forbids.
            os.fchmod(sock.fileno(), mode)
            sock.bind(path)
            try:
                os.chmod(path, mode)
                if owner is not None:
                    # Not called where nobody asks: system call filters kill for it (`~@privileged`).
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
    """Remove a socket file on which nobody listens; return whether it is gone."""
    try:
        with _locked_directory(path):
            _remove_stale(path)
    except (OSError, ListenError):
        # Somebody listens or is at work on the directory, or it is gone: what is left is harmless,
        # since the next start with this path replaces it.
        return not os.path.lexists(path)
    return True


def resolve_owner(owner: str) -> tuple[int, int]:
    """Return the numbers of user and group, -1 for what is not to change. Raise ConfigError for unknown names."""
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
    """Remove a socket on which nobody listens, and return its permissions; None where there was no file."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
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
