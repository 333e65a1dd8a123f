"""Find the Unix sockets that a process listens on, and the process that listens on a Unix socket.

Both come from the kernel, so they do not depend on a configured path or on the content of a file.
/proc/PID/net/unix lists every socket of a network namespace with its inode, /proc/PID/fd the inodes that a process
has open, and SO_PEERCRED the process that called listen(2) on the other end of a connection.
"""

import os
import re
import socket
import struct
from collections.abc import Mapping

import msgspec

_LISTENS = 0x00010000
"""__SO_ACCEPTCON in the flags of /proc/net/unix."""
_SOCKET_LINK = re.compile(r"socket:\[(\d+)\]")
_CREDENTIALS = struct.Struct("3i")
"""struct ucred in unix(7): pid, uid, gid."""


class Peer(msgspec.Struct, frozen=True):
    """The process that listens on the other end of a connection."""

    pid: int
    """0 if the process is in a pid namespace that is not visible here."""
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return the process that called listen(2) on the socket that the Unix socket `connection` is connected to."""
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(data)
    return Peer(pid, uid)


def parse_unix_table(text: str) -> Mapping[int, str]:
    """Return inode and path of every listening socket in the text of /proc/net/unix. Pure.

    Sockets without a path, and those in the abstract namespace, are left out.
    """
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and int(fields[3], 16) & _LISTENS and fields[7].startswith("/"):
            found[int(fields[6])] = fields[7]
    return found


def listening_paths(pid: int | str = "self") -> Mapping[int, str]:
    """Return inode and path of every listening Unix socket in the network namespace of a process. Raise OSError."""
    with open(f"/proc/{pid}/net/unix", encoding="utf-8", errors="surrogateescape") as file:
        return parse_unix_table(file.read())


def open_sockets(pid: int) -> frozenset[int]:
    """Return the inodes of the sockets that a process has open.

    Raise PermissionError for a process of another user, and FileNotFoundError or ProcessLookupError for one that
    has ended.
    """
    inodes = set()
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        try:
            found = _SOCKET_LINK.fullmatch(os.readlink(f"{directory}/{name}"))
        except FileNotFoundError:
            continue  # closed meanwhile
        if found is not None:
            inodes.add(int(found[1]))
    return frozenset(inodes)
