"""Serve the admin application on the supervisor's loop, with the HTTP code that serves everybody.

Each listener has its own application with its own rules of access: a Unix socket for the user who runs
the server, and a TCP port when it is asked for. Opening them is left to `entrances`, the rules to `access`, and
who gives way when many connect to `crowd`.
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
"""Seconds for open exchanges to end when the server stops. Verdicts have been spoken by then, so whoever
waits for one only needs the time to receive it."""

ABORT_TIMEOUT = 0.5
"""Seconds for cancelled exchanges to notice; they run our own code, which takes a turn of the loop."""

ACCEPT_BURST = 8
"""Connections taken in one turn of the loop: those that are to give way close before the next."""

TOLD_INTERVAL = 60.0
"""Seconds between two lines about connections that cannot be taken."""

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger("asgireload.admin")


class ShortageNotice:
    """An exception handler of the loop that tells in one line, now and then, that connections cannot be taken.

    asyncio tells it with a traceback for each of them, as long as they wait: a shortage of descriptors would fill
    the disk, too. It tries again by itself after a second.
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
    """The running admin surface; made by `start_admin`. `close` ends it and removes its socket file."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.addresses: tuple[str, ...] = ()
        """Where it listens, as URLs and as `unix:PATH`."""
        self._loop = loop
        self._servers: list[asyncio.AbstractServer] = []
        self._served: list[Server] = []
        self._files: list[SocketFile] = []

    async def serve(self, entrance: AdminEntrance, port: ServerPort) -> None:
        """Take over a listening socket: it is closed by `close`, or by the caller when this fails."""
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
        # asyncio takes one figure for the burst and the queue.
        entrance.socket.listen(BACKLOG)
        self._servers.append(server)
        self._served.append(served)
        self.addresses += (entrance.address,)

    async def close(self) -> None:
        """Stop listening, let open exchanges end for CLOSE_TIMEOUT, drop the rest. May be repeated."""
        for file in self._files:
            file.remove()
        for server in self._servers:
            # Its wait_closed() also waits for connections, without a deadline (Python 3.12.1).
            server.close()
        self._files.clear()
        self._servers.clear()
        served, self._served = self._served, []
        await asyncio.gather(*(_end_connections(each) for each in served))


async def start_admin(
    loop: asyncio.AbstractEventLoop, port: ServerPort, entrances: Sequence[AdminEntrance]
) -> AdminServer:
    """Serve what `open_admin` has opened on `loop`. The caller awaits `close()`.

    Where this fails nothing is served, and the entrances are still the caller's to close.
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
    """Drain politely for CLOSE_TIMEOUT, then drop what is left."""
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
