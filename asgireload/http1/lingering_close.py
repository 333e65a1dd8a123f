"""A close that does not destroy the response it follows.

Closing a socket while bytes of the peer are unread, or still to come, makes the kernel send a reset,
and a reset discards what the peer has not read yet, the response included (RFC 9112 section 9.6). So
the sending side is closed first, and what arrives is dropped for a bounded time.
"""

import asyncio
import socket
import struct

from asgireload.net.probing import untaken_bytes

LINGER_SECONDS = 1.0
"""Covers a few round trips of a far client. A client that reads closes much sooner."""
RESET_SECONDS = 0.05
"""Between two looks whether the peer has taken everything, where it is to see an error then."""
LINGER_LONGEST = 30.0
"""Seconds for a client that goes on sending: closing under it would reset what it has yet to read, and many clients
read only when they have sent everything. As nginx has it (`lingering_time`); no bound on bytes, which would cut the
responses of those who are fast."""
STALLED_SECONDS = 30.0
"""A client that takes nothing of its response for so long gets no more of it."""


class LingeringClose:
    """Closes `transport` politely. Feed it what still arrives; it drops the bytes.

    The transport is closed when the peer closes, when it has taken its response and sends no more, when the
    time is used up, or, if the peer does not read the rest of its response, after it has stalled.
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
        """`stall_timeout` in seconds stands in for STALLED_SECONDS. `expects_input`: the peer was sending, and
        knows the end of what it gets without the close. `resets`: the end is to be seen as an error."""
        self._resets = resets
        self._expects_input = expects_input
        self._interval = RESET_SECONDS if resets else LINGER_SECONDS
        self._stall_timeout = STALLED_SECONDS if stall_timeout is None else stall_timeout
        self._transport = transport
        self._loop = loop
        self._dropped_bytes = 0
        self._counted_bytes = 0
        """Of the dropped ones, those up to the last look."""
        self._unsent_bytes = 0
        self._deadline = 0.0
        self._longest = loop.time() + LINGER_LONGEST
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        """The transport has been closed already, because it speaks TLS."""

    def begin(self) -> None:
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
                transport.write_eof()  # after what is buffered
            except OSError:
                transport.abort()  # the peer has reset the connection, which the loop has yet to see
                return
            transport.resume_reading()
        else:
            # TLS has no half-close in asyncio. Closing says goodbye behind what is buffered, and then waits for a
            # goodbye that many clients never send; asyncio's own loop takes data that comes instead for an error.
            if self._expects_input:
                transport.resume_reading()
            else:
                transport.close()
                self._is_closed = True
        self._unsent_bytes = self._count_unsent()
        self._deadline = self._loop.time() + self._stall_timeout
        self._timer = self._loop.call_later(self._interval, self._tick)

    def drop(self, data: bytes) -> None:
        self._dropped_bytes += len(data)

    def abort(self) -> None:
        """Close now. What the peer has not taken is lost."""
        self.cancel()
        if self._resets:
            reset(self._transport)
        else:
            self._transport.abort()

    def cancel(self) -> None:
        """Forget the timer. Called when the connection is lost."""
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
    """Close so that the peer sees an error: SO_LINGER with no time turns FIN into RST (socket(7))."""
    own_socket: socket.socket | None = transport.get_extra_info("socket")
    if own_socket is not None and own_socket.family != socket.AF_UNIX:
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return how many bytes the peer has yet to take: those in the transport, and those in the kernel.

    asyncio does not show the buffer below TLS; it is empty when the socket's is. A transport that has
    lost its socket holds nothing.
    """
    unsent = transport.get_write_buffer_size()
    own_socket: socket.socket | None = transport.get_extra_info("socket")
    if own_socket is not None:
        try:
            unsent += untaken_bytes(own_socket)
        except OSError:
            return unsent  # it is closed, which a copy of its number in the loop does not show
    return unsent
