"""Find the processes that hold a socket, for messages: proc_pid_fd(5), proc_pid_cmdline(5), proc_net(5).

Used only when a socket should be closed but is not, or an address is in use. Processes that this user may not
inspect are left out.
"""

import errno
import os
from collections.abc import Collection, Iterable

import msgspec

COMMAND_LIMIT = 80
"""Characters of a command line that are shown."""
_LISTEN = "0A"
"""TCP_LISTEN in net/tcp_states.h."""


class Holder(msgspec.Struct, frozen=True):
    """A process that holds a socket."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def find_holders(inodes: Collection[int], pids: Iterable[int]) -> list[Holder]:
    """Return the processes among `pids` that have a socket with one of these inodes open."""
    links = {f"socket:[{inode}]" for inode in inodes}
    return [Holder(pid, _command(pid)) for pid in pids if links and _holds(pid, links)]


def find_listeners(port: int) -> list[Holder]:
    """Return the processes that listen on a TCP port of this network namespace, on any address."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    return find_holders(inodes, _all_processes()) if inodes else []


def why_not_bound(port: int, error: OSError) -> str:
    """Return, for an error message, why listening on a TCP port failed with `error`, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            found = " and ".join(map(str, find_listeners(port)))
            who = f"{found} listens" if found else "another process listens"
            advice = f"{who} there; stop it or choose another port"
        case errno.EACCES:
            advice = "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
        case errno.EADDRNOTAVAIL:
            advice = "no network interface of this machine has that address"
        case _:
            advice = "check the address"
    reason = (error.strerror or str(error)).lower()
    return f"{reason} ({advice})"


def _holds(pid: int, links: set[str]) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        numbers = os.listdir(directory)
    except OSError:
        return False  # the process has ended, or belongs to another user
    for number in numbers:
        try:
            if os.readlink(f"{directory}/{number}") in links:
                return True
        except OSError:
            continue  # closed meanwhile
    return False


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return "gone"
    text = " ".join(word.decode("utf-8", "backslashreplace") for word in words)
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= COMMAND_LIMIT else shown[: COMMAND_LIMIT - 1] + "…"


def _listening(table: str, port: int) -> list[int]:
    try:
        with open(f"/proc/self/net/{table}", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return []
    return [
        int(row[9])
        for row in rows[1:]
        if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    ]


def _all_processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    except OSError:
        return []
