"""One accepted HTTP/1 connection: moves bytes, keeps time, and keeps requests in order.

Parsing, framing and ASGI live elsewhere; this file decides when to read and when to close.

`connection_state.py` has the states of a connection, and the transitions between them, in one table. Other modules
implement parts of a connection: waiting for a slow client (`backpressure.py`), the handover of a connection between
two requests (`idle_handover.py`) and of an event stream (`stream_leaving.py`, `event_stream_host.py`), and the
close (`lingering_close.py`). `write_scheduling.py` decides when responses are written.

A connection may begin before the event loop has its socket (`begin_inline`), with the first bytes that the client
sent. Such a connection cannot be offered to another worker, and moves its socket to the loop before it reads more.

A connection serves one request at a time. Bytes that the client sends after that request are kept unparsed until
its response is complete, and the socket is not read meanwhile: pipelined requests are bounded by one read.

A drain (see `LiveConnection`) moves a plaintext connection to the worker that follows, if there is one
(`DrainState.successor`). Between two requests the connection asks for a turn, and serves requests until the turn
comes; then it is offered, together with the bytes that were received and not served. An event stream moves in the
middle of its response, or ends between two events. Three kinds of connection are not moved: TLS connections, those
whose client has closed its sending side, and those that the successor refused.

A connection that is not moved ends without losing a request: a response that is begun during the drain has
`Connection: close` unless another request has been received, and a connection without a request stays open for
`drain_grace` seconds, because a request may be on its way.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Final, cast

from asgireload.errors import PeerError, UnservedHostError
from asgireload.http.drain_state import Successor
from asgireload.http.endpoints import Endpoints, resumed_endpoints
from asgireload.http.exchange import HttpExchange
from asgireload.http.hosts import names_served_host
from asgireload.http.request import RequestHead
from asgireload.http1.backpressure import Backpressure
from asgireload.http1.connection_state import ConnectionEvent, ConnectionState, next_state
from asgireload.http1.disconnect_watch import DisconnectWatch
from asgireload.http1.event_stream_host import EventStreamHost
from asgireload.http1.idle_handover import HoldState, IdleHandover
from asgireload.http1.lingering_close import LingeringClose, reset, unsent_bytes
from asgireload.http1.reader import RequestReader
from asgireload.http1.response_stream import Carrier, Http1ResponseStream
from asgireload.http1.resuming import Resuming
from asgireload.http1.sendfile import FileCarrier
from asgireload.http1.stream_leaving import StreamLeaving
from asgireload.http1.timeouts import CLOCK_TICK, NEVER, ConnectionTimer, Expired
from asgireload.http1.wire import Http1Wire
from asgireload.http1.write_scheduling import ConnectionWriter
from asgireload.http1.writer import frame_error
from asgireload.ipc.messages import OpenWork
from asgireload.ipc.parcels import EventStreamParcel, HttpParcel, HttpParcelState
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.proxy_protocol import Origin

_logger = logging.getLogger("asgireload.error")

DISCARD_BYTES: Final = 64 * 1024
"""The rest of a request body that the application did not read is received and dropped up to this size, so that the
connection can be kept. Above this size, closing is cheaper for both sides."""

_PEER_ERRORS_TOTAL: Final = int(Field.PEER_ERRORS_TOTAL)
_CUT_TOTAL: Final = int(Field.CUT_TOTAL)
_LIMIT_OF_STATUS = {414: Limit.REQUEST_LINE, 431: Limit.HEAD, 413: Limit.BODY}
_UNREAD_PATIENCE: Final = 0.1
"""Seconds (a few turns of the loop) to read bytes that arrived in time while the socket was not read: while the
connection was handed over, or waited for its turn."""


_STATE_OF_PARCEL: dict[HttpParcelState, ConnectionState] = {
    "silent": ConnectionState.SILENT,
    "idle": ConnectionState.IDLE,
    "head": ConnectionState.HEAD,
}
_PARCEL_OF_STATE: dict[ConnectionState, HttpParcelState] = {
    state: name for name, state in _STATE_OF_PARCEL.items()
}


class HttpConnection(Carrier):
    """The asyncio protocol of one connection. `http_protocol` makes it, and the event loop calls it.

    The class does not inherit from asyncio.Protocol, because a subclass of that cannot be compiled into a native
    class.
    """

    # Without a dictionary for each instance, thousands of idle connections take a third less memory.
    __slots__ = (
        "_backpressure",
        "_current",
        "_disconnect_watch",
        "_handover",
        "_has_peer_closed",
        "_incoming",
        "_is_reading_paused",
        "_leaving",
        "_lingering",
        "_origin",
        "_reader",
        "_resumed",
        "_task_name",
        "_timer",
        "_transport",
        "_upgrade_head",
        "drain",
        "endpoints",
        "state",
        "unread",
    )

    def __init__(self, wire: Http1Wire, origin: Origin | None) -> None:
        self.wire = wire
        self.server = server = wire.server
        self.clock = server.clock
        self.live = server.live
        self.drain = server.drain
        self.state = ConnectionState.SILENT
        self.writer = ConnectionWriter(self.wire.turn)
        self._origin = origin
        self._task_name = ""
        self._transport: asyncio.Transport
        self._reader = self._new_reader()
        self._current: HttpExchange | None = None
        """The current exchange: being answered, or waiting for the rest of its body to be dropped."""
        self._incoming: HttpExchange | None = None
        """The exchange whose request body is being received: the current one, or the one that is current next."""
        self.unread = b""
        """Bytes that the client sent after the current request."""
        self._upgrade_head: RequestHead | None = None
        self._has_peer_closed = False
        self._is_reading_paused = False
        self._backpressure: Backpressure | None = None
        """Made when an application first waits for the client, or sends a file."""
        self._timer = ConnectionTimer(self.clock.loop, self.clock.timer_wheel)
        self._lingering: LingeringClose | None = None
        self._disconnect_watch: DisconnectWatch | None = None
        self._handover: IdleHandover | None = None
        """Made when the connection is held, or may go to the worker that follows."""
        self._leaving: StreamLeaving | None = None
        """The handover or end of the current event stream; set while the worker drains."""
        self._resumed: EventStreamParcel | None = None
        """An event stream that another worker has begun; None once its request head was read here."""

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self.writer.transport = cast("asyncio.Transport", transport)
        self.endpoints = Endpoints(transport, self._origin)
        self.live.register(self)
        self._set_timeout(self.server.settings.head_timeout)
        if self.live.is_held:
            self.hold()
        if self.drain.notice:
            self.begin_drain()

    def begin_inline(self, transport: asyncio.Transport, data: bytes) -> None:
        """Begin with `data`, the first bytes of a client whose socket the event loop does not have.

        Called in place of `connection_made`. `transport` is also an `InlineWriter`, and does not read. Its
        `resume_reading` gives the socket to the loop, and `move_to` is called later. The socket may be given to
        the loop at other times, too.
        """
        self.writer.is_direct = True
        self._is_reading_paused = True
        self._transport = self.writer.transport = transport
        self.endpoints = Endpoints(transport, self._origin)
        self.live.register(self)
        self.data_received(data)
        if self.state is ConnectionState.SILENT:
            self._set_timeout(self.server.settings.head_timeout)
            self.resume_reading()
        elif self.state is ConnectionState.HEAD or self._awaits_body():
            self.resume_reading()

    def _awaits_body(self) -> bool:
        exchange = self._current
        return exchange is not None and self._incoming is exchange and exchange.can_keep_reading

    def move_to(self, transport: asyncio.Transport) -> None:
        """Continue with `transport`, which the loop has made for the same socket, and which is reading."""
        self._transport = self.writer.transport = transport
        self.writer.is_direct = False
        self._wake_writers()
        if self.state is ConnectionState.CLOSING:
            return
        exchange = self._current
        if exchange is not None:
            self._is_reading_paused = bool(self.unread) or not exchange.can_keep_reading
        if self._is_reading_paused:
            transport.pause_reading()
        if exchange is not None and exchange.awaits_disconnect:
            self.watch_disconnect()
        if self.live.is_held:
            self.hold()
        if self.drain.notice:
            self.begin_drain()
        if exchange is None and self.unread and not self._is_held():
            self.read_on()

    def resume(self, transport: asyncio.Transport, parcel: HttpParcel) -> None:
        """Continue a connection that another worker handed over.

        Called in place of `connection_made`, when the transport is already reading.
        """
        self._transport = self.writer.transport = transport
        self.endpoints = resumed_endpoints(transport, parcel.facts)
        self.live.register(self, is_new=False)
        self.state = _STATE_OF_PARCEL[parcel.state]
        settings = self.server.settings
        timeout = (
            settings.keep_alive_timeout
            if self.state is ConnectionState.IDLE
            else settings.head_timeout
        )
        now = self.clock.loop.time()
        # The time that the client has waited counts, and the deadline is no later than this worker's own.
        self._timer.wait = max(min(parcel.deadline, now + timeout), now + _UNREAD_PATIENCE)
        self._timer.arm(self, self._timer.wait)
        if self.live.is_held:
            self.unread = parcel.unread
            self.hold()
        elif parcel.unread:
            self.unread = parcel.unread
            self.read_on()
        if self.drain.notice:
            self.begin_drain()

    def resume_stream(self, transport: asyncio.Transport, parcel: EventStreamParcel) -> None:
        """Continue an event stream that another worker has begun.

        Called in place of `connection_made`, when the transport is already reading.
        """
        self._transport = self.writer.transport = transport
        self.endpoints = resumed_endpoints(transport, parcel.facts)
        self.live.register(self, is_new=False)
        self._resumed = parcel
        self._read(parcel.head + parcel.unread, is_first=False)
        if self._resumed is not None:
            # The reader refused the request head, because the limits of this worker differ, or found no end of it.
            self._end_resumed()

    def _end_resumed(self) -> None:
        """End an event stream that cannot continue here, before an exchange is made for it."""
        parcel = self._resumed
        self._resumed = None
        if parcel is not None and parcel.is_chunked:
            self.write(b"0\r\n\r\n")
        self._close(lingers=True)

    def data_received(self, data: bytes) -> None:
        self.live.record.bytes_received += len(data)
        if self._lingering is not None:
            self._lingering.drop(data)
        elif self._current is not None and self._incoming is None:
            self.unread += data
            self.pause_reading()
        elif self._is_held():
            # These bytes were on their way when reading was paused.
            self.unread += data
        elif self.state is not ConnectionState.CLOSING:
            self._read(data, is_first=True)

    def eof_received(self) -> bool:
        """Keep the sending side open while complete requests wait for their answers.

        A client may close its sending side after its last request and still read. A client that has left
        altogether can be recognized only after something is written to it.
        """
        self._has_peer_closed = True
        self.writer.flush()
        # A TLS transport closes both sides whatever is returned, and warns about True.
        if self.endpoints.is_encrypted:
            self._drop_exchange()
            return False
        if self._lingering is not None or self.state is ConnectionState.CLOSING:
            return self._lingering is not None  # LingeringClose closes the transport
        if self._incoming is not None or self._current is None:
            # The rest of the body, or another request, will never arrive.
            self._close(lingers=False)
        else:
            self._current.note_peer_closed()
            self._begin_disconnect_watch(on_hang_up=None)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._end()
        if self._lingering is not None:
            self._lingering.cancel()
        if self._disconnect_watch is not None:
            self._disconnect_watch.cancel()
        self.writer.drop()
        self._reader.let_go()
        # Before the exchange is logged: if that fails, no drain waits for this connection.
        self.live.unregister(self)
        self._drop_exchange()
        self._wake_writers()
        # Break reference cycles, so that the memory is freed without the garbage collector.
        self._handover = None
        self._backpressure = None

    def pause_writing(self) -> None:
        self.writer.is_paused = True
        deadline = self.clock.loop.time() + self.server.settings.write_timeout
        self._timer.begin_write(deadline, unsent_bytes(self._transport))
        self._timer.arm(self, deadline)

    def resume_writing(self) -> None:
        self.writer.is_paused = False
        self._timer.write = NEVER
        self._wake_writers()
        if self._leaving is not None:
            self._leaving.advance()
        handover = self._handover
        if self.state is ConnectionState.DELIVERING:
            self._release_current()
            self._go_on()
        elif (
            handover is not None and handover.state is HoldState.HELD and self.is_between_requests()
        ):
            handover.enlist(self.drain.successor)

    def _wake_writers(self) -> None:
        if self._backpressure is not None:
            self._backpressure.wake()

    def _advance(self, event: ConnectionEvent) -> None:
        self.state = next_state(self.state, event)

    def _end(self) -> None:
        """Enter CLOSING; cancel the timer and the handover."""
        self._advance(ConnectionEvent.END)
        self._timer.disarm(self)
        if self._handover is not None:
            self._handover.cancel()

    # The reader calls these, within `_read`.

    def on_head(self, head: RequestHead) -> bool:
        settings = self.server.settings
        rules = settings.host_rules
        if rules is not None and not names_served_host(
            head, self.endpoints, rules, settings.forwarding
        ):
            raise UnservedHostError(400, "the Host header names no host that is served here")
        if head.is_websocket and self.wire.websockets is not None:
            self._upgrade_head = head
            return True
        stream = Http1ResponseStream(self, head)
        exchange = HttpExchange(head, stream, self.server, self.endpoints)
        if self._resumed is not None:
            stream.resume(self._resumed)
            exchange.resume(self._resumed)
            self._resumed = None
        self._incoming = exchange
        return False

    def on_body(self, data: bytes) -> None:
        exchange = self._incoming
        if exchange is not None and exchange.feed_body(data):
            self.pause_reading()

    def on_complete(self) -> None:
        exchange = self._incoming
        if exchange is None:
            return
        exchange.complete_request()
        if exchange is self._current:
            self._incoming = None

    # The response stream of the current exchange calls these.

    def task_name(self) -> str:
        if not self._task_name:
            self.live.named += 1
            name = f"http-{self.live.named} {self.endpoints.client_label}"
            self._task_name = name.rstrip()
        return self._task_name

    def write(self, data: bytes) -> None:
        self.live.record.bytes_sent += len(data)
        self.writer.write(data)

    def write_large(self, pieces: list[bytes]) -> None:
        self.live.record.bytes_sent += sum(map(len, pieces))
        self.writer.write_large(pieces)

    def flush(self) -> None:
        self.writer.flush()

    def write_end(self, data: bytes, now_ns: int, *, closes: bool) -> None:
        self.live.record.bytes_sent += len(data)
        self.writer.write_end(data, now_ns, closes=closes, is_pipelined=bool(self.unread))

    async def wait_writable(self) -> None:
        if self.writer.is_paused:
            await self._backpressure_made().wait_writable()

    def file_carrier(self) -> FileCarrier:
        return self._backpressure_made()

    def _backpressure_made(self) -> Backpressure:
        backpressure = self._backpressure
        if backpressure is None:
            backpressure = self._backpressure = Backpressure(self)
        return backpressure

    def is_closing(self) -> bool:
        return self.state is ConnectionState.CLOSING

    def is_gone(self) -> bool:
        return self.state is ConnectionState.CLOSING or self._transport.is_closing()

    def plain_socket(self) -> int | None:
        if self.writer.is_direct:
            return None
        own_socket: socket.socket | None = self._transport.get_extra_info("socket")
        if self.endpoints.is_encrypted or own_socket is None:
            return None
        return own_socket.fileno()

    def drop_departed(self) -> None:
        self._transport.abort()

    def send_interim(self, data: bytes) -> None:
        self.write(data)
        self.writer.flush()
        self._restart_body_timeout()
        if self._disconnect_watch is not None:
            self._disconnect_watch.hurry()

    def resume_body(self) -> None:
        if not self.unread:
            self.resume_reading()
            self._restart_body_timeout()

    def event_stream_begun(self, stream: Http1ResponseStream) -> None:
        if self.drain.notice and self._is_in_hand(stream):
            self._leave_stream()

    def event_sent(self, stream: Http1ResponseStream) -> None:
        if self._leaving is not None and self._is_in_hand(stream):
            self._leaving.advance()

    def _is_in_hand(self, stream: Http1ResponseStream) -> bool:
        exchange = self._current
        return exchange is not None and exchange.stream is stream

    def watch_disconnect(self) -> None:
        if self.writer.is_direct:
            self._transport.resume_reading()
        elif self._is_reading_paused and self._disconnect_watch is None:
            self._begin_disconnect_watch(on_hang_up=self._note_hang_up)

    def must_close_after(self, head: RequestHead, *, is_last_piece: bool) -> bool:
        if not head.keep_alive:
            return True
        exchange = self._current
        assert exchange is not None
        if not exchange.is_request_complete and (
            exchange.needs_continue or (is_last_piece and not self._can_discard_rest(exchange))
        ):
            # The body may never arrive, or is too long to be discarded.
            return True
        return not self.unread and (
            self._has_peer_closed or (bool(self.drain.notice) and not self.may_leave())
        )

    def response_completed(self, *, closes: bool) -> None:
        exchange = self._current
        assert exchange is not None
        self._forget_leaving()
        self._timer.request = NEVER
        if not exchange.is_request_complete and not closes and self._can_discard_rest(exchange):
            self._advance(ConnectionEvent.BODY_LEFT)
            self.resume_reading()
            settings = self.server.settings
            self._set_timeout(
                settings.drain_grace if self.drain.notice else settings.keep_alive_timeout
            )
            return
        if closes or not exchange.is_request_complete:
            is_input_possible = self.drain.notice or exchange.head.keep_alive or self._incoming
            self._release_current()
            self._close(
                lingers=bool(is_input_possible), expects_input=not exchange.is_request_complete
            )
        elif self.writer.is_paused:
            # The next request is read when the client has taken this response.
            self._advance(ConnectionEvent.CLIENT_IS_SLOW)
        else:
            self._release_current()
            self._go_on()

    def response_broken(self, *, needs_reset: bool) -> None:
        self._release_current()
        if needs_reset:
            self._reset()
        else:
            self._close(lingers=True)

    # The drain, and `Live.has_room`, call these; see `LiveConnection`.

    @property
    def idle_since(self) -> float | None:
        settings = self.server.settings
        if self._is_offered():
            return None
        if self.state is ConnectionState.IDLE:
            return self._timer.wait - settings.keep_alive_timeout
        if self.state is ConnectionState.SILENT or self.state is ConnectionState.HEAD:
            return self._timer.wait - settings.head_timeout
        return None

    def close_idle(self) -> None:
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self.state is ConnectionState.HEAD:
            self._answer(503, "Service Unavailable")
        else:
            self._close(lingers=False)

    def hold(self) -> None:
        self.writer.flush()
        if self.is_between_requests() and not self._transport.is_closing():
            self._timer.wait = NEVER
            self._handover_made().hold()

    def release(self) -> None:
        handover = self._handover
        if handover is not None and handover.state is HoldState.HELD:
            settings = self.server.settings
            is_idle = self.state is ConnectionState.IDLE
            self._set_timeout(settings.keep_alive_timeout if is_idle else settings.head_timeout)
            handover.release()

    def begin_drain(self) -> None:
        if self._is_offered() or self.writer.is_direct:
            return  # `move_to`, or a refused offer, calls again
        self.writer.flush()
        if self.may_leave():
            if self.is_between_requests():
                self._timer.unbound_wait()
                if self._timer.wait < NEVER:
                    self._timer.arm(self, self._timer.wait)
                handover = self._handover_made()
                if not handover.enlist(self.drain.successor) and not self.live.is_held:
                    handover.release()
            elif self.has_event_stream():
                self._leave_stream()
            elif self.state is ConnectionState.DISCARDING:
                self._set_timeout(self.server.settings.drain_grace)
            return
        if self._handover is not None:
            self._handover.release()
        if self.has_event_stream():
            self._leave_stream()
            return
        if self.state is ConnectionState.SILENT or self.state is ConnectionState.IDLE:
            self._bound(self.server.settings.drain_grace)
        elif self.state is ConnectionState.HEAD:
            self._bound(self._seconds_to_drain_deadline())
        elif self.state is ConnectionState.DISCARDING or self.state is ConnectionState.DELIVERING:
            # A drain does not wait long for the rest of a discarded body, or for a client that does not read.
            self._set_timeout(self.server.settings.drain_grace)

    # The current event stream; `EventStreamHost` calls some of these.

    def has_event_stream(self) -> bool:
        exchange = self._current
        return (
            exchange is not None
            and exchange.events is not None
            and (not exchange.is_response_complete)
        )

    def _leave_stream(self) -> None:
        leaving = self._leaving
        if leaving is None:
            leaving = self._leaving = StreamLeaving(self.clock.loop, self._event_stream_host())
        leaving.follow(self.drain.successor)

    def _event_stream_host(self) -> EventStreamHost:
        exchange = self._current
        assert exchange is not None
        return EventStreamHost(self, exchange, _stream_of(exchange))

    def _forget_leaving(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def count_event_streams(self) -> int:
        """Return how many event streams this worker has, this one included."""
        count = 0
        for connection in self.live.connections:
            if isinstance(connection, HttpConnection) and connection.has_event_stream():
                count += 1
        return max(count, 1)

    def stream_stays(self) -> None:
        """Forget the handover of the event stream, which ends in this worker."""
        self._leaving = None
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()

    def cut(self) -> None:
        exchange = self._current
        if exchange is not None and not exchange.is_response_complete:
            host = self._event_stream_host()
            if self.has_event_stream() and (exchange.is_detached or host.is_between_events()):
                host.keep()
                if self.state is not ConnectionState.CLOSING:
                    self._close(lingers=True)
                return
            self.live.record.values[_CUT_TOTAL] += 1
            is_begun = exchange.is_response_begun
            is_hidden = _stream_of(exchange).is_delimited_by_close
            self._drop_exchange(503)
            if not is_begun:
                self._answer(503, "Service Unavailable")
            elif is_hidden:
                self._reset()  # an unfinished body must not look complete
            else:
                self._close(lingers=True)
        elif self.state is ConnectionState.HEAD and not self._is_offered():
            self._answer(503, "Service Unavailable")
        elif self._lingering is None:
            self._close(lingers=True)

    def open_work(self, now_ns: int) -> OpenWork:
        exchange = self._current
        if exchange is None or exchange.is_response_complete:
            return OpenWork("connection", "", self.endpoints.client_label)
        return exchange.open_work(now_ns)

    def abort(self) -> None:
        self.writer.flush()
        exchange = self._current
        is_hidden = exchange is not None and _stream_of(exchange).is_delimited_by_close
        self._drop_exchange(cancel=True)
        if self._lingering is not None:
            self._lingering.abort()
        elif is_hidden:
            reset(self._transport)
        else:
            self._transport.abort()

    # Requests in their order.

    def _read(self, data: bytes, *, is_first: bool) -> None:
        """Read more of a request, or begin the next one.

        `is_first`: the event loop is the caller, not the end of the exchange before. Only then may the application
        run at once: exchanges that run within one another would deepen the stack and keep other clients waiting.
        """
        rest = b""
        try:
            head = self._reader.read_again(data)
            if head is None:
                rest = self._reader.feed(data)
            else:
                # The calls that `feed` would make through the sink; calls through it double the cost.
                self.on_head(head)
                self.on_complete()
        except PeerError as error:
            self._refuse(error)
            return
        if rest and rest != b"\r\n" and self._upgrade_head is None:
            self.unread = rest
            self.pause_reading()
        exchange = self._incoming
        if self._current is not None:
            if exchange is not None:
                self._restart_body_timeout()
            elif self.state is ConnectionState.DISCARDING:
                # The rest of the discarded body has arrived: the connection can be used again.
                self._release_current()
                self._go_on()
        elif exchange is not None:
            self._start(exchange, at_once=is_first)
        elif self._upgrade_head is not None:
            self._upgrade(self._upgrade_head, rest)
        else:
            self._note_partial_head()

    def _start(self, exchange: HttpExchange, *, at_once: bool) -> None:
        self._current = exchange
        self._advance(ConnectionEvent.REQUEST)
        if not exchange.is_resumed:
            self.live.record.requests += 1
        if exchange.is_request_complete:
            self._incoming = None
            self._timer.wait = NEVER
        else:
            self._set_timeout(self.server.settings.body_timeout)
        request_timeout = self.server.settings.request_timeout
        if request_timeout is not None:
            elapsed = (self.clock.now_ns() - exchange.started_ns) / 1e9
            self._timer.request = self.clock.loop.time() + request_timeout - elapsed
            self._timer.arm(self, self._timer.request)
        exchange.start(at_once=at_once)

    def _go_on(self) -> None:
        """After the end of an exchange, take the next request, or wait for one."""
        self._advance(ConnectionEvent.FINISHED)
        if self.state is ConnectionState.CLOSING:
            return  # the connection was dropped: `connection_lost` follows within this turn of the loop
        settings = self.server.settings
        self._set_timeout(settings.keep_alive_timeout)
        if self.drain.notice:
            self.writer.flush()
            self._timer.forget_bound()  # it belonged to the wait before
            if not self.may_leave():
                self._bound(settings.drain_grace)
            elif not self.writer.is_direct and self._handover_made().enlist(self.drain.successor):
                self._handover_made().hold()
                return
        if self.live.is_held and (not self.drain.notice or self.may_leave()):
            self.hold()
            return
        self.read_on()

    def read_on(self) -> None:
        data, self.unread = self.unread, b""
        if data:
            self._read(data, is_first=False)
            if self.state is ConnectionState.CLOSING or self.state is ConnectionState.UPGRADED:
                return
        exchange = self._current
        if exchange is None:
            self.writer.release_pipeline()
        if self._has_peer_closed and (exchange is None or self._incoming is not None):
            # The rest of the request, or another request, will never arrive.
            self._close(lingers=False)
        elif not self.unread and (exchange is None or exchange.can_keep_reading):
            self.resume_reading()

    def _release_current(self) -> None:
        """Forget the current exchange. Its application may still run, in the background."""
        exchange = self._current
        if exchange is None:
            return
        self._current = None
        self._timer.request = NEVER
        self._forget_leaving()
        if self._disconnect_watch is not None:
            self._disconnect_watch.cancel()
            self._disconnect_watch = None
        if self._incoming is exchange:
            self._incoming = None

    def _drop_exchange(self, status: int = 0, *, cancel: bool = False) -> None:
        """Disconnect the current exchange from the connection: the client gets no more of its response.

        `status`: the status that the connection answers with instead; 0 if it does not answer. `cancel`: cancel
        the application, too.
        """
        exchange = self._current or self._incoming
        self._release_current()
        self._incoming = None
        self.unread = b""
        if exchange is not None:
            if cancel:
                exchange.abandon(status)
            else:
                exchange.disconnect(status)

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

    def _begin_disconnect_watch(self, on_hang_up: Callable[[], None] | None) -> None:
        own_socket: socket.socket | None = self._transport.get_extra_info("socket")
        if self._disconnect_watch is not None:
            self._disconnect_watch.cancel()
        if own_socket is not None and not self._transport.is_closing():
            loop = self.clock.loop
            self._disconnect_watch = DisconnectWatch(
                own_socket, loop, self._transport.abort, on_hang_up
            )

    def _note_hang_up(self) -> None:
        """Note that the client has closed its sending side, or has left, after bytes that were not read yet."""
        if self._current is not None:
            self._current.note_peer_closed()

    # Faults of the peer.

    def _refuse(self, error: PeerError) -> None:
        """Answer a malformed or oversized request, unless its response was begun, and close the connection."""
        if self._resumed is not None:
            _logger.info(
                "An event stream of %s ends, since this worker does not take its request: %s",
                self.endpoints.client_label or "a local client",
                error.reason,
            )
            self._end_resumed()
            return
        record = self.live.record
        limit = (
            Limit.HOST
            if isinstance(error, UnservedHostError)
            else _LIMIT_OF_STATUS.get(error.status)
        )
        if limit is None:
            record.values[_PEER_ERRORS_TOTAL] += 1
        else:
            record.count_limit(limit)
        _logger.warning(
            "Invalid HTTP request received from %s: %s",
            self.endpoints.client_label or "a local client",
            error.reason,
        )
        self._break_off(error.status, error.reason)

    def _break_off(self, status: int, reason: str) -> None:
        """End the current exchange, whose request cannot be completed, and the connection."""
        exchange = self._current
        is_begun = exchange is not None and exchange.is_response_begun
        self._drop_exchange(status)
        if is_begun:
            self._close(lingers=True)
        else:
            self._answer(status, reason)

    def _answer(self, status: int, text: str) -> None:
        """Send an error response of the server itself, and end the connection."""
        if self._resumed is not None:
            self._end_resumed()
            return
        self.live.record.observe_response(status, 0)
        self.write(
            frame_error(
                status,
                text,
                default_lines=self.wire.default_lines,
                date_line=self.clock.date_line(self.clock.now_ns()),
            )
        )
        self._close(lingers=True, expects_input=True)

    # WebSocket.

    def _upgrade(self, head: RequestHead, rest: bytes) -> None:
        if self._has_peer_closed:
            self._close(lingers=False)  # half a connection is of no use to a WebSocket
            return
        if self.writer.is_direct:
            # A WebSocket is open for long: it begins with the loop's own transport.
            self._put_back_handshake(head, rest)
            self._transport.resume_reading()
            return
        if self.drain.notice and self.may_leave():
            self._hold_handshake(head, rest)
            return
        make_successor = self.wire.websockets
        assert make_successor is not None
        self.writer.flush()
        self._advance(ConnectionEvent.HANDSHAKE)
        self._reader.let_go()
        self._timer.disarm(self)
        self.resume_reading()
        successor = make_successor(self.wire, self._transport, self.endpoints, head)
        self.live.replace(self, successor)
        self._transport.set_protocol(cast("asyncio.BaseProtocol", successor))
        successor.begin(rest)

    # The handover to the worker that follows.

    def may_leave(self) -> bool:
        """Whether the worker that follows may take this connection."""
        successor = self.drain.successor
        return (
            successor is not None
            and (self._handover is None or not self._handover.was_refused_by(successor))
            and not self._has_peer_closed
            and not self._transport.is_closing()
            and (self.writer.is_direct or self.plain_socket() is not None)
        )

    def is_between_requests(self) -> bool:
        return (
            self._current is None
            and (
                self.state is ConnectionState.SILENT
                or self.state is ConnectionState.IDLE
                or self.state is ConnectionState.HEAD
            )
            and not self._is_offered()
        )

    def _handover_made(self) -> IdleHandover:
        handover = self._handover
        if handover is None:
            handover = self._handover = IdleHandover(self)
        return handover

    def _is_held(self) -> bool:
        handover = self._handover
        return handover is not None and handover.state is not HoldState.FREE

    def _is_offered(self) -> bool:
        handover = self._handover
        return handover is not None and handover.state is HoldState.OFFERED

    def _hold_handshake(self, head: RequestHead, rest: bytes) -> None:
        """Hold a WebSocket handshake for the worker that follows: here the WebSocket would have to end at once."""
        self._put_back_handshake(head, rest)
        self._timer.forget_bound()
        handover = self._handover_made()
        handover.hold()
        handover.enlist(self.drain.successor)

    def _put_back_handshake(self, head: RequestHead, rest: bytes) -> None:
        """Return to the state in which the handshake was received and not parsed yet."""
        self._upgrade_head = None
        self._reader = self._new_reader()
        self.unread = head.to_bytes() + rest
        self._advance(ConnectionEvent.HANDSHAKE_PUT_BACK)
        self._set_timeout(self.server.settings.head_timeout)

    def is_flushed(self) -> bool:
        """Return whether the write buffer of the transport is empty. If it is not, set the limits of the buffer so
        that the transport calls `resume_writing` once it is."""
        transport = self._transport
        if not transport.get_write_buffer_size():
            return True
        transport.set_write_buffer_limits(0)
        return False

    def stay(self) -> None:
        """Read again after a hold that ended without a handover."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
        if self.is_between_requests():
            self.read_on()

    def offer_to(self, successor: Successor, settled: Callable[[bool], None]) -> bool:
        descriptor = self.plain_socket()
        assert descriptor is not None
        unread = self._reader.partial_bytes() + self.unread
        state = _PARCEL_OF_STATE[self.state]
        parcel = HttpParcel(self.endpoints.facts(), state, self._timer.wait, unread)
        if not successor.take(descriptor, parcel, settled):
            return False
        self._timer.disarm(self)
        return True

    def leave(self) -> None:
        """Close the descriptor without writing and without shutdown(): the other worker uses the socket."""
        self._leaving = None
        self._release_current()
        self._end()
        self.unread = b""
        self._transport.close()

    def _new_reader(self) -> RequestReader:
        return RequestReader(
            self, self.wire.parse_fields, self.server.settings.request_limits, self.wire.head_cache
        )

    # Reading and time.

    def _note_partial_head(self) -> None:
        if self._reader.has_partial_head and self.state is not ConnectionState.HEAD:
            self._advance(ConnectionEvent.PART_OF_HEAD)
            self._set_timeout(self.server.settings.head_timeout)
            self._timer.forget_bound()
            if self.drain.notice and not self.may_leave():
                self._bound(self._seconds_to_drain_deadline())

    def pause_reading(self) -> None:
        if not self._is_reading_paused and not self._has_peer_closed:
            self._is_reading_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            if self.writer.is_direct:
                self.writer.flush()  # a reset before the loop has the socket would lose what waits
            if not self._transport.is_closing():  # uvloop raises for a closed transport
                self._transport.resume_reading()

    def _seconds_to_drain_deadline(self) -> float:
        deadline = self.drain.notice.deadline
        if deadline is None:
            return self.server.settings.head_timeout
        # The notice uses time.monotonic(), which may differ from the clock of the loop.
        return max(0.0, deadline - time.monotonic())

    def _set_timeout(self, seconds: float) -> None:
        """Give up the wait of the present state after `seconds`."""
        timer = self._timer
        timer.wait = deadline = self.clock.loop.time() + seconds
        timer.arm(self, deadline)

    def _bound(self, seconds: float) -> None:
        """Replace the timeout, because no worker follows that could take the connection."""
        deadline = self.clock.loop.time() + seconds
        self._timer.bound_wait(deadline)
        self._timer.arm(self, deadline)

    def _restart_body_timeout(self) -> None:
        if self._incoming is not None:
            self._timer.wait = self.clock.loop.time() + self.server.settings.body_timeout

    def on_deadline(self) -> None:
        timer = self._timer
        if not timer.is_armed:
            return  # the wheel may call once more after a `remove`
        timer.disarm(self)
        now = self.clock.loop.time() + CLOCK_TICK
        if now >= timer.write and not self._makes_write_progress():
            self.drop_stalled()
            return
        expired = timer.take_expired(now)
        if expired is Expired.REQUEST:
            if self._current is not None:
                self._current.time_out()
        elif expired is Expired.WAIT:
            self._give_up_waiting()
        if self.state is not ConnectionState.CLOSING:
            deadline = timer.earliest
            if deadline < NEVER:
                timer.arm(self, deadline)

    def _makes_write_progress(self) -> bool:
        deadline = self.clock.loop.time() + self.server.settings.write_timeout
        return self._timer.extend_write(deadline, unsent_bytes(self._transport))

    def drop_stalled(self) -> None:
        """Drop the connection of a client that has read nothing of its response for the write timeout."""
        if self.state is not ConnectionState.CLOSING:
            self.live.record.count_limit(Limit.WRITE_TIMEOUT)
            self._advance(ConnectionEvent.END)
            exchange = self._current
            if exchange is not None and _stream_of(exchange).is_delimited_by_close:
                reset(self._transport)  # a truncated body must not look complete
            else:
                self._transport.abort()

    def _give_up_waiting(self) -> None:
        """Handle that the wait of the present state has timed out."""
        record = self.live.record
        exchange = self._current
        if exchange is not None:
            if self.state is not ConnectionState.EXCHANGE:
                self._close(lingers=True)
            elif self._incoming is None:
                return
            elif self._is_reading_paused or exchange.needs_continue:
                # The client waits for the application, not the reverse.
                self._restart_body_timeout()
            else:
                record.count_limit(Limit.BODY_TIMEOUT)
                self._break_off(408, "the request body did not arrive in time")
        elif self._is_held():
            self._set_timeout(_UNREAD_PATIENCE)
        elif self.drain.notice and not self.may_leave():
            if self.state is ConnectionState.HEAD:
                self._answer(503, "Service Unavailable")
            else:
                self._close(lingers=True)
        elif self.state is ConnectionState.HEAD:
            record.count_limit(Limit.HEAD_TIMEOUT)
            self._answer(408, "the request head did not arrive in time")
        else:
            is_silent = self.state is ConnectionState.SILENT
            record.count_limit(Limit.HEAD_TIMEOUT if is_silent else Limit.KEEP_ALIVE_TIMEOUT)
            self._close(lingers=True)

    # The end.

    def _close(self, *, lingers: bool, expects_input: bool = False, resets: bool = False) -> None:
        """End the connection after what was written is sent.

        `lingers`: see `LingeringClose`. `expects_input`: the client may still be sending, and can tell the end of
        the response without the close. `resets`: reset the connection once the client has taken what was written,
        so that the client sees an error.
        """
        self._end()
        self._drop_exchange()
        self._wake_writers()
        self.writer.flush()
        transport = self._transport
        if transport.is_closing():
            return
        if resets or (lingers and not self._has_peer_closed) or transport.get_write_buffer_size():
            # LingeringClose also bounds the time for a client that does not read what is buffered.
            self._is_reading_paused = False
            self._lingering = LingeringClose(
                transport,
                self.clock.loop,
                self.server.settings.write_timeout,
                expects_input=expects_input,
                resets=resets,
            )
            self._lingering.begin()
        else:
            transport.close()

    def _reset(self) -> None:
        """Close so that the peer sees an error after it has read what was written."""
        self._close(lingers=True, resets=True)


def http_protocol(wire: Http1Wire, origin: Origin | None = None) -> asyncio.BaseProtocol:
    """Return the protocol of a new connection: `loop.create_server(lambda: http_protocol(wire), …)`.

    `origin`: the endpoints that a PROXY header named; None without such a header.
    """
    return cast("asyncio.BaseProtocol", HttpConnection(wire, origin))


def resumed_stream_protocol(wire: Http1Wire, parcel: EventStreamParcel) -> asyncio.BaseProtocol:
    """Return the protocol for the socket of an event stream that another worker has begun."""

    def begin(transport: asyncio.Transport) -> None:
        connection = HttpConnection(wire, None)
        transport.set_protocol(cast("asyncio.BaseProtocol", connection))
        connection.resume_stream(transport, parcel)

    return Resuming(wire.server.clock.loop, begin)


def resumed_http_protocol(wire: Http1Wire, parcel: HttpParcel) -> asyncio.BaseProtocol:
    """Return the protocol for the socket of a connection that another worker handed over."""

    def begin(transport: asyncio.Transport) -> None:
        connection = HttpConnection(wire, None)
        transport.set_protocol(cast("asyncio.BaseProtocol", connection))
        connection.resume(transport, parcel)

    return Resuming(wire.server.clock.loop, begin)


def _stream_of(exchange: HttpExchange) -> Http1ResponseStream:
    """Return the response stream of an exchange of an HTTP/1 connection."""
    stream = exchange.stream
    assert isinstance(stream, Http1ResponseStream)
    return stream
