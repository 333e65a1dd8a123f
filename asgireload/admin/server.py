"""Serve the admin application on the supervisor's loop, with the HTTP code that serves everybody.

Each listener has its own application with its own rules of access: a Unix socket for the user who runs
the server, and a TCP port when it is asked for. Opening the sockets is left to `sockets`, the rules to
`access`.
"""

import asyncio
import logging
import socket
import time
from contextlib import ExitStack

from asgireload.admin.access import AccessPolicy
from asgireload.admin.api import AdminApp
from asgireload.admin.port import ServerPort
from asgireload.admin.sockets import AUTO, open_admin_tcp, open_admin_unix
from asgireload.admin.token_file import read_token_file
from asgireload.config import Config
from asgireload.draining import DrainReason
from asgireload.errors import ConfigError, ListenError
from asgireload.http.connection import http_protocol
from asgireload.http.context import HttpSettings, ServingContext
from asgireload.net.unix import SocketFile

NO_SOCKET = "none"

CLOSE_TIMEOUT = 1.5
"""Seconds for open exchanges to end when the server stops. Verdicts have been spoken by then, so whoever
waits for one only needs the time to receive it."""

ABORT_TIMEOUT = 0.5
"""Seconds for cancelled exchanges to notice; they run our own code, which takes a turn of the loop."""

MAX_CONNECTIONS = 256
"""Far more than scrapers and operators need, far fewer than the supervisor has descriptors."""

logger = logging.getLogger("asgireload.admin")


class AdminServer:
    """The running admin surface; made by `start_admin`. `close` ends it and removes its socket file."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.addresses: tuple[str, ...] = ()
        """Where it listens, as URLs and as `unix:PATH`."""
        self._loop = loop
        self._servers: list[asyncio.AbstractServer] = []
        self._contexts: list[ServingContext] = []
        self._files: list[SocketFile] = []

    async def serve(
        self, sock: socket.socket, address: str, port: ServerPort, access: AccessPolicy
    ) -> None:
        """Take over a listening socket: it is closed by `close`, or here when this fails."""
        with ExitStack() as undo:
            undo.callback(sock.close)
            settings = HttpSettings(
                default_headers=((b"server", b"asgireload"),),
                head_timeout=10.0,
                limit_concurrency=MAX_CONNECTIONS,
                drain_grace=0.1,
                websocket=False,
            )
            context = ServingContext(AdminApp(port, access), settings, self._loop)
            if sock.family == socket.AF_UNIX:
                file = SocketFile.of(sock)
                undo.callback(file.remove)
                server = await self._loop.create_unix_server(
                    lambda: http_protocol(context), sock=sock
                )
                self._files.append(file)
            else:
                server = await self._loop.create_server(lambda: http_protocol(context), sock=sock)
            self._servers.append(server)
            self._contexts.append(context)
            self.addresses += (address,)
            undo.pop_all()

    async def close(self) -> None:
        """Stop listening, let open exchanges end for CLOSE_TIMEOUT, drop the rest. May be repeated."""
        for file in self._files:
            file.remove()
        for server in self._servers:
            # Its wait_closed() also waits for connections, without a deadline (Python 3.12.1).
            server.close()
        self._files.clear()
        self._servers.clear()
        contexts, self._contexts = self._contexts, []
        await asyncio.gather(*(_end_connections(context) for context in contexts))


async def start_admin(
    loop: asyncio.AbstractEventLoop, port: ServerPort, config: Config
) -> AdminServer:
    """Open the listeners that the configuration asks for and serve them on `loop`.

    The caller awaits `close()`. Raise ConfigError for a token, host or path that cannot be used, and
    ListenError for an address in use; nothing is left open then. A Unix socket that nobody asked for by
    name is not worth a failed start (a read-only file system, say): its lack is logged.
    """
    server = AdminServer(loop)
    try:
        if config.admin_port is not None:
            token = (
                read_token_file(config.admin_token_file)
                if config.admin_token_file is not None
                else None
            )
            # Judged first: an address that may not be used is never opened, not even for a moment.
            access = AccessPolicy.for_tcp(config.admin_host, token)
            sock = open_admin_tcp(config.admin_host, config.admin_port)
            await server.serve(sock, _url(sock), port, access)
        if config.admin_socket != NO_SOCKET:
            unix_socket = _open_unix(config.admin_socket)
            if unix_socket is not None:
                address = f"unix:{unix_socket.getsockname()}"
                await server.serve(unix_socket, address, port, AccessPolicy.for_unix())
    except BaseException:
        await server.close()
        raise
    if server.addresses:
        logger.info("Admin on %s", ", ".join(server.addresses))
    return server


def _open_unix(path: str) -> socket.socket | None:
    try:
        return open_admin_unix(path)
    except (ConfigError, ListenError) as error:
        if path != AUTO:
            raise
        logger.warning(
            "no admin socket, so `asgireload reload` will not find this server: %s", error
        )
        return None


async def _end_connections(context: ServingContext) -> None:
    """Drain politely for CLOSE_TIMEOUT, then drop what is left."""
    context.drain.begin(DrainReason.STOP, time.monotonic() + CLOSE_TIMEOUT)
    for connection in tuple(context.connections):
        connection.begin_drain()
    if await _is_idle_within(CLOSE_TIMEOUT, context):
        return
    for connection in tuple(context.connections):
        connection.abort()
    context.cancel_background()
    if not await _is_idle_within(ABORT_TIMEOUT, context):
        logger.warning("an admin exchange did not end when it was cancelled")


async def _is_idle_within(timeout: float, context: ServingContext) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await context.wait_idle()
    except TimeoutError:
        return False
    return True


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
