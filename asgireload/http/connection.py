"""One accepted HTTP/1 connection: moves bytes, keeps time, and keeps requests in order.

Parsing, framing and ASGI live elsewhere; this file decides when to read, when to write, when to close.

    SILENT ──bytes──▶ HEAD ──head──▶ EXCHANGE ──response──▶ IDLE ──bytes──▶ HEAD …
       any of them ──last response, fault, deadline──▶ CLOSING
       HEAD ──WebSocket handshake──▶ UPGRADED (another protocol owns the socket)

A drain (see `LiveConnection`) ends the connection without losing a request: a response begun after the
drain says `Connection: close` when nothing is queued behind it, and a connection without a request
stays open for `drain_grace` seconds, because a request may be on its way.
"""

import asyncio
import socket
import struct
import time
from collections import deque
from enum import Enum, auto
from typing import cast

from asgireload.errors import PeerError
from asgireload.http.context import ServingContext, error_logger
from asgireload.http.endpoints import Endpoints
from asgireload.http.exchange import HttpExchange
from asgireload.http.lingering import LingeringClose
from asgireload.http.parser import RequestHead
from asgireload.http.parsers import make_parser
from asgireload.http.writer import CONTINUE, frame_error
from asgireload.ipc.scoreboard import Field

DISCARD_BYTES = 64 * 1024
"""The rest of a request body that no one reads is received and dropped up to this size, so that the
connection can be kept; for more than that, closing is cheaper for both sides."""

_BYTES_RECEIVED_TOTAL = int(Field.BYTES_RECEIVED_TOTAL)
_BYTES_SENT_TOTAL = int(Field.BYTES_SENT_TOTAL)
_PEER_ERRORS_TOTAL = int(Field.PEER_ERRORS_TOTAL)
_CUT_TOTAL = int(Field.CUT_TOTAL)


class ConnectionState(Enum):
    SILENT = auto()
    """Accepted; nothing was received."""
    IDLE = auto()
    """Between two requests."""
    HEAD = auto()
    """Part of a request head was received."""
    EXCHANGE = auto()
    """A request is being answered, or the unread rest of its body is awaited."""
    CLOSING = auto()
    """The last byte was written; what arrives is dropped."""
    UPGRADED = auto()
    """A WebSocket connection has taken over the socket."""


class HttpConnection(asyncio.Protocol):
    """The protocol factory's product: `loop.create_server(lambda: HttpConnection(context), …)`."""

    def __init__(self, context: ServingContext) -> None:
        self.context = context
        self.state = ConnectionState.SILENT
        self.is_write_paused = False
        self.endpoints: Endpoints
        self._transport: asyncio.Transport
        self._parser = make_parser(context.settings.parser, self, context.settings.head_bytes_limit)
        self._current: HttpExchange | None = None
        """The exchange whose response is next on the wire."""
        self._queue: deque[HttpExchange] = deque()
        """Pipelined exchanges behind it; not read further while there is one, so bounded by a read."""
        self._incoming: HttpExchange | None = None
        """The exchange whose request body is being received; the current or the last queued one."""
        self._upgrade_head: RequestHead | None = None
        self._peer_error: PeerError | None = None
        """To be answered once the exchanges before it are."""
        self._has_peer_closed = False
        self._is_reading_paused = False
        self._write_waiters: list[asyncio.Future[None]] = []
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._lingering: LingeringClose | None = None

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.endpoints = Endpoints(transport)
        self.context.register(self)
        self._set_timeout(self.context.settings.head_timeout)
        if self.context.drain:
            self.begin_drain()

    def data_received(self, data: bytes) -> None:
        self.context.record.values[_BYTES_RECEIVED_TOTAL] += len(data)
        if self._lingering is not None:
            self._lingering.drop(data)
            return
        if self.state is ConnectionState.CLOSING or self._peer_error is not None:
            return
        try:
            rest = self._parser.feed(data)
        except PeerError as error:
            self._handle_peer_error(error)
            return
        if self._upgrade_head is not None:
            self._upgrade(self._upgrade_head, rest or b"")
        elif self._current is None:
            if self._queue:
                self._start_next()
            else:
                self._note_partial_head()
        if self._queue:
            self._pause_reading()

    def eof_received(self) -> bool:
        """Keep the sending side open while complete requests wait for their answers.

        A client may close its sending side behind its last request and still read. One that has left
        altogether is known only once something is written to it.
        """
        self._has_peer_closed = True
        if self._lingering is not None or self.state is ConnectionState.CLOSING:
            return False
        incoming = self._incoming
        if incoming is not None:
            # The rest of this body will never come.
            self._incoming = None
            incoming.disconnect()
            if incoming is self._current:
                self._release_current()
                return False
            self._queue.remove(incoming)
        for exchange in self._pending():
            exchange.note_peer_closed()
        # A TLS transport closes both sides whatever is returned, and warns about True.
        return self._current is not None and not self.endpoints.is_secure

    def connection_lost(self, error: Exception | None) -> None:
        self.state = ConnectionState.CLOSING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lingering is not None:
            self._lingering.cancel()
        self._drop_exchanges()
        self.resume_writing()
        self.context.unregister(self)

    def pause_writing(self) -> None:
        self.is_write_paused = True

    def resume_writing(self) -> None:
        self.is_write_paused = False
        waiters, self._write_waiters = self._write_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # The parser calls these, within `data_received`.

    def on_head(self, head: RequestHead) -> bool:
        if (
            head.is_websocket
            and self.context.speaks_websocket
            and self._current is None
            and not self._queue
        ):
            # RFC 9110 section 7.8: a server may ignore Upgrade. Behind a pipelined request we do.
            self._upgrade_head = head
            return True
        exchange = HttpExchange(self, head)
        self.context.count_request()
        self._incoming = exchange
        self._queue.append(exchange)
        return False

    def on_body(self, data: bytes) -> None:
        exchange = self._incoming
        if exchange is not None and exchange.feed_body(data):
            self._pause_reading()

    def on_complete(self) -> None:
        exchange = self._incoming
        if exchange is None:
            return
        self._incoming = None
        exchange.complete_request()
        if exchange is self._current and exchange.is_response_complete:
            # The unread rest of its body has arrived: the connection can be used again.
            self._release_current()
            self._go_idle()

    # The exchange calls these.

    def write(self, data: bytes) -> None:
        self.context.record.values[_BYTES_SENT_TOTAL] += len(data)
        self._transport.write(data)

    async def wait_writable(self) -> None:
        while self.is_write_paused:
            waiter = self.context.loop.create_future()
            self._write_waiters.append(waiter)
            await waiter

    def send_continue(self) -> None:
        self.write(CONTINUE)

    def resume_body(self) -> None:
        if not self._queue:
            self._resume_reading()

    def must_close_after(self, exchange: HttpExchange, *, is_last_piece: bool) -> bool:
        if not exchange.head.keep_alive:
            return True
        if not exchange.is_request_complete and (
            exchange.needs_continue or (is_last_piece and not self._can_discard_rest(exchange))
        ):
            # The body may never come, or is too long to wait for it.
            return True
        if self._queue:
            return False
        return self._peer_error is None and (bool(self.context.drain) or self._has_peer_closed)

    def response_completed(self, exchange: HttpExchange, *, closes: bool) -> None:
        if not exchange.is_request_complete and not closes and self._can_discard_rest(exchange):
            self._resume_reading()
            self._set_timeout(self.context.settings.keep_alive_timeout)
            return
        is_input_possible = self.context.drain or exchange.head.keep_alive or self._incoming
        self._release_current()
        if closes or not exchange.is_request_complete:
            self._close(lingers=bool(is_input_possible))
        elif self._queue:
            self._start_next()
        elif self._peer_error is not None:
            self._answer_peer_error(self._peer_error)
        elif self._has_peer_closed:
            self._close(lingers=False)
        else:
            self._go_idle()

    def response_broken(self, exchange: HttpExchange, *, needs_reset: bool) -> None:
        self._release_current()
        if needs_reset:
            self._reset()
        else:
            self._close(lingers=True)

    # The drain calls these; see `LiveConnection`.

    def begin_drain(self) -> None:
        if self.state is ConnectionState.SILENT or self.state is ConnectionState.IDLE:
            self._set_timeout(self.context.settings.drain_grace)
        elif self.state is ConnectionState.HEAD:
            self._set_timeout(self._seconds_to_drain_deadline())

    def cut(self) -> None:
        exchange = self._current
        if exchange is not None and not exchange.is_response_complete:
            self.context.record.values[_CUT_TOTAL] += 1
            is_begun = exchange.is_response_begun
            self._drop_exchanges(cancel=True)
            if is_begun:
                # A reset: an unfinished body must not look complete, whatever its framing.
                self._reset()
            else:
                self._answer(503, "Service Unavailable")
        elif self.state is ConnectionState.HEAD:
            self._answer(503, "Service Unavailable")
        elif self._lingering is None:
            self._close(lingers=True)

    def abort(self) -> None:
        self._drop_exchanges(cancel=True)
        self._transport.abort()

    # Order of exchanges.

    def _start_next(self) -> None:
        exchange = self._queue.popleft()
        self._current = exchange
        self.state = ConnectionState.EXCHANGE
        exchange.task = self.context.loop.create_task(exchange.run())
        if not self._queue and exchange.can_keep_reading:
            self._resume_reading()

    def _release_current(self) -> None:
        """Make room for the next exchange. Its application may still run, in the background."""
        exchange = self._current
        if exchange is None:
            return
        self._current = None
        if self._incoming is exchange:
            self._incoming = None
        self._run_in_background(exchange)

    def _run_in_background(self, exchange: HttpExchange) -> None:
        if exchange.task is not None:
            self.context.add_background(exchange.task)

    def _pending(self) -> list[HttpExchange]:
        return [*self._queue] if self._current is None else [self._current, *self._queue]

    def _drop_exchanges(self, *, cancel: bool = False) -> None:
        """Let go of all exchanges because the client will get no more responses."""
        exchanges = self._pending()
        self._queue.clear()
        self._current = self._incoming = None
        for exchange in exchanges:
            self._run_in_background(exchange)
            if cancel:
                exchange.abandon()
            else:
                exchange.disconnect()

    def _can_discard_rest(self, exchange: HttpExchange) -> bool:
        head = exchange.head
        return (
            head.keep_alive
            and not head.chunked
            and not exchange.needs_continue
            and not self._has_peer_closed
            and self._incoming is exchange
            and head.content_length - exchange.body_received <= DISCARD_BYTES
        )

    # Faults of the peer.

    def _handle_peer_error(self, error: PeerError) -> None:
        self.context.record.values[_PEER_ERRORS_TOTAL] += 1
        error_logger.warning(
            "Invalid HTTP request received from %s: %s",
            self.endpoints.client_label or "a local client",
            error.reason,
        )
        self._peer_error = error
        incoming, self._incoming = self._incoming, None
        if incoming is not None and incoming is not self._current:
            # A queued request turned out to be broken; the application never sees it.
            self._queue.remove(incoming)
            incoming.disconnect()
        elif incoming is not None:
            incoming.disconnect()
            self._release_current()
            if incoming.is_response_begun:
                self._close(lingers=True)
                return
        if self._current is not None:
            self._pause_reading()
        elif self._queue:
            self._start_next()
        else:
            self._answer_peer_error(error)

    def _answer_peer_error(self, error: PeerError) -> None:
        self._answer(error.status, error.reason)

    def _answer(self, status: int, text: str) -> None:
        """Answer in the server's own name and end the connection."""
        context = self.context
        context.record.observe_response(status, 0)
        self.write(
            frame_error(
                status,
                text,
                default_lines=context.default_lines,
                date_line=context.date_line(time.monotonic_ns()),
            )
        )
        self._close(lingers=True)

    # WebSocket.

    def _upgrade(self, head: RequestHead, rest: bytes) -> None:
        make_successor = self.context.websocket_factory
        assert make_successor is not None
        self.state = ConnectionState.UPGRADED
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        successor = make_successor(self.context, self._transport, self.endpoints, head)
        self.context.replace(self, successor)
        self._transport.set_protocol(successor)
        successor.begin(rest)

    # Reading, time and the end.

    def _note_partial_head(self) -> None:
        if self._parser.has_partial_head and self.state is not ConnectionState.HEAD:
            self.state = ConnectionState.HEAD
            self._set_timeout(
                self._seconds_to_drain_deadline()
                if self.context.drain
                else self.context.settings.head_timeout
            )

    def _go_idle(self) -> None:
        self.state = ConnectionState.IDLE
        self._resume_reading()
        settings = self.context.settings
        self._set_timeout(
            settings.drain_grace if self.context.drain else settings.keep_alive_timeout
        )
        self._note_partial_head()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._has_peer_closed:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            if not self._transport.is_closing():  # uvloop raises for a closed transport
                self._transport.resume_reading()

    def _seconds_to_drain_deadline(self) -> float:
        deadline = self.context.drain.deadline
        if deadline is None:
            return self.context.settings.head_timeout
        # The notice uses time.monotonic(), which a loop's own clock need not agree with.
        return max(0.0, deadline - time.monotonic())

    def _set_timeout(self, seconds: float) -> None:
        """Set when the connection is given up unless its state changes.

        One timer serves the connection: it looks at `_deadline` when it fires, so that a busy
        connection moves a number and not a timer.
        """
        self._deadline = self.context.loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._arm_timer()

    def _arm_timer(self) -> None:
        self._timer_at = self._deadline
        self._timer = self.context.loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self.state is ConnectionState.EXCHANGE and not (
            self._current is not None and self._current.is_response_complete
        ):
            return  # an exchange takes the time it takes; the next idle time sets a deadline again
        # Loops fire up to one clock tick early; without a margin the timer would spin for that long.
        if self.context.loop.time() + 0.001 < self._deadline:
            self._arm_timer()
        elif self.state is ConnectionState.HEAD and not self.context.drain:
            self._answer(408, "the request head did not arrive in time")
        elif self.state is ConnectionState.HEAD:
            self._answer(503, "Service Unavailable")
        else:
            self._close(lingers=True)

    def _close(self, *, lingers: bool) -> None:
        """End the connection behind what was written."""
        self.state = ConnectionState.CLOSING
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drop_exchanges()
        if self._transport.is_closing():
            return
        if lingers and not self._has_peer_closed:
            self._is_reading_paused = False
            self._lingering = LingeringClose(self._transport, self.context.loop)
            self._lingering.begin()
        else:
            self._transport.close()

    def _reset(self) -> None:
        """Close so that the peer sees an error: SO_LINGER with no time turns FIN into RST."""
        own_socket: socket.socket | None = self._transport.get_extra_info("socket")
        if own_socket is not None and own_socket.family != socket.AF_UNIX:
            own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.state = ConnectionState.CLOSING
        self._transport.abort()
