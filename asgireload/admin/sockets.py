"""Where the admin sockets of a host live, and how they are opened and removed.

The Unix socket `<pid>.sock` lies in a runtime directory of the user, and the permissions of both are
all that guards it: so a directory that another user could have prepared is refused, not repaired.
Finding a running server by its socket is left to `client`, serving to `server`.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from asgireload.errors import ConfigError, ListenError

AUTO = "auto"
BACKLOG = 128
"""Operators and probes: far fewer than clients, and a full queue only makes them wait."""
MAX_PATH_BYTES = 107
"""`sun_path` holds 108 bytes with the terminating zero (unix(7))."""
LOCK_TIMEOUT = 2.0
"""Seconds to wait for other servers that start or stop in the same directory."""


def runtime_directories(
    environ: Mapping[str, str] = os.environ, uid: int | None = None
) -> tuple[str, ...]:
    """Return the places where a server of this user may keep its socket, the preferred one first.

    A server uses the first; whoever looks for servers looks in all, because a service and a login
    shell of one user can have different environments.
    """
    user = os.geteuid() if uid is None else uid
    bases = []
    configured = environ.get("XDG_RUNTIME_DIR", "")
    # Kept by `sudo -E`, so it may belong to another user; the specification rules that out.
    if os.path.isabs(configured) and _is_directory_of(configured, user):
        bases.append(configured)
    login = f"/run/user/{user}"
    if login not in bases and _is_directory_of(login, user):
        bases.append(login)
    return (*(os.path.join(base, "asgireload") for base in bases), f"/tmp/asgireload-{user}")  # noqa: S108 - check_directory refuses what another user made there


def make_runtime_directory() -> str:
    """Return the user's runtime directory, made with mode 0700 when missing. Raise ConfigError."""
    path = runtime_directories()[0]
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # Whose it is, and of what kind, is checked below.
    except OSError as error:
        raise ConfigError(
            f"the directory {path} for the admin socket cannot be made ({error.strerror}): "
            "give --admin-socket PATH, or --admin-socket none"
        ) from error
    check_directory(path)
    return path


def check_directory(path: str) -> None:
    """Raise ConfigError unless `path` is a real directory that only this user can use."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(f"{path} must be a directory (no symbolic link): remove it and try again")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"{path} belongs to user {status.st_uid}: give --admin-socket PATH in a directory of your own"
        )
    if status.st_mode & 0o077:
        raise ConfigError(f"{path} can be used by group or others: chmod 700 {path}")


def open_admin_unix(path: str = AUTO) -> socket.socket:
    """Return a listening, non-blocking Unix socket with mode 0600 at `path`.

    `auto` means `<pid>.sock` in the runtime directory. A socket file that nobody listens on any more is
    replaced. The caller closes the socket and removes its file, see `SocketFile`. Raise ConfigError for
    a path that cannot be used, ListenError when somebody listens there.
    """
    if path == AUTO:
        path = os.path.join(make_runtime_directory(), f"{os.getpid()}.sock")
    path = os.path.abspath(path)
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise ConfigError(
            f"the admin socket path {path} is {size} bytes long; a Unix socket allows "
            f"{MAX_PATH_BYTES}: give a shorter --admin-socket PATH"
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_unix(sock, path)
    except OSError as error:
        sock.close()
        raise ConfigError(f"the admin socket {path} cannot be made: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


@dataclass(frozen=True, slots=True)
class SocketFile:
    """The file of a listening socket, remembered so that only this one is ever removed."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, sock: socket.socket) -> "SocketFile":
        """Call right after `open_admin_unix`."""
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


def remove_stale_socket(path: str) -> bool:
    """Remove a socket file on which nobody listens; return whether it is gone."""
    try:
        with _locked_directory(path):
            return _remove_if_stale(path)
    except (OSError, ListenError):
        # Somebody is at work on the directory, or it is gone: what is left is harmless, since the
        # next start with this path replaces it.
        return False


def open_admin_tcp(host: str, port: int) -> socket.socket:
    """Return a listening, non-blocking TCP socket; port 0 takes a free one. The caller closes it.

    Raise ListenError when the address cannot be bound.
    """
    try:
        addresses = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ListenError(f"admin_host {host!r}: {error.strerror}") from error
    failure: OSError | None = None
    for family, _, _, _, address in addresses:
        # The protocol is named because asyncio sets TCP_NODELAY only where it sees it.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            failure = error
            continue
        sock.setblocking(False)
        return sock
    reason = failure.strerror if failure else "no address"
    raise ListenError(f"the admin port {host}:{port} cannot be bound: {reason}") from failure


def _bind_unix(sock: socket.socket, path: str) -> None:
    with _locked_directory(path):
        if os.path.lexists(path) and not _remove_if_stale(path):
            raise ListenError(f"the admin socket {path} is in use by another server or file")
        # Set before bind, so that the file never exists with more rights (the kernel takes its mode
        # from the socket's inode); umask would change it for the whole process.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        sock.listen(BACKLOG)


def _is_directory_of(path: str, uid: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid


def _remove_if_stale(path: str) -> bool:
    """Return whether nothing is at `path` any more. Call with the directory locked."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            # A full accept queue must not hold us; it also means that somebody listens.
            probe.setblocking(False)
            if probe.connect_ex(path) != errno.ECONNREFUSED:
                return False
        os.unlink(path)
    except FileNotFoundError:
        return True
    return True


@contextmanager
def _locked_directory(path: str) -> Iterator[None]:
    """Hold the directory of `path`, so that nobody takes a socket between bind and listen for stale.

    It is held for a few system calls, so waiting for it is short; whoever keeps it longer is not one of
    us, and after LOCK_TIMEOUT this raises ListenError.
    """
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ListenError(
                        f"another process keeps the directory of {path} locked: "
                        "end it, or give another --admin-socket PATH"
                    ) from error
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)
