"""Serve the first request of a connection inline, before the event loop gets its socket.

A listening socket may defer connections in the kernel until their first bytes are there (`net/deferring.py`). Then
the request can be read and answered as soon as the connection is accepted and, if it is the last one, the socket
closed. That saves a transport of the loop, which costs more than all the rest. As soon as anything must be waited
for, the socket moves to the loop: more bytes from the client, a client that reads its response slowly, or an
application that takes longer than MOMENT. Neither the client nor the application notices the move.

    INLINE ──anything to wait for──▶ MOVING ──connection_made──▶ MOVED: every call is passed on
       └──closed, or lost──▶ ENDED ◀── lost ──┘
"""

import asyncio
import logging
import socket
import struct
from enum import Enum, auto
from typing import Any, Final, cast

from asgireload.http1.connection import HttpConnection
from asgireload.http1.resuming import Resuming
from asgireload.http1.wire import Http1Wire
from asgireload.worker.connecting import BareSocket, Connecting
from asgireload.worker.protocols import inline_protocol

READ_BYTES: Final = 16 * 1024
"""Bytes received inline; more belong to a body, which the loop receives."""
HIGH_WATER_BYTES: Final = 64 * 1024
"""Unsent bytes above which the protocol is paused, as in the transports of both loops."""
MOMENT: Final = 0.01
"""Seconds; a connection whose request takes longer (one to two MOMENTs) moves to the loop, which notices when the
client disconnects."""

_TCP: Final = int(socket.IPPROTO_TCP)
_RECEIVE: Final = int(socket.MSG_DONTWAIT)
# Systems without these flags do not defer connections.
_SEND: Final = _RECEIVE | int(getattr(socket, "MSG_NOSIGNAL", 0))
_SEND_LAST: Final = _SEND | int(getattr(socket, "MSG_MORE", 0))
"""MSG_MORE (send(2)): the kernel waits for the FIN that follows and sends it with the data, which saves a segment
and its acknowledgement."""

_logger = logging.getLogger("asgireload.error")


class InlineState(Enum):
    INLINE = auto()
    MOVING = auto()
    """The loop has the socket, but has not called `connection_made`: nothing is read or written until then."""
    MOVED = auto()
    ENDED = auto()


class InlineTransport:
    """The part of asyncio.Transport that `HttpConnection` uses, on a connected TCP socket.

    The transport writes at once and reads nothing: `resume_reading` moves the socket to the loop.
    """

    __slots__ = (
        "_buffer",
        "_connecting",
        "_ends_writing",
        "_high_water",
        "_inline_serving",
        "_is_aborted",
        "_is_closing",
        "_is_protocol_paused",
        "_local",
        "_loop",
        "_peer",
        "_protocol",
        "_socket",
        "_socket_state",
        "_transport",
    )

    def __init__(
        self,
        inline: "InlineServing",
        connected: socket.SocketType,
        peer: object,
        local: tuple[Any, ...] | None,
        protocol: HttpConnection,
    ) -> None:
        """Own `connected`. `local` is the local address; if None, it is read from the socket."""
        self._inline_serving = inline
        self._loop = inline.loop
        self._socket = connected
        self._peer = peer
        self._local = local
        self._protocol: HttpConnection | None = protocol
        self._socket_state = InlineState.INLINE
        self._connecting: Connecting | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._high_water = HIGH_WATER_BYTES
        self._is_protocol_paused = False
        self._is_closing = False
        self._is_aborted = False
        self._ends_writing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if self._transport is not None:
            return self._transport.get_extra_info(name, default)
        if name == "peername":
            return self._peer
        if name == "sockname" and self._socket_state is InlineState.INLINE:
            if self._local is None:
                self._local = self._socket.getsockname()
            return self._local
        if name == "socket" and self._socket_state is InlineState.INLINE:
            return self._socket
        return default

    def is_closing(self) -> bool:
        if self._transport is not None:
            return self._transport.is_closing()
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        if self._transport is not None:
            return self._transport.get_write_buffer_size()
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high)
        else:
            self._high_water = HIGH_WATER_BYTES if high is None else high
            self._pause_protocol()

    def write(self, data: bytes) -> None:
        self._write(data, _SEND)

    def write_last(self, data: bytes) -> None:
        """Write the last bytes, which leave together with the FIN. The caller calls `close` or `write_eof` next."""
        self._write(data, _SEND_LAST)

    def _write(self, data: bytes, flags: int) -> None:
        if self._transport is not None:
            self._transport.write(data)
        elif self._socket_state is InlineState.MOVING:
            if not self._is_closing:
                self._buffer += data
                self._pause_protocol()
        elif self._socket_state is InlineState.INLINE and data:
            try:
                sent = self._socket.send(data, flags)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._end(error)
                return
            if sent < len(data):
                self._buffer = data[sent:]
                self.move()
                self._pause_protocol()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Shut down the sending side. Raise OSError when the peer has reset the connection."""
        if self._transport is not None:
            self._transport.write_eof()
        elif self._socket_state is InlineState.INLINE:
            self._socket.shutdown(socket.SHUT_WR)
        else:
            self._ends_writing = True

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()
        else:
            self.move()

    def pause_reading(self) -> None:
        """Do nothing before the socket has moved: nothing is read, and `move_to` pauses reading if it has to."""
        if self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        elif self._socket_state is InlineState.INLINE:
            self._release()
            # At once, unlike the loops, which do so in their next turn: no caller of `close` goes on after it.
            self._tell_lost(None)
        else:
            self._is_closing = True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        elif self._socket_state is InlineState.INLINE:
            self._end(None)
        else:
            self._is_closing = self._is_aborted = True

    def move(self) -> None:
        """Give the socket to the loop, once; `HttpConnection.move_to` is called when the loop has the socket."""
        if self._socket_state is not InlineState.INLINE:
            return
        self._socket_state = InlineState.MOVING
        self._inline_serving.discard(self)
        family, kind = int(self._socket.family), int(self._socket.type)
        moved = BareSocket(self._socket.detach(), family, kind)
        self._connecting = Connecting(self._loop, self._make_stand_in, moved, self._on_moved)
        # Perhaps the application has caused this call: what the loop makes now must not keep its context.
        self._inline_serving.variables.copy().run(self._connecting.begin)

    def _make_stand_in(self) -> asyncio.BaseProtocol:
        return Resuming(self._loop, self._take_over, self._lose)

    def _take_over(self, transport: asyncio.Transport) -> None:
        """Apply to the loop's transport every call that was made while the socket moved."""
        protocol = self._protocol
        assert protocol is not None
        self._protocol = None
        self._socket_state = InlineState.MOVED
        self._transport = transport
        transport.set_protocol(cast("asyncio.BaseProtocol", protocol))
        if transport.is_closing():
            return  # the client has reset the connection, and the loop is about to call `connection_lost`
        if self._is_aborted:
            # By SO_LINGER the socket is reset: a response that the abort truncates must not look complete.
            own_socket: socket.socket = transport.get_extra_info("socket")
            own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
            return
        if self._high_water != HIGH_WATER_BYTES:
            transport.set_write_buffer_limits(self._high_water)
        protocol.writer.is_paused = False  # the transport pauses it again if need be
        if self._buffer:
            buffer, self._buffer = self._buffer, b""
            transport.write(buffer)
        if self._ends_writing:
            transport.write_eof()
        if self._is_closing:
            transport.close()
        protocol.move_to(transport)
        if self._is_protocol_paused and not protocol.writer.is_paused:
            protocol.resume_writing()

    def _on_moved(self, connecting: Connecting, error: BaseException | None) -> None:
        self._connecting = None
        if error is not None:
            _logger.error("A connection could not be given to the event loop: %s", error)
            self._lose(error if isinstance(error, Exception) else None)

    def _lose(self, error: Exception | None) -> None:
        """Call `connection_lost` later: the loop has closed the socket before it called `connection_made`."""
        self._is_closing = True
        self._buffer = b""
        self._socket_state = InlineState.ENDED
        self._loop.call_soon(self._tell_lost, error)

    def _end(self, error: Exception | None) -> None:
        self._release()
        self._loop.call_soon(self._tell_lost, error)

    def _release(self) -> None:
        self._is_closing = True
        self._socket_state = InlineState.ENDED
        self._inline_serving.discard(self)
        self._socket.close()

    def _tell_lost(self, error: Exception | None) -> None:
        protocol = self._protocol
        if protocol is not None:
            self._protocol = None
            protocol.connection_lost(error)

    def _pause_protocol(self) -> None:
        if (
            len(self._buffer) > self._high_water
            and not self._is_protocol_paused
            and self._protocol is not None
        ):
            self._is_protocol_paused = True
            self._protocol.pause_writing()


class InlineServing:
    """Serves new connections of one server inline. Used on the loop of the server only."""

    __slots__ = ("_lately", "_longer", "_timer", "_wire", "loop", "variables")

    def __init__(self, wire: Http1Wire) -> None:
        self.loop = wire.server.clock.loop
        self.variables = wire.server.variables
        """The context in which sockets are given to the loop."""
        self._wire = wire
        self._lately: set[InlineTransport] = set()
        self._longer: set[InlineTransport] = set()
        """Transports that were inline already when the timer was last due."""
        self._timer: asyncio.TimerHandle | None = None

    def serve(self, accepted: BareSocket, local: tuple[Any, ...] | None) -> bool:
        """Serve a TCP connection whose first bytes are there, and own it; return False to leave it to the caller.

        `local` is the local address; if None, it is read from the socket.
        """
        server = self._wire.server
        if server.live.is_held or server.drain.notice:
            return False  # requests are held, or the connection is to drain
        # `socket.SocketType` is the base class in C, cheaper than `socket.socket`; MSG_DONTWAIT for each call saves
        # the system call that sets a mode.
        connected = socket.SocketType(
            accepted.family, accepted.type, _TCP, fileno=accepted.fileno()
        )
        if socket.getdefaulttimeout() is not None:
            connected.setblocking(False)
        try:
            data = connected.recv(READ_BYTES, _RECEIVE)
        except OSError:
            data = b""
        if not data:
            # No bytes, end of file or an error: the loop finds out which.
            connected.detach()
            return False
        protocol = inline_protocol(self._wire)
        transport = InlineTransport(self, connected, accepted.peer, local, protocol)
        self._lately.add(transport)
        if self._timer is None:
            self._timer = self.loop.call_later(MOMENT, self._look)
        try:
            protocol.begin_inline(cast("asyncio.Transport", transport), data)
        except Exception as error:  # noqa: BLE001 - reported as the loop reports an error in a protocol
            self.loop.call_exception_handler(
                {"message": "Fatal error: a request could not be begun", "exception": error}
            )
            transport.abort()
        return True

    def discard(self, transport: InlineTransport) -> None:
        self._lately.discard(transport)
        self._longer.discard(transport)

    def _look(self) -> None:
        """Move to the loop the connections that were inline at the last call already."""
        self._timer = None
        for transport in tuple(self._longer):
            transport.move()
        self._longer, self._lately = self._lately, set()
        if self._longer:
            self._timer = self.loop.call_later(MOMENT, self._look)
