"""Deferred accept: connections stay in the kernel until their first bytes are there (TCP_DEFER_ACCEPT, tcp(7)).

The accepting process is then woken once for each connection, and can read at once. A connection without data is
passed on after about a second: Linux sends its SYN-ACK again, and takes the answer to that as a connection without
data.

For the client a deferred connection is open, and it is reset if the listening socket is closed. So before that,
deferring is switched off, and `holds_back` is polled until the kernel defers no connection.
"""

import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

SILENT_SECONDS = 1
"""Seconds after which a connection without data is passed on; Linux rounds up to the next retransmission."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_SYN_RECV = b"03"
_OPTION: int | None = getattr(socket, "TCP_DEFER_ACCEPT", None)
_IP_TRANSPARENT = 19
"""IP_TRANSPARENT of IPv4 sockets, ip(7); that of IPv6 sockets is IPV6_TRANSPARENT."""
_IPV6_TRANSPARENT = 75


def defer(listening: socket.socket) -> None:
    """Leave connections in the kernel until they have data, if the kernel supports that."""
    if _OPTION is not None:
        listening.setsockopt(socket.IPPROTO_TCP, _OPTION, SILENT_SECONDS)


def stop_deferring(listening: socket.socket) -> None:
    """Do not defer new connections any more."""
    if _OPTION is not None:
        listening.setsockopt(socket.IPPROTO_TCP, _OPTION, 0)


def is_deferred(listening: socket.socket) -> bool:
    """Return whether connections of `listening` are deferred, by `defer` or by the process that made the socket."""
    if _OPTION is None or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return bool(listening.getsockopt(socket.IPPROTO_TCP, _OPTION))


def holds_back(ports: Collection[int]) -> bool:
    """Return whether clients of these TCP ports are connecting, or connected and deferred. Reads /proc/net/tcp."""
    for table in _TABLES:
        try:
            with table.open("rb") as lines:
                if has_opening(lines, ports):
                    return True
        except OSError:
            continue  # without IPv6, or without /proc
    return False


def has_opening(table: Iterable[bytes], ports: Collection[int]) -> bool:
    """Return whether /proc/net/tcp (proc_pid_net(5)) has a connection to one of `ports` in SYN_RECV. Pure."""
    suffixes = tuple(b":%04X" % port for port in ports)
    for line in table:
        fields = line.split(None, 4)
        if len(fields) > 3 and fields[3] == _SYN_RECV and fields[1].endswith(suffixes):
            return True
    return False


def fixed_address(listening: socket.socket) -> tuple[Any, ...] | None:
    """Return the local address of every connection of a listening TCP socket; None if it differs between
    connections.

    It differs when the socket listens on all addresses, or accepts for foreign ones (IP_TRANSPARENT, ip(7)).
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
