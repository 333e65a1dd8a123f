"""Files as response bodies: from the page cache to the socket without passing through Python.

`sendfile(2)` writes to the socket behind the transport's back, so it may run only while the transport
holds nothing unsent; the caller sees to that. Where there is no plain socket (TLS), the file is read in
pieces by a thread and written like any other body.
"""

import asyncio
import os
from typing import Protocol

from asgireload.errors import ClientDisconnectedError
from asgireload.http.aside import run_aside

TURN_BYTES = 512 * 1024
"""Sent in one turn of the loop, so that one fast client does not keep the others waiting."""
READ_BYTES = 256 * 1024
"""Read at once where the kernel cannot send the file by itself."""


class FileCarrier(Protocol):
    """What sending a file needs of its connection."""

    def write(self, data: bytes) -> None: ...

    async def wait_writable(self) -> None: ...

    async def wait_movable(self) -> None:
        """Return when it is settled whether there is a `plain_socket`, or the client is gone."""
        ...

    async def wait_flushed(self) -> None:
        """Return when the transport holds nothing unsent, or the client is gone."""
        ...

    async def wait_socket_writable(self, descriptor: int) -> None:
        """Return when the socket takes more. Raise ClientDisconnectedError when the client is gone, or has
        not read for the write timeout."""
        ...

    def is_gone(self) -> bool:
        """Whether nothing that is sent from now on can arrive."""
        ...

    def plain_socket(self) -> int | None:
        """Return the descriptor of the socket, or None when bytes must go through the transport."""
        ...

    def count_sent(self, size: int) -> None: ...


async def send_span(carrier: FileCarrier, descriptor: int, offset: int, size: int) -> None:
    """Send `size` bytes of the file from `offset`. What was written to the carrier before goes first.

    Raise ClientDisconnectedError when the client is gone, EOFError when the file has become shorter.
    """
    await carrier.wait_movable()
    if carrier.plain_socket() is None:
        await _copy(carrier, descriptor, offset, size)
        return
    os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_SEQUENTIAL)
    await carrier.wait_flushed()
    sock = carrier.plain_socket()
    # A socket that was closed may not say so, and its number may be another client's by now.
    if sock is None or carrier.is_gone():
        raise ClientDisconnectedError("the client has left")
    # The loop knows the transport's descriptor already; one of our own can be watched beside it.
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
    # The file may be closed by its owner while a thread reads it, if the application is cancelled.
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
    """Await a read that must have ended before its descriptor is closed, also when cancelled."""
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait([reading])
        raise
