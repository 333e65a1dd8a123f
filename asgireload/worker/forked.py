"""Processes that the application forks let go of what belongs to the worker.

A fork copies every descriptor, and a socket ends for its peer only when its last copy is closed. A process of
`multiprocessing` that outlives a request would keep the client of that request waiting for the end of file, a slot
that was taken away in the kernel's choice, and the port in use after a stop. So such a process replaces its
copies: of listening sockets, of the connections that were accepted from them, and of the channels to our other
processes. What the application has opened itself is not touched.

Nor may it go on in our place: a child that leaves the code of the application, as by `sys.exit()` in a request
or in the middle of an import, would run the event loop, count in the record of its parent, or tell the supervisor
what concerns that one. It ends there.

Programs that are executed have none of them: every descriptor of ours closes on exec. Libraries in C that call
fork(2) by themselves run no hooks; the supervisor shuts down the listening sockets that they hold
(`net.listeners`).
"""

import asyncio
import logging
import os
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable

from asgireload.ipc.quiet_signals import is_of_application
from asgireload.ipc.scoreboard import Record

_logger = logging.getLogger("asgireload.error")

_BareSocket = socket.SocketType
Name = tuple[int, int | str | bytes]
"""Family, and port or path, of the local end of a socket."""


class ForkedCopies:
    """Registers its hook once, for good. It costs nothing until the application forks."""

    def __init__(self) -> None:
        self._own: weakref.WeakMethod[Callable[[], Iterable[int]]] | None = None
        self._names: frozenset[Name] = frozenset()
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._thread = -1
        self._record: Record | None = None
        os.register_at_fork(after_in_child=self._let_go)

    def watch_channels(self, own: Callable[[], Iterable[int]]) -> None:
        """`own`, a method, returns the descriptors of the worker's channels at the moment.

        What a hook refers to lives until the interpreter is gone, and would take the application along: nothing
        of it would be dropped at the end. So the object of the method is not kept.
        """
        self._own = weakref.WeakMethod(own)

    def watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """It runs in this thread, and no child of the application may go on in it."""
        self._loop = weakref.ref(loop)
        self._thread = threading.get_ident()

    def watch_record(self, record: Record) -> None:
        """It is shared memory, and what children count in it would be counted for the worker."""
        self._record = record

    def watch_listeners(self, listening: Iterable[socket.socket]) -> None:
        """Their copies go, and those of what was accepted from them: it has the same local name."""
        names = (local_name(sock) for sock in listening)
        self._names = frozenset(name for name in names if name is not None)

    def _let_go(self) -> None:
        own = self._own() if self._own is not None else None
        if self._record is not None:
            self._record.detach()
        replace_descriptors([*(own() if own is not None else ()), *_find(self._names)])
        loop = self._loop() if self._loop is not None else None
        # In a child of another thread no loop runs.
        if loop is not None and threading.get_ident() == self._thread and not loop.is_closed():
            loop.call_soon(_end_in_loop)


def _end_in_loop() -> None:
    _logger.error(
        "Process %d, which the application has forked, came back into the event loop of its worker and was ended:"
        " let it end with os._exit(), or start it with multiprocessing",
        os.getpid(),
    )
    os._exit(1)


def end_in_import(error: BaseException | None = None) -> None:
    """End this process as Python would, if it was forked by the application while it is imported.

    `error`: by what it has left the import; None: it got to its end.
    """
    if not is_of_application():
        return
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if status and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    elif error is not None:
        traceback.print_exception(error)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            status = status or 1
    os._exit(status & 0xFF)


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
