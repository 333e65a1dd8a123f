"""Which Unix sockets a process listens on, and which process listens on a Unix socket.

The kernel answers both, so neither depends on where a server was told to put its socket, nor on what a file says:
/proc/PID/net/unix names every socket of a network namespace with its inode, /proc/PID/fd the inodes that a process
has open, and SO_PEERCRED who called listen(2) on the other end of a connection.
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
    """Who listens on the other end of a connection, as the kernel says."""

    pid: int
    """0: it lives in a pid namespace that is not seen from here."""
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return who called listen(2) on the socket that the Unix socket `connection` is connected to."""
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
