"""Read the PROXY header from an accepted socket, before the socket becomes a connection.

`net/proxy_protocol.py` parses the bytes. This module takes exactly the header from the socket; the bytes that
follow, TLS or HTTP, stay in the socket for the transport.
"""

import asyncio
import logging
import socket

from asgireload.errors import ProxyHeaderError
from asgireload.ipc.scoreboard import Limit, Record
from asgireload.net.networks import Client, TrustedNetworks
from asgireload.net.proxy_protocol import MAX_HEADER_BYTES, ProxyHeader, read_header

_logger = logging.getLogger("asgireload.error")


class ProxyHeaderReader:
    """Receives the PROXY headers of one worker's connections, and closes connections without a valid header."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        trusted: TrustedNetworks,
        record: Record,
    ) -> None:
        self._loop = loop
        self._trusted = trusted
        self._record = record

    async def read(self, sock: socket.socket, deadline: float) -> ProxyHeader | None:
        """Return the header of a non-blocking, accepted socket, which the caller still owns.

        `deadline`, on the loop's clock, bounds the complete header. Return None, with the socket closed and the
        failure logged, when there is no valid header from a trusted peer. The socket is also closed when this is
        cancelled.
        """
        client: Client | None = None
        try:
            client = _peer(sock)
            self._check_trust(client)
            return await read_proxy_header(self._loop, sock, deadline)
        except TimeoutError:
            self._record.count_limit(Limit.HANDSHAKE_TIMEOUT)
            _logger.warning(
                "Closed a connection from %s: no complete PROXY header in time", _label(client)
            )
        except ProxyHeaderError as error:
            self._record.count_limit(Limit.HANDSHAKE_FAILED)
            _logger.warning("Closed a connection from %s: %s", _label(client), error)
        except OSError as error:
            # Load balancers check whether a port is open by connecting and closing; that is no fault.
            _logger.debug("A connection ended before its PROXY header: %s", error)
        except BaseException:
            sock.close()
            raise
        sock.close()
        return None

    def _check_trust(self, client: Client | None) -> None:
        if not self._trusted.is_trusted(client):
            raise ProxyHeaderError(
                "the peer is not trusted with PROXY headers; if it is a proxy of yours, name it in"
                " --proxy-protocol-allow-from"
            )


async def read_proxy_header(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, deadline: float
) -> ProxyHeader:
    """Take the PROXY header, and nothing after it, from a non-blocking socket. Works with asyncio and uvloop.

    `deadline` is on the clock of `loop.time()`. Raise ProxyHeaderError for a malformed or truncated header,
    TimeoutError at the deadline, ConnectionResetError when the peer closes without a byte, and OSError for other
    errors of the socket. The socket stays open.
    """
    received = b""
    async with asyncio.timeout_at(deadline):
        while True:
            try:
                waiting = sock.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                await _wait_readable(loop, sock)
                continue
            if not waiting:
                if received:
                    raise ProxyHeaderError("the connection ended within its PROXY header")
                raise ConnectionResetError("the peer has left")
            header = read_header(received + waiting)
            # Bytes of an incomplete header are taken at once: left in the socket, they would keep it readable until
            # the rest has come.
            size = len(waiting) if header is None else header.size - len(received)
            received += sock.recv(size)
            if header is not None and len(received) == header.size:
                return header


async def _wait_readable(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
    readable = loop.create_future()
    descriptor = sock.fileno()
    loop.add_reader(descriptor, _fulfil, readable)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)


def _fulfil(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _peer(sock: socket.socket) -> Client | None:
    """Return the peer's address; None for a Unix socket. Raise OSError when the peer has disconnected."""
    name = sock.getpeername()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _label(client: Client | None) -> str:
    return f"{client[0]}:{client[1]}" if client else "a local client"
