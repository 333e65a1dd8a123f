"""Connections that stay in the kernel until their first bytes are there (TCP_DEFER_ACCEPT, tcp(7)).

Whoever accepts is then woken once for each of them, and can read at once. A client that says nothing is handed on
after about a second: Linux sends its SYN-ACK once more, and takes the answer to that for an opening without data.

To the client such a connection is open, and if the listening socket is closed it is reset. So before that the
kernel is told to hold nothing back, and asked until it does not (`holds_back`).
"""

import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

SILENT_SECONDS = 1
"""After so long a connection without data is handed on; Linux rounds up to the next time it would send again."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_SYN_RECV = b"03"
_OPTION: int | None = getattr(socket, "TCP_DEFER_ACCEPT", None)
_IP_TRANSPARENT = 19
"""ip(7); also of IPv6 sockets, where it is IPV6_TRANSPARENT."""
_IPV6_TRANSPARENT = 75


def defer(listening: socket.socket) -> None:
    """Leave connections in the kernel until they have bytes, where the kernel can do that."""
    if _OPTION is not None:
        listening.setsockopt(socket.IPPROTO_TCP, _OPTION, SILENT_SECONDS)


def stop_deferring(listening: socket.socket) -> None:
    """Hand on connections as soon as they are there, from now on."""
    if _OPTION is not None:
        listening.setsockopt(socket.IPPROTO_TCP, _OPTION, 0)


def is_deferred(listening: socket.socket) -> bool:
    """Whether connections come with their first bytes; also where whoever made the socket has asked for that."""
    if _OPTION is None or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return bool(listening.getsockopt(socket.IPPROTO_TCP, _OPTION))


def holds_back(ports: Collection[int]) -> bool:
    """Whether clients of these TCP ports are connecting, or connected and silent."""
    for table in _TABLES:
        try:
            with table.open("rb") as lines:
                if has_opening(lines, ports):
                    return True
        except OSError:
            continue  # without IPv6, or without /proc
    return False


def has_opening(table: Iterable[bytes], ports: Collection[int]) -> bool:
    """Whether a line of /proc/net/tcp tells of a connection to one of `ports` in SYN_RECV. See proc_pid_net(5)."""
    suffixes = tuple(b":%04X" % port for port in ports)
    for line in table:
        fields = line.split(None, 4)
        if len(fields) > 3 and fields[3] == _SYN_RECV and fields[1].endswith(suffixes):
            return True
    return False


def fixed_address(listening: socket.socket) -> tuple[Any, ...] | None:
    """Return the address that every connection of a TCP socket is accepted at; None where they differ.

    They do where it listens on all addresses, or takes those meant for others (IP_TRANSPARENT, ip(7)).
    """
    if listening.family == socket.AF_INET:
        level, option, everywhere = socket.IPPROTO_IP, _IP_TRANSPARENT, "0.0.0.0"  # noqa: S104 - compared
    elif listening.family == socket.AF_INET6:
        level, option, everywhere = socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, "::"
    else:
        return None
    address: tuple[Any, ...] = listening.getsockname()
    try:
        is_fixed = address[0] != everywhere and not listening.getsockopt(level, option)
    except OSError:
        return None
    return address if is_fixed else None
