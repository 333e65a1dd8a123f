"""Take connections from the listening sockets and give each to the event loop.

Our own accepting, not the loop's server: it stops at once and completely (closing asyncio's server
resets connections that were accepted in the same turn of the loop), it leaves the listening sockets to
whoever owns them, and it takes a bounded number each time, so that one worker does not swallow a burst
its siblings could share.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

ACCEPT_BURST = 8
"""Connections taken from one socket in one turn of the loop; see docs/explanation/accepting.md."""
EXHAUSTED_PAUSE = 0.5
"""Seconds without accepting after the process or the system ran out of descriptors or memory."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_logger = logging.getLogger("asgireload.error")


class Acceptor:
    """Accepts from `sockets`, which must listen and be non-blocking; they stay the caller's to close."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Sequence[socket.socket],
        make_protocol: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self._loop = loop
        self._sockets = sockets
        self._make_protocol = make_protocol
        self._adopting: set[asyncio.Task[object]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._accepting = False

    def start(self) -> None:
        self._accepting = True
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock, ACCEPT_BURST)

    def stop(self) -> None:
        """Accept nothing more. Connections that still wait belong to the other workers. Idempotent."""
        self._accepting = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())

    def take_waiting(self) -> None:
        """Accept all that waits now, where nobody else will: the server stops, or the slot goes away."""
        for sock in self._sockets:
            self._accept(sock, None)

    async def wait_adopted(self) -> None:
        """Return when every accepted socket has its connection object."""
        while self._adopting:
            await asyncio.wait(self._adopting)

    def _accept(self, sock: socket.socket, most: int | None) -> None:
        taken = failed = 0
        while most is None or taken < most:
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                if error.errno in (errno.EINVAL, errno.EBADF):
                    raise
                # accept(2) passes on errors of the new connection's network; the next one may be fine.
                failed += 1
                if failed >= ACCEPT_BURST:
                    return
                continue
            taken += 1
            connection.setblocking(False)
            task = self._loop.create_task(
                self._loop.connect_accepted_socket(self._make_protocol, connection)
            )
            self._adopting.add(task)
            task.add_done_callback(self._adopted)

    def _adopted(self, task: asyncio.Task[object]) -> None:
        self._adopting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _logger.error("An accepted connection could not be set up: %s", error)

    def _pause(self, error: OSError) -> None:
        """A loop that is told again and again of a connection it cannot take would only spin."""
        if not self._accepting:
            return
        self.stop()
        _logger.error(
            "Cannot accept connections: %s. Trying again in %s s; raise the limit of open files "
            "(ulimit -n) or lower the number of connections",
            error.strerror,
            EXHAUSTED_PAUSE,
        )
        self._resume = self._loop.call_later(EXHAUSTED_PAUSE, self.start)
