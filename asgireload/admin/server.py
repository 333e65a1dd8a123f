"""Serve the admin application on the supervisor's event loop, with the same HTTP code as the workers.

Each listener has its own application with its own access rules: a Unix socket for the user who runs the server, and
a TCP port when one is configured. `entrances` opens the listeners, `access` has the rules, and `crowd` limits the
number of connections.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from asgireload.admin.api import AdminApp
from asgireload.admin.crowd import Crowd
from asgireload.admin.entrances import AdminEntrance
from asgireload.admin.port import ServerPort
from asgireload.admin.sockets import BACKLOG
from asgireload.draining import DrainReason
from asgireload.http.clock import Clock
from asgireload.http.live import Live
from asgireload.http.server import Server
from asgireload.http.settings import HttpSettings
from asgireload.http1.wire import Http1Wire
from asgireload.net.unix import SocketFile

CLOSE_TIMEOUT = 1.5
"""Seconds for open exchanges to end when the server stops. All verdicts are known by then, so clients that wait for
one need only the time to receive it."""

ABORT_TIMEOUT = 0.5
"""Seconds for cancelled exchanges to end, which takes one iteration of the loop."""

ACCEPT_BURST = 8
"""Connections accepted in one iteration of the loop; connections that are aborted for them close before the
next."""

TOLD_INTERVAL = 60.0
"""Seconds between two log lines about connections that cannot be accepted."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger("asgireload.admin")


class ShortageNotice:
    """An exception handler of the loop that logs one line every TOLD_INTERVAL when accept(2) fails.

    asyncio logs a traceback at each attempt, so that a shortage of descriptors would fill the disk, too. asyncio
    tries again after a second.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if (
            "socket" not in context
            or not isinstance(error, OSError)
            or error.errno not in _EXHAUSTED
        ):
            loop.default_exception_handler(context)
        elif self._clock() >= self._next_at:
            self._next_at = self._clock() + TOLD_INTERVAL
            logger.error(
                "the admin server cannot take a connection: %s; raise the limit (LimitNOFILE= of systemd,"
                " --ulimit nofile= of Docker, ulimit -n)",
                error.strerror,
            )


class AdminServer:
    """The running admin server, made by `start_admin`. `close` ends it and removes its socket file."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.addresses: tuple[str, ...] = ()
        """The addresses of its listeners, as URLs and `unix:PATH`."""
        self._loop = loop
        self._servers: list[asyncio.AbstractServer] = []
        self._served: list[Server] = []
        self._files: list[SocketFile] = []

    async def serve(self, entrance: AdminEntrance, port: ServerPort) -> None:
        """Serve a listening socket, which `close` closes. When this method raises, the caller closes the socket."""
        settings = HttpSettings(
            default_headers=((b"server", b"asgireload"),),
            head_timeout=10.0,
            drain_grace=0.1,
        )
        app = AdminApp(port, entrance.access)
        served = Server(app, settings, Clock(self._loop))
        crowd = Crowd(Http1Wire(served), is_trusted=entrance.file is not None)
        app.on_admitted = crowd.trust
        if entrance.file is not None:
            server = await self._loop.create_unix_server(
                crowd.admit, sock=entrance.socket, backlog=ACCEPT_BURST
            )
            self._files.append(entrance.file)
        else:
            server = await self._loop.create_server(
                crowd.admit, sock=entrance.socket, backlog=ACCEPT_BURST
            )
        # asyncio uses its backlog argument for both the accept burst and the queue.
        entrance.socket.listen(BACKLOG)
        self._servers.append(server)
        self._served.append(served)
        self.addresses += (entrance.address,)

    async def close(self) -> None:
        """Stop listening, wait at most CLOSE_TIMEOUT for open exchanges, and abort the rest. Idempotent."""
        for file in self._files:
            file.remove()
        for server in self._servers:
            # wait_closed() also waits for connections, without a deadline (since Python 3.12.1).
            server.close()
        self._files.clear()
        self._servers.clear()
        served, self._served = self._served, []
        await asyncio.gather(*(_end_connections(each) for each in served))


async def start_admin(
    loop: asyncio.AbstractEventLoop, port: ServerPort, entrances: Sequence[AdminEntrance]
) -> AdminServer:
    """Serve the listeners that `open_admin` has opened, and return the server, which the caller closes.

    When this function raises, nothing is served, and the caller closes the `entrances`.
    """
    server = AdminServer(loop)
    loop.set_exception_handler(ShortageNotice())
    try:
        for entrance in entrances:
            await server.serve(entrance, port)
    except BaseException:
        await server.close()
        raise
    return server


async def _end_connections(served: Server) -> None:
    """Drain for at most CLOSE_TIMEOUT, then abort the remaining connections."""
    served.drain.notice.begin(DrainReason.STOP, time.monotonic() + CLOSE_TIMEOUT)
    for connection in tuple(served.live.connections):
        connection.begin_drain()
    if await _is_idle_within(CLOSE_TIMEOUT, served.live):
        return
    for connection in tuple(served.live.connections):
        connection.abort()
    served.live.cancel_background()
    if not await _is_idle_within(ABORT_TIMEOUT, served.live):
        logger.warning("an admin exchange did not end when it was cancelled")


async def _is_idle_within(timeout: float, live: Live) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await live.wait_idle()
    except TimeoutError:
        return False
    return True
