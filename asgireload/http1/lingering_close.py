"""A lingering close, which does not destroy the response that was written before it.

Closing a socket while bytes of the peer are unread, or still to come, makes the kernel send a reset. A reset
discards the bytes that the peer has not read yet, the response included (RFC 9112 section 9.6). So the sending side
is closed first, and received bytes are dropped for a bounded time.
"""

import asyncio
import socket
import struct

from asgireload.net.probing import untaken_bytes

LINGER_SECONDS = 1.0
"""Seconds between two looks at the peer: a few round trips to a distant client. Most clients close much sooner."""
RESET_SECONDS = 0.05
"""Seconds between two looks if the connection is to be reset once the peer has taken all bytes."""
LINGER_LONGEST = 30.0
"""Most seconds for a client that keeps sending, as `lingering_time` of nginx: many clients read the response only
after they have sent everything. There is no bound on bytes, which would truncate the responses of fast clients."""
STALLED_SECONDS = 30.0
"""Seconds after which the connection of a client that takes no more of its response is aborted."""


class LingeringClose:
    """Closes `transport` once the peer has taken its response. Pass received bytes to `drop`.

    The transport is closed when the peer closes, when the peer has taken its response and sends no more, after
    LINGER_LONGEST, or when the peer has stalled.
    """

    __slots__ = (
        "_counted_bytes",
        "_deadline",
        "_dropped_bytes",
        "_expects_input",
        "_interval",
        "_is_closed",
        "_longest",
        "_loop",
        "_resets",
        "_stall_timeout",
        "_timer",
        "_transport",
        "_unsent_bytes",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        stall_timeout: float | None = None,
        *,
        expects_input: bool = False,
        resets: bool = False,
    ) -> None:
        """`stall_timeout`: seconds, in place of STALLED_SECONDS. `expects_input`: the peer may still be sending,
        and can tell the end of the response without the close. `resets`: reset the connection in the end, so that
        the peer sees an error."""
        self._resets = resets
        self._expects_input = expects_input
        self._interval = RESET_SECONDS if resets else LINGER_SECONDS
        self._stall_timeout = STALLED_SECONDS if stall_timeout is None else stall_timeout
        self._transport = transport
        self._loop = loop
        self._dropped_bytes = 0
        self._counted_bytes = 0
        """The value of `_dropped_bytes` at the last look."""
        self._unsent_bytes = 0
        self._deadline = 0.0
        self._longest = loop.time() + LINGER_LONGEST
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        """`transport.close` was called before the end, because the transport uses TLS."""

    def begin(self) -> None:
        """Close the sending side, after the buffered bytes, and start the timer."""
        transport = self._transport
        if transport.is_closing():
            return
        if self._resets:
            if not self._count_unsent():
                self._close()
                return
            transport.resume_reading()
        elif transport.can_write_eof():
            try:
                transport.write_eof()  # it takes effect after the buffered bytes
            except OSError:
                transport.abort()  # the peer has reset the connection, and the loop has not noticed yet
                return
            transport.resume_reading()
        else:
            # asyncio has no half-close for TLS. `close` sends close_notify after the buffered bytes, and waits for
            # the close_notify of the peer, which many clients never send. The loop of asyncio treats data that
            # arrives instead as an error.
            if self._expects_input:
                transport.resume_reading()
            else:
                transport.close()
                self._is_closed = True
        self._unsent_bytes = self._count_unsent()
        self._deadline = self._loop.time() + self._stall_timeout
        self._timer = self._loop.call_later(self._interval, self._tick)

    def drop(self, data: bytes) -> None:
        """Count `data`, which was received, and drop it."""
        self._dropped_bytes += len(data)

    def abort(self) -> None:
        """Close now. Bytes that the peer has not taken are lost."""
        self.cancel()
        if self._resets:
            reset(self._transport)
        else:
            self._transport.abort()

    def cancel(self) -> None:
        """Cancel the timer. Called when the connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        unsent = self._count_unsent()
        now = self._loop.time()
        is_sending, self._counted_bytes = (
            self._dropped_bytes > self._counted_bytes,
            self._dropped_bytes,
        )
        if self._resets and unsent == 0:
            self._close()
            return
        if unsent == 0 and self._unsent_bytes == 0:
            if not is_sending or self._is_closed or now >= self._longest:
                self._close()
                return
        elif unsent < self._unsent_bytes:
            self._longest = now + LINGER_LONGEST
            self._deadline = now + self._stall_timeout
        elif now >= self._deadline:
            if self._resets:
                reset(self._transport)
            else:
                self._transport.abort()
            return
        self._unsent_bytes = unsent
        self._timer = self._loop.call_later(self._interval, self._tick)

    def _close(self) -> None:
        self.cancel()
        if self._resets:
            reset(self._transport)
            return
        if self._is_closed:
            self._transport.abort()
            return
        self._transport.close()
        if not self._transport.can_write_eof():
            self._is_closed = True
            self._timer = self._loop.call_later(LINGER_SECONDS, self._tick)

    def _count_unsent(self) -> int:
        return unsent_bytes(self._transport)


def reset(transport: asyncio.Transport) -> None:
    """Close so that the peer sees an error: SO_LINGER with a time of 0 sends RST in place of FIN (socket(7))."""
    own_socket: socket.socket | None = transport.get_extra_info("socket")
    if own_socket is not None and own_socket.family != socket.AF_UNIX:
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the peer has yet to take: those in the transport and those in the kernel.

    asyncio does not expose the buffer below TLS, which is empty when that of the socket is. For a transport that
    has lost its socket, only the bytes in the transport are counted.
    """
    unsent = transport.get_write_buffer_size()
    own_socket: socket.socket | None = transport.get_extra_info("socket")
    if own_socket is not None:
        try:
            unsent += untaken_bytes(own_socket)
        except OSError:
            return unsent  # the socket is closed; the socket object of the loop does not know
    return unsent
