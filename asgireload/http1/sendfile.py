"""Sends files as response bodies, with sendfile(2): from the page cache to the socket, not through Python.

sendfile(2) bypasses the transport, so it may run only while the transport has nothing buffered (`wait_flushed`).
Without a plain socket (TLS), a thread reads the file in pieces, which are written like any other body.
"""

import asyncio
import os
from typing import Protocol

from asgireload.errors import ClientDisconnectedError
from asgireload.http.aside import run_aside

TURN_BYTES = 512 * 1024
"""Bytes sent in one turn of the loop, so that one fast client does not keep the others waiting."""
READ_BYTES = 256 * 1024
"""Bytes read at once when sendfile(2) cannot be used."""


class FileCarrier(Protocol):
    """The interface of a connection to `send_span`."""

    def write(self, data: bytes) -> None: ...

    async def wait_writable(self) -> None: ...

    async def wait_movable(self) -> None:
        """Return when the event loop has the socket, so that `plain_socket` is final, or the client has left."""
        ...

    async def wait_flushed(self) -> None:
        """Return when the write buffer of the transport is empty, or the client has left."""
        ...

    async def wait_socket_writable(self, descriptor: int) -> None:
        """Return when the socket is writable.

        Raise ClientDisconnectedError when the client has left, or has not read for the write timeout.
        """
        ...

    def is_gone(self) -> bool:
        """Return whether the connection is closing or lost, so that nothing sent from now on can arrive."""
        ...

    def plain_socket(self) -> int | None:
        """Return the descriptor of the socket, or None when bytes must go through the transport."""
        ...

    def count_sent(self, size: int) -> None: ...


async def send_span(carrier: FileCarrier, descriptor: int, offset: int, size: int) -> None:
    """Send `size` bytes of a file from `offset` on, after all bytes that were written to the carrier before.

    The caller closes `descriptor`. Raise ClientDisconnectedError when the client has left, EOFError when the file
    has become shorter.
    """
    await carrier.wait_movable()
    if carrier.plain_socket() is None:
        await _copy(carrier, descriptor, offset, size)
        return
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_SEQUENTIAL)
    await carrier.wait_flushed()
    sock = carrier.plain_socket()
    # The descriptor of a closed socket may belong to another client by now.
    if sock is None or carrier.is_gone():
        raise ClientDisconnectedError("the client has left")
    # The loop watches the descriptor of the transport already; a duplicate can be watched in addition.
    own = os.dup(sock)
    try:
        sent_in_turn = 0
        while size:
            try:
                sent = os.sendfile(own, descriptor, offset, min(size, TURN_BYTES))
            except BlockingIOError:
                await carrier.wait_socket_writable(own)
                sent_in_turn = 0
                continue
            except (BrokenPipeError, ConnectionError) as error:
                raise ClientDisconnectedError("the client has left") from error
            if sent == 0:
                raise EOFError("the file has become shorter while it was sent")
            carrier.count_sent(sent)
            offset += sent
            size -= sent
            sent_in_turn += sent
            if sent_in_turn >= TURN_BYTES and size:
                sent_in_turn = 0
                await asyncio.sleep(0)
    finally:
        os.close(own)


async def _copy(carrier: FileCarrier, descriptor: int, offset: int, size: int) -> None:
    loop = asyncio.get_running_loop()
    # If the application is cancelled, the file may be closed while a thread reads it.
    own = os.dup(descriptor)
    try:
        while size:
            reading = run_aside(loop, os.pread, own, min(size, READ_BYTES), offset)
            data = await _finish(reading)
            if not data:
                raise EOFError("the file has become shorter while it was sent")
            if carrier.is_gone():
                raise ClientDisconnectedError("the client has left")
            carrier.write(data)
            offset += len(data)
            size -= len(data)
            await carrier.wait_writable()
    finally:
        os.close(own)


async def _finish(reading: "asyncio.Future[bytes]") -> bytes:
    """Await a read to its end, also when cancelled: the descriptor must not be closed before."""
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait([reading])
        raise
