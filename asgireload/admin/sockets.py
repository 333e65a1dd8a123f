"""Open the sockets of the admin server.

The Unix socket `<pid>.sock` is in a runtime directory of the user, and only the permissions of both protect it: so
a directory that another user could have prepared is refused, not repaired. `servers` finds a running server by its
socket, and `server` serves it.
"""

import os
import socket
import stat
from collections.abc import Mapping

from asgireload.errors import ConfigError, ListenError
from asgireload.net.holders import why_not_bound
from asgireload.net.unix import open_unix

AUTO = "auto"
BACKLOG = 128
"""Length of the accept queue: operators and probes are few, and a full queue only makes them wait."""
ADMIN_MODE = 0o600
"""File mode of an admin socket."""
MAX_PATH_BYTES = 107
"""`sun_path` holds 108 bytes with the terminating zero (unix(7))."""


def runtime_directories(
    environ: Mapping[str, str] = os.environ, uid: int | None = None
) -> tuple[str, ...]:
    """Return the directories where a server of this user may have its socket, the preferred one first.

    A server uses the first one. A search for servers uses all of them, because a service and a login shell of one
    user can have different environments.
    """
    user = os.geteuid() if uid is None else uid
    bases = []
    configured = environ.get("XDG_RUNTIME_DIR", "")
    # `sudo -E` keeps the variable, so the directory may belong to another user, which the XDG base directory
    # specification rules out.
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
        pass  # check_directory() below checks owner and type
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


MODE = 0o600


def open_admin_unix(
    path: str = AUTO, *, mode: int = MODE, owner: str | None = None
) -> socket.socket:
    """Return a listening, non-blocking Unix socket at `path`, whose file has `mode` and belongs to `owner`.

    `auto` means `<pid>.sock` in the runtime directory, with mode 0600. A stale socket file is replaced. The caller
    closes the socket and removes its file (`net.unix.SocketFile`). Raise ConfigError for a directory that cannot be
    trusted or a path that is too long, and ListenError when the socket cannot be created or another process listens
    at `path`.
    """
    if path == AUTO:
        path = os.path.join(make_runtime_directory(), f"{os.getpid()}.sock")
        mode, owner = MODE, None
    path = os.path.abspath(path)
    size = len(os.fsencode(path))
    if size > MAX_PATH_BYTES:
        raise ConfigError(
            f"the admin socket path {path} is {size} bytes long; a Unix socket allows "
            f"{MAX_PATH_BYTES}: give a shorter --admin-socket PATH"
        )
    return open_unix(path, mode=mode, owner=owner, backlog=BACKLOG)


def open_admin_tcp(host: str, port: int) -> socket.socket:
    """Return a listening, non-blocking TCP socket, which the caller closes; port 0 chooses a free port.

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
        # asyncio sets TCP_NODELAY only on sockets whose protocol is IPPROTO_TCP.
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
    reason = "no address" if failure is None else why_not_bound(port, failure)
    raise ListenError(f"the admin port {host}:{port} cannot be bound: {reason}") from failure


def _is_directory_of(path: str, uid: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid
