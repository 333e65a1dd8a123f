"""Read the PROXY header from an accepted socket, before the socket becomes a connection.

What bytes mean is decided by `net/proxy_protocol.py`. Here exactly the header is taken from the socket:
whatever follows, TLS or HTTP, stays in it for the transport.
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
    """Receives the PROXY headers of one worker's connections and deals with those that owe one."""

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
        """Return the header of a non-blocking, accepted socket; the socket remains the caller's.

        `deadline`, on the loop's clock, is for the complete header.

        None: there is no good header, which was counted and logged, and the socket is closed. It is
        closed, too, when this is cancelled.
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
            # Load balancers look whether a port is open by connecting and leaving; that is no fault.
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
    """Take the PROXY header, and nothing behind it, from a non-blocking socket. Works on both loops.

    `deadline` is on the clock of `loop.time()`. Raise ProxyHeaderError for a malformed header or one
    that ends early, TimeoutError at the deadline, and OSError, ConnectionResetError among them, when
    the peer leaves without a byte. The socket stays open.
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
            # Bytes of an unfinished header are taken at once: left in the socket, they would make it
            # readable again and again until the rest has come.
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
    """Return who connected; None for a Unix socket. Raise OSError when the peer has left already."""
    name = sock.getpeername()
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _label(client: Client | None) -> str:
    return f"{client[0]}:{client[1]}" if client else "a local client"
