"""Waits until the client of a connection has read enough: for applications that send, and for files.

The connection calls `wake` when its transport has room again, and when it ends. Each waiter then checks its
condition again.
"""

import asyncio
from typing import Protocol

from asgireload.errors import ClientDisconnectedError
from asgireload.http.clock import Clock
from asgireload.http.live import Live
from asgireload.http.server import Server
from asgireload.http1.lingering_close import unsent_bytes
from asgireload.http1.write_scheduling import ConnectionWriter


class WritingConnection(Protocol):
    """The interface of a connection to its `Backpressure`."""

    clock: Clock
    live: Live
    server: Server
    writer: ConnectionWriter

    def is_closing(self) -> bool:
        """Return whether the connection is closing or has ended."""

    def is_gone(self) -> bool: ...

    def plain_socket(self) -> int | None: ...

    def drop_stalled(self) -> None:
        """Drop the connection of a client that has read nothing of its response for the write timeout."""


class Backpressure:
    """The waiters of one connection; also the `FileCarrier` of the files that are sent over it."""

    __slots__ = ("_connection", "_waiters")

    def __init__(self, connection: WritingConnection) -> None:
        self._connection = connection
        self._waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        """Wake all waiters, so that they check their conditions again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _wake(waiter)

    async def wait_writable(self) -> None:
        """Return when the client has read enough, or the connection has ended."""
        connection = self._connection
        while connection.writer.is_paused and not connection.is_closing():
            await self._wait()

    # For `send_span`; see `FileCarrier`.

    def write(self, data: bytes) -> None:
        self.count_sent(len(data))
        self._connection.writer.write(data)

    async def wait_movable(self) -> None:
        connection = self._connection
        while connection.writer.is_direct and not connection.is_closing():
            connection.writer.transport.resume_reading()
            await self._wait()

    async def wait_flushed(self) -> None:
        connection = self._connection
        connection.writer.flush()
        transport = connection.writer.transport
        if not transport.get_write_buffer_size():
            return
        transport.set_write_buffer_limits(0)
        try:
            while transport.get_write_buffer_size() and not connection.is_closing():
                await self._wait()
        finally:
            if not transport.is_closing():
                transport.set_write_buffer_limits()

    async def wait_socket_writable(self, descriptor: int) -> None:
        connection = self._connection
        loop = connection.clock.loop
        transport = connection.writer.transport
        waiter: asyncio.Future[None] = loop.create_future()
        # `wake` wakes this waiter, too, when the connection is lost.
        self._waiters.append(waiter)
        loop.add_writer(descriptor, _wake, waiter)
        try:
            # The kernel reports a socket as writable only when a third of its buffer is free; a client that has
            # read less than that must not be taken to be stalled.
            unsent = unsent_bytes(transport)
            while not await self._is_done_in_time(waiter):
                before, unsent = unsent, unsent_bytes(transport)
                if unsent >= before:
                    connection.drop_stalled()
                    break
        finally:
            loop.remove_writer(descriptor)
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        if connection.is_closing():
            raise ClientDisconnectedError("the client has left")

    async def _is_done_in_time(self, waiter: "asyncio.Future[None]") -> bool:
        timeout = self._connection.server.settings.write_timeout
        done, _ = await asyncio.wait([waiter], timeout=timeout)
        return bool(done)

    def is_gone(self) -> bool:
        return self._connection.is_gone()

    def plain_socket(self) -> int | None:
        return self._connection.plain_socket()

    def count_sent(self, size: int) -> None:
        self._connection.live.record.bytes_sent += size

    async def _wait(self) -> None:
        waiter = self._connection.clock.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            raise


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)
