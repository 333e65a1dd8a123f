"""Probing a silent peer: whether the other end of a TCP connection is still there (tcp(7))."""

import select
import socket


def probe_when_quiet(sock: socket.socket, seconds: int) -> None:
    """Let the kernel probe the peer of a TCP socket after so many quiet seconds, again and again.

    A peer that knows nothing of the connection resets it. Other sockets are left as they are.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


def is_gone(sock: socket.socket) -> bool:
    """Whether the connection was reset, or both its sides are closed; never blocks."""
    poller = select.poll()
    poller.register(sock.fileno(), 0)  # POLLERR and POLLHUP are always told (poll(2))
    return bool(poller.poll(0))
