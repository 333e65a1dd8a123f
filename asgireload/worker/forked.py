"""Processes that the application forks let go of what belongs to the worker.

A fork copies every descriptor, and a socket ends for its peer only when its last copy is closed. A process of
`multiprocessing` that outlives a request would keep the client of that request waiting for the end of file, a slot
that was taken away in the kernel's choice, and the port in use after a stop. So such a process replaces its
copies: of listening sockets, of the connections that were accepted from them, and of the channels to our other
processes. What the application has opened itself is not touched.

Programs that are executed have none of them: every descriptor of ours closes on exec. Libraries in C that call
fork(2) by themselves run no hooks; the supervisor shuts down the listening sockets that they hold
(`net.listeners`).
"""

import os
import socket
import weakref
from collections.abc import Callable, Iterable

_BareSocket = socket.SocketType
Name = tuple[int, int | str | bytes]
"""Family, and port or path, of the local end of a socket."""


class ForkedCopies:
    """Registers its hook once, for good. It costs nothing until the application forks."""

    def __init__(self) -> None:
        self._own: weakref.WeakMethod[Callable[[], Iterable[int]]] | None = None
        self._names: frozenset[Name] = frozenset()
        os.register_at_fork(after_in_child=self._let_go)

    def watch_channels(self, own: Callable[[], Iterable[int]]) -> None:
        """`own`, a method, returns the descriptors of the worker's channels at the moment.

        What a hook refers to lives until the interpreter is gone, and would take the application along: nothing
        of it would be dropped at the end. So the object of the method is not kept.
        """
        self._own = weakref.WeakMethod(own)

    def watch_listeners(self, listening: Iterable[socket.socket]) -> None:
        """Their copies go, and those of what was accepted from them: it has the same local name."""
        names = (local_name(sock) for sock in listening)
        self._names = frozenset(name for name in names if name is not None)

    def _let_go(self) -> None:
        own = self._own() if self._own is not None else None
        replace_descriptors([*(own() if own is not None else ()), *_find(self._names)])


def local_name(sock: _BareSocket) -> Name | None:
    """Return by what the local end is told from others; None for what is no stream, or has no name."""
    if sock.type != socket.SOCK_STREAM:
        return None
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return (sock.family, name) if name else None
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # Not the address: one that listens on all of them accepts on one.
        return (socket.AF_INET, name[1])
    return None


def replace_descriptors(descriptors: list[int]) -> None:
    """Let these numbers stand for the null device.

    Closing them would free the numbers: whatever this process opens next would get one, and lose it when an
    object that believes to own it is dropped.
    """
    if not descriptors:
        return
    first, *others = descriptors
    # The process may have as many files open as it may, so one makes room.
    os.close(first)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in others:
        os.dup2(nothing, number, inheritable=False)
    if nothing != first:
        os.dup2(nothing, first, inheritable=False)
        os.close(nothing)


def _find(names: frozenset[Name]) -> list[int]:
    """Return the descriptors of sockets with these local names."""
    found: list[int] = []
    if not names:
        return found
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            sock = _BareSocket(fileno=number)
        except OSError:
            continue  # no socket, or that of the list itself
        try:
            if local_name(sock) in names:
                found.append(number)
        except OSError:
            continue
        finally:
            sock.detach()
    return found
