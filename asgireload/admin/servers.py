"""Find the running server that a command addresses, and verify its process.

A command names its server by a socket, a pid or a PID file. A command without an address is sent to the server that
was started in the current directory; a command that only reads may also be sent to the only running server. In
every other case nothing is sent, and the error lists the servers, each with the command that addresses it.

The admin socket of a pid is looked up in the kernel (`net.unix_table`), so it does not matter which user has
started the server, with which environment, or in which container. Requests are sent only to a socket on which the
process with this pid listens.
"""

import glob
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from asgireload.admin.client import ANSWER_TIMEOUT, AdminClient, SilentServerError, WrongPeerError
from asgireload.admin.sockets import ADMIN_MODE, check_directory, runtime_directories
from asgireload.errors import ConfigError, ControlError
from asgireload.ipc.linux import begun_at, children_of, parent_of
from asgireload.log.escaping import printable
from asgireload.net.unix import remove_stale_socket
from asgireload.net.unix_table import listening_paths, open_sockets

DESCRIBE_TIMEOUT = 1.0
"""Seconds that each listed server may take to answer: the list must be complete even when one of them hangs."""
CLOCK_MARGIN = 2.0
"""Seconds by which a PID file may seem older than its process, since clocks are set and times are rounded."""
_AUTO_PATH = re.compile(r"/asgireload(?:-\d+)?/(\d+)\.sock")
"""Matches the end of a socket path chosen by `--admin-socket auto`."""
_OWN_FIELDS = frozenset({"app", "pid", "state", "workers_ready"})
"""Fields that the status of every version of asgireload has."""
_ANCESTORS = 3
"""Most levels from a process up to its supervisor: that of a worker or template, and one more for a process that
the application starts."""


class Address(msgspec.Struct, frozen=True):
    """How a command names its server; at most one field is given."""

    socket: str | None = None
    pid: int | None = None
    pid_file: str | None = None


class FoundServer(msgspec.Struct, frozen=True):
    """A server that was found. `client` sends requests to its process only."""

    client: AdminClient
    pid: int
    """The pid in the pid namespace of this command; a server in a container may have another one there."""
    status: Mapping[str, Any]
    """The answer to GET /status when the server was found."""

    @property
    def path(self) -> str:
        return self.client.path

    @property
    def name(self) -> str:
        """Application, pid and socket of the server, for messages."""
        return f"{_app(self)}, pid {self.pid}, {self.path}"


class Found(msgspec.Struct, frozen=True):
    """A socket on which a server listens, for `choose`."""

    path: str
    server: FoundServer | None
    problem: str = ""
    """Why `server` is None."""


def find_server(address: Address, words: str, *, acts: bool) -> FoundServer:
    """Return the server that a command addresses.

    `words` is the command, for advice in errors; `acts`: the command changes something. Raise ControlError, with
    advice, when the server is unknown or ambiguous. Socket files that dead servers of this user have left behind
    are removed.
    """
    if address.socket is not None:
        return _ask(address.socket)
    if address.pid_file is not None:
        return _find_by_pid_file(address.pid_file)
    if address.pid is not None:
        return _find_by_pid(address.pid)
    found = [_describe(path) for path in _running_paths()]
    return choose(found, _here(), words, acts=acts, others=_pids_of_others(found))


def choose(
    found: Sequence[Found],
    directory: str | None,
    words: str,
    *,
    acts: bool,
    others: Sequence[int] = (),
) -> FoundServer:
    """Return the server of those `found` that a command without an address, given in `directory`, is sent to.

    `others` are pids of servers of other users. Raise ControlError when there is none, or more than one.
    """
    if not found:
        text = (
            f"no running server of this user found in {' or '.join(runtime_directories())}: start one, or give"
            " --socket PATH, --pid N or --pid-file FILE when it was started with --admin-socket or by another user"
        )
        raise ControlError("\n".join([text, *_advice_for_others(others, words)]))
    known = [entry.server for entry in found if entry.server is not None]
    ours = [server for server in known if _belongs(server, directory)]
    if len(ours) == 1:
        return ours[0]
    if not acts and len(found) == 1:
        if not known:
            raise ControlError(found[0].problem)
        return known[0]
    where = directory or "a directory that is gone"
    if len(ours) > 1:
        reason = f"{len(ours)} servers were started in {where}"
    elif len(found) == 1:
        reason = f"the only server that was found was not started in {where}"
    elif acts:
        reason = f"none of the {len(found)} servers that were found was started in {where}"
    else:
        reason = "several servers are running"
    lines = [f"{reason}; say which one is meant:", *(_advice(entry, words) for entry in found)]
    raise ControlError("\n".join([*lines, *_advice_for_others(others, words)]))


def _advice(entry: Found, words: str) -> str:
    server = entry.server
    if server is None:
        return f"  asgireload {words} --socket {entry.path}    ({entry.problem})"
    directory = server.status.get("directory")
    place = f" in {printable(str(directory))}" if directory else ""
    state = printable(str(server.status.get("state")))
    return f"  asgireload {words} --pid {server.pid}    {_app(server)}{place}, {state}"


def _app(server: FoundServer) -> str:
    # The status comes from a server that may be another user's.
    return printable(str(server.status.get("app") or "(no app)"))


def _advice_for_others(others: Iterable[int], words: str) -> list[str]:
    return [f"  asgireload {words} --pid {pid}    a server of another user" for pid in others]


def _belongs(server: FoundServer, directory: str | None) -> bool:
    """Return whether the server was started in `directory`, or has its application there."""
    if directory is None:
        return False
    places = (server.status.get("directory"), server.status.get("app_dir"))
    return any(place and _is_same(place, directory) for place in places)


# --- by pid ---------------------------------------------------------------------------------------


def _find_by_pid_file(pid_file: str) -> FoundServer:
    pid, written_at = _read_pid(pid_file)
    began = begun_at(pid)
    if began is None:
        raise ControlError(
            f"pid file {pid_file} names process {pid}, which has ended: start the server again"
        )
    try:
        server = _find_by_pid(pid)
    except ControlError as error:
        raise ControlError(f"pid file {pid_file}: {error}") from error
    told = str(server.status.get("pid_file") or "")
    is_its_own = bool(told) and any(
        _is_same(place, pid_file) for place in (told, f"/proc/{pid}/root{told}")
    )
    reason = why_stale(told, written_at=written_at, began_at=began, is_its_own=is_its_own)
    if reason:
        raise ControlError(
            f"pid file {pid_file} was left behind by another server: the process {pid} that it names is now"
            f" {server.name}, {reason}. Nothing was sent; give --pid {pid} if that one is meant"
        )
    return server


def why_stale(told: str, *, written_at: float, began_at: float, is_its_own: bool) -> str:
    """Return why a PID file does not belong to the server that has its pid now, as the end of a sentence.

    Empty: the file belongs to the server. `told` is the PID file that the server itself writes. When `told` is
    empty, another program may have written a PID file for the server, but not before the server was started.
    `written_at` and `began_at` are wall clock times.
    """
    if told:
        return "" if is_its_own else f"whose pid file is {told}"
    if written_at < began_at - CLOCK_MARGIN:
        return f"which was started {began_at - written_at:.0f} s after the file was written"
    return ""


def _find_by_pid(pid: int) -> FoundServer:
    if not os.path.exists(f"/proc/{pid}"):
        raise ControlError(f"there is no process {pid}: check the pid, or start the server")
    candidates = _candidates(pid)
    failure: ControlError | None = None
    for path in candidates.paths:
        # The path of the socket when the process has its own mount namespace, as in a container.
        rooted = f"/proc/{pid}/root{path}"
        for place in (path,) if _is_same(path, rooted) else (path, rooted):
            try:
                return _ask(place, pid)
            except WrongPeerError:
                continue
            except SilentServerError:
                raise  # the server has been found, and does not answer
            except ControlError as error:
                failure = failure or error
    if failure is not None:
        raise failure
    for ancestor in _ancestors(pid):
        if _candidates(ancestor).paths:
            raise ControlError(
                f"process {pid} is not the supervisor of a server but was started by one: give --pid {ancestor}"
            )
    if candidates.is_complete:
        raise ControlError(
            f"process {pid} has no admin socket: it is not the supervisor of an asgireload server, or was started"
            " with --admin-socket none"
        )
    raise ControlError(
        f"this user may not see the sockets of process {pid}: run this command as the user of the server or as"
        " root, or give --socket PATH"
    )


class _Candidates(msgspec.Struct, frozen=True):
    """Paths of sockets of which one may be the admin socket of a process, the likeliest first."""

    paths: Sequence[str]
    is_complete: bool
    """False: this user may not see the descriptors of the process, so only names of sockets were compared."""


def _candidates(pid: int) -> _Candidates:
    try:
        table = listening_paths(pid)
        mine = open_sockets(pid)
    except PermissionError:
        return _Candidates([path for path in _readable_table() if _pid_in(path) == pid], False)
    except OSError:
        return _Candidates([], True)  # the process has ended
    # A socket that children of the process have, too, belongs to the application.
    shared = frozenset[int]().union(*map(_sockets_of, children_of(pid)))
    paths = [table[inode] for inode in mine - shared if inode in table]
    return _Candidates(sorted(paths, key=lambda path: (not _is_private(pid, path), path)), True)


def _sockets_of(child: int) -> frozenset[int]:
    try:
        return open_sockets(child)
    except OSError:
        return frozenset()  # the child has ended


def _is_private(pid: int, path: str) -> bool:
    """Return whether a socket file has the mode of an admin socket."""
    try:
        return stat.S_IMODE(os.stat(f"/proc/{pid}/root{path}").st_mode) == ADMIN_MODE
    except OSError:
        return False


def _ancestors(pid: int) -> list[int]:
    found: list[int] = []
    for _ in range(_ANCESTORS):
        parent = parent_of(found[-1] if found else pid)
        if parent is None:
            break
        found.append(parent)
    return found


def _read_pid(pid_file: str) -> tuple[int, float]:
    """Return the pid in a file, and the wall clock time at which the file was written. Raise ControlError."""
    try:
        # open(2) of a named pipe would wait for a writer.
        with open(pid_file, encoding="ascii", opener=_open_nowait) as file:
            pid = int(file.read(32))
            written_at = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise ControlError(
            f"pid file {pid_file}: {error.strerror}; check the path, or start the server"
        ) from error
    except ValueError as error:
        raise ControlError(f"pid file {pid_file} does not contain a pid") from error
    if pid < 1:
        raise ControlError(f"pid file {pid_file} does not contain a pid")
    return pid, written_at


def _open_nowait(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


# --- without an address ---------------------------------------------------------------------------


def _running_paths() -> list[str]:
    """Return every socket in the user's runtime directories on which a server listens, and remove stale files.

    A server that is too busy to accept a connection is included.
    """
    paths: list[str] = []
    for directory in runtime_directories():
        try:
            check_directory(directory)
        except ConfigError:
            # The directory is missing or another user's, so no server of this user has its socket there.
            continue
        paths += sorted(glob.glob(os.path.join(glob.escape(directory), "*.sock")))
    return [path for path in paths if not remove_stale_socket(path)]


def _describe(path: str) -> Found:
    try:
        return Found(path, _ask(path, timeout=DESCRIBE_TIMEOUT))
    except ControlError as error:
        return Found(path, None, str(error))


def _pids_of_others(found: Iterable[Found]) -> list[int]:
    """Return the pids of servers of other users, read from the names of their sockets."""
    ours = {entry.path for entry in found}
    directories = runtime_directories()
    return sorted(
        pid
        for path in _readable_table()
        if path not in ours
        and os.path.dirname(path) not in directories
        and (pid := _pid_in(path)) is not None
        and os.path.exists(f"/proc/{pid}")
    )


def _readable_table() -> list[str]:
    try:
        return list(listening_paths().values())
    except OSError:
        return []  # /proc is not mounted, or hidden


def _pid_in(path: str) -> int | None:
    found = _AUTO_PATH.search(path)
    return int(found[1]) if found else None


def _ask(path: str, pid: int | None = None, timeout: float = ANSWER_TIMEOUT) -> FoundServer:
    """Return the server behind a socket. Raise ControlError, also when `pid` is given and another process
    listens."""
    client = AdminClient(path, pid)
    status, answer = client.request("GET", "/status", timeout)
    if status != 200 or not isinstance(answer, dict) or not answer.keys() >= _OWN_FIELDS:
        raise ControlError(
            f"what listens on {path} is not the admin socket of an asgireload server (GET /status: {status});"
            " is it the socket of the application?"
        )
    peer = client.peer
    # The kernel reports pid 0 for a process in a pid namespace that is not visible here. Only the pid from its
    # status is known then, and it cannot be verified.
    known = peer.pid if peer is not None else 0
    return FoundServer(AdminClient(path, known or None), known or answer["pid"], answer)


def _here() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False
