"""What the kernel knows of the other end of a connection (tcp(7), poll(2))."""

import array
import fcntl
import select
import socket
import termios


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
    return bool(_poll(sock, 0))  # POLLERR and POLLHUP are always told


def has_hung_up(sock: socket.socket) -> bool:
    """Whether the peer has closed its sending side, or is gone; also with bytes of it unread."""
    return bool(_poll(sock, select.POLLRDHUP))


def has_unread(sock: socket.socket) -> bool:
    """Whether bytes have come, or the end, that nobody has read yet; never blocks."""
    return bool(_poll(sock, select.POLLIN))


def untaken_bytes(sock: socket.socket) -> int:
    """Return how many bytes were given to the kernel that the peer has not acknowledged (SIOCOUTQ)."""
    descriptor = sock.fileno()
    if descriptor < 0:
        return 0
    waiting = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.TIOCOUTQ, waiting)
    return waiting[0]


def _poll(sock: socket.socket, mask: int) -> int:
    descriptor = sock.fileno()
    if descriptor < 0:
        return select.POLLHUP
    poller = select.poll()
    poller.register(descriptor, mask)
    events = poller.poll(0)
    return events[0][1] if events else 0
