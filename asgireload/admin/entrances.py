"""Open the listeners of the admin server.

`server`, which serves them, imports many modules and can be imported later: connections wait in the accept queue.
"""

import logging
import socket
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from asgireload.admin.access import AccessPolicy
from asgireload.admin.sockets import AUTO, open_admin_tcp, open_admin_unix
from asgireload.admin.token_file import read_token_file
from asgireload.config import Config
from asgireload.errors import ConfigError, ListenError
from asgireload.net.unix import SocketFile

NO_SOCKET = "none"

logger = logging.getLogger("asgireload.admin")


class AdminEntrance(msgspec.Struct, frozen=True):
    """A listening socket of the admin server, with its access rules."""

    socket: socket.socket
    address: str
    """A URL, or `unix:PATH`."""
    access: AccessPolicy
    file: SocketFile | None = None
    """The file of a Unix socket."""

    def close(self) -> None:
        """Remove the file and close the socket. Does nothing after `AdminServer.close`."""
        if self.socket.fileno() == -1:
            return
        if self.file is not None:
            self.file.remove()
        self.socket.close()


def announce(entrances: Sequence[AdminEntrance]) -> None:
    """Log the addresses. Clients that connect before the admin server runs wait in the accept queue."""
    logger.info("Admin on %s", ", ".join(entrance.address for entrance in entrances))


def open_admin(config: Config) -> tuple[AdminEntrance, ...]:
    """Open the configured listeners, which the caller closes.

    Raise ConfigError for a token, host or path that cannot be used, and ListenError for an address in use; nothing
    is left open then. When the default Unix socket (`auto`) cannot be opened, for example on a read-only file
    system, the server starts without it, and a warning is logged.
    """
    entrances: list[AdminEntrance] = []
    with ExitStack() as undo:
        if config.admin_port is not None:
            token = (
                read_token_file(config.admin_token_file)
                if config.admin_token_file is not None
                else None
            )
            # Checked first, so that an address that is not allowed is never opened.
            access = AccessPolicy.for_tcp(config.admin_host, token)
            sock = open_admin_tcp(config.admin_host, config.admin_port)
            undo.callback(sock.close)
            entrances.append(AdminEntrance(sock, _url(sock), access))
        if config.admin_socket != NO_SOCKET:
            unix_socket = _open_unix(config)
            if unix_socket is not None:
                undo.callback(unix_socket.close)
                address = f"unix:{unix_socket.getsockname()}"
                file = SocketFile.of(unix_socket)
                undo.callback(file.remove)
                entrances.append(AdminEntrance(unix_socket, address, AccessPolicy.for_unix(), file))
        undo.pop_all()
    return tuple(entrances)


def _open_unix(config: Config) -> socket.socket | None:
    path = config.admin_socket
    try:
        return open_admin_unix(
            path, mode=int(config.admin_socket_mode, 8), owner=config.admin_socket_owner
        )
    except (ConfigError, ListenError) as error:
        if path != AUTO:
            raise
        logger.warning(
            "no admin socket, so `asgireload reload` will not find this server: %s", error
        )
        return None


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
