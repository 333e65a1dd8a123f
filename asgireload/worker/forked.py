"""Make processes that the application forks release the descriptors of the worker.

A fork copies every descriptor, and a peer sees the end of a socket only when its last copy is closed. A
`multiprocessing` process that outlives a request would have three effects: the client of that request would wait
for end of file, the kernel would give connections to a slot that no longer exists, and the port would stay in use
after a stop. So a forked process replaces its copies of listening sockets, of the connections accepted from them,
and of the channels to other processes of the server. Descriptors that the application has opened itself are not
touched.

A forked process must not continue as the worker either. If it leaves the application's code, for example by
`sys.exit()` in a request or in the middle of an import, it would run the event loop, count in its parent's record,
or send its parent's messages to the supervisor. It is ended at that point.

Executed programs inherit none of these descriptors, which are all close-on-exec. C libraries that call fork(2)
themselves run no hooks; the supervisor shuts down the listening sockets that such processes hold (`net.listeners`).
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
    """Releases the worker's descriptors in forked processes. Make one for each process.

    The hook is registered for good, and costs nothing until the application forks.
    """

    def __init__(self) -> None:
        self._own: weakref.WeakMethod[Callable[[], Iterable[int]]] | None = None
        self._names: frozenset[Name] = frozenset()
        self._loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self._thread = -1
        self._record: Record | None = None
        os.register_at_fork(after_in_child=self._let_go)

    def watch_channels(self, own: Callable[[], Iterable[int]]) -> None:
        """Release the descriptors that `own`, a bound method, returns at the time of the fork.

        Only a weak reference to its object is kept. A fork hook lives until the interpreter ends, so a strong
        reference would keep the whole application alive at exit.
        """
        self._own = weakref.WeakMethod(own)

    def watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """End a forked process that returns to `loop`, which runs in the calling thread."""
        self._loop = weakref.ref(loop)
        self._thread = threading.get_ident()

    def watch_record(self, record: Record) -> None:
        """Detach `record` in forked processes: it is shared memory, and they would count in it for the worker."""
        self._record = record

    def watch_listeners(self, listening: Iterable[socket.socket]) -> None:
        """Release the copies of these sockets and of connections accepted from them, which share the local name."""
        names = (local_name(sock) for sock in listening)
        self._names = frozenset(name for name in names if name is not None)

    def _let_go(self) -> None:
        own = self._own() if self._own is not None else None
        if self._record is not None:
            self._record.detach()
        replace_descriptors([*(own() if own is not None else ()), *_find(self._names)])
        loop = self._loop() if self._loop is not None else None
        # In a process that another thread has forked, no loop runs.
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
    """If this process was forked by the application during its import, end the process as Python would.

    `error` is the exception that has left the import; None if the import has returned.
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
    """Return the local name of a stream socket; None for other types, and for Unix sockets without a name."""
    if sock.type != socket.SOCK_STREAM:
        return None
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return (sock.family, name) if name else None
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        # Without the address: a socket that listens on all addresses accepts connections on one.
        return (socket.AF_INET, name[1])
    return None


def replace_descriptors(descriptors: list[int]) -> None:
    """Point these descriptors to the null device.

    Closing them would free their numbers: the next file that this process opens would get one of them, and would be
    closed when the former owner of the number is dropped.
    """
    if not descriptors:
        return
    first, *others = descriptors
    # The process may be at its limit of open files, so close one descriptor first.
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
            continue  # not a socket, or the descriptor of os.listdir itself
        try:
            if local_name(sock) in names:
                found.append(number)
        except OSError:
            continue
        finally:
            sock.detach()
    return found
