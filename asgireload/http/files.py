"""Files as response bodies: from the page cache to the socket without passing through Python.

`sendfile(2)` writes to the socket behind the transport's back, so it may run only while the transport
holds nothing unsent; the caller sees to that. Where there is no plain socket (TLS), the file is read in
pieces by a thread and written like any other body.
"""

import asyncio
import os
import stat
from typing import Protocol

from asgireload.errors import AppProtocolError, ClientDisconnectedError
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


def open_file(path: object) -> tuple[int, int]:
    """Open a regular file for reading; return its descriptor, which the caller closes, and its size.

    A relative path is taken as the application's own `open()` takes it, from the working directory. Raise
    AppProtocolError for what is no path or no regular file, OSError as open(2) does.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise AppProtocolError(f"pathsend needs a path, not {path!r:.100}")
    # Opening a FIFO would wait for its other end.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise AppProtocolError(f"{path!r} is not a regular file")
    return descriptor, status.st_size


def span_of(file: object, offset: object, count: object) -> tuple[int, int, int, bool]:
    """Return descriptor, offset, number of bytes, and whether the file's own position is to move on.

    `file` has a `fileno()`, or is a descriptor. Without `offset` sending starts at the file's position
    and moves it, as sendfile(2) does; without `count` it goes to the end. Raise AppProtocolError for what
    is no regular file or lies outside of it.
    """
    descriptor = file if isinstance(file, int) else _fileno(file)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise AppProtocolError("zerocopysend needs a regular file")
    moves = offset is None
    start = os.lseek(descriptor, 0, os.SEEK_CUR) if offset is None else offset
    if not isinstance(start, int) or start < 0:
        raise AppProtocolError(f"{offset!r} is not an offset in a file")
    rest = max(status.st_size - start, 0)
    size = rest if count is None else count
    if not isinstance(size, int) or not 0 <= size <= rest:
        raise AppProtocolError(f"the file has {rest} bytes behind its offset, not {count!r}")
    return descriptor, start, size, moves


def _fileno(file: object) -> int:
    fileno = getattr(file, "fileno", None)
    if fileno is None:
        raise AppProtocolError(f"zerocopysend needs an open file, not {type(file).__name__}")
    return int(fileno())


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
