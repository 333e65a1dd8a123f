"""Ask the kernel about the state of a connection and its peer (tcp(7), poll(2)). Nothing here blocks."""

import array
import fcntl
import select
import socket
import termios


def probe_when_quiet(sock: socket.socket, seconds: int) -> None:
    """Make the kernel probe the peer of a TCP socket after `seconds` without data, and every `seconds` again.

    A peer that no longer knows the connection resets it. Other sockets are not changed.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)


def is_gone(sock: socket.socket) -> bool:
    """Return whether the connection was reset, or both its sides are closed."""
    return bool(_poll(sock, 0))  # POLLERR and POLLHUP are always reported


def has_hung_up(sock: socket.socket) -> bool:
    """Return whether the peer has closed its sending side, or is gone, even with its bytes unread."""
    return bool(_poll(sock, select.POLLRDHUP))


def has_unread(sock: socket.socket) -> bool:
    """Return whether there are unread bytes, or an unread end of file."""
    return bool(_poll(sock, select.POLLIN))


def untaken_bytes(sock: socket.socket) -> int:
    """Return how many bytes in the kernel the peer has not acknowledged (SIOCOUTQ); 0 for a closed socket."""
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
