"""One WebSocket connection: it joins a socket taken over from HTTP and an application that speaks ASGI.

The states are in `states.py`, the handover to another worker in `leaving.py`, the opening handshake in
`handshake.py`, frames, messages and their limits in `session.py`, pings in `keep_alive.py`. When another worker has
handed a connection over (`resume`), the application here accepts the connection like a new one, and nothing of that
is sent to the client.

Every buffer is bounded. Received messages wait for the application in a queue (`receive_queue.py`); when the queue
is full, further bytes stay undecoded and the socket is not read. Sent messages wait in the transport up to its
high-water mark; then `send` waits, and a client that reads nothing for `write_timeout` seconds is dropped.

A drain hands an open connection to a handover target, if there is one and the application takes part. Otherwise the
drain closes the connection with 1012 (1001 when the server stops) at its time in the plan (`drain_close.py`), and
the application goes on until then. A handshake in progress is completed and the connection leaves afterwards; when
the server stops, and at the deadline of the drain, the handshake is answered with 503. See `LiveConnection`.
"""

import asyncio
import logging
import random
import time
from asyncio import Future
from collections.abc import Awaitable
from typing import Final

from asgireload.asgi import Message, Scope
from asgireload.draining import DrainReason
from asgireload.errors import (
    AppProtocolError,
    ClientDisconnectedError,
    FrameError,
    PeerError,
)
from asgireload.handover import EXTENSION as HANDOVER_EXTENSION
from asgireload.http.access_format import AccessEntry
from asgireload.http.close_plan import close_reason
from asgireload.http.endpoints import Endpoints, label_of
from asgireload.http.exchange import RETRY_AFTER
from asgireload.http.messages import bytes_of, kind_of, pairs_of
from asgireload.http.pace import Pace
from asgireload.http.refusals import application_error
from asgireload.http.request import RequestHead
from asgireload.http.request_id import EXTENSION
from asgireload.http.running import run
from asgireload.http.scope import full_path, websocket_scope
from asgireload.http1.leaving import LeavingState
from asgireload.http1.lingering_close import LingeringClose
from asgireload.http1.wire import Http1Wire
from asgireload.http1.writer import ResponseFramer, frame_error, frame_switch
from asgireload.ipc.messages import OpenWork
from asgireload.ipc.parcels import Parcel
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.networks import Client
from asgireload.net.probing import has_unread
from asgireload.websocket.deflate import DeflateParameters
from asgireload.websocket.drain_close import DrainClose
from asgireload.websocket.frames import ABNORMAL
from asgireload.websocket.handover import Continuation, Resumption, SessionState, pack, queued
from asgireload.websocket.handshake import VERSION, Handshake
from asgireload.websocket.keep_alive import KeepAlive
from asgireload.websocket.leaving import HandoverStage, WebSocketLeaving
from asgireload.websocket.messages import close_of, denial_status_of, payload_of, subprotocol_of
from asgireload.websocket.receive_queue import ReceiveQueue
from asgireload.websocket.session import Closed, SessionLimits
from asgireload.websocket.sessions import Session, new_session
from asgireload.websocket.settings import WebSocketSettings
from asgireload.websocket.stalling import StallWatch
from asgireload.websocket.states import WebSocketEvent, WebSocketState, is_before_open, next_state

_logger = logging.getLogger("asgireload.error")

_WEBSOCKETS: Final = int(Field.WEBSOCKETS)
_WEBSOCKETS_TOTAL: Final = int(Field.WEBSOCKETS_TOTAL)
_APP_ERRORS_TOTAL: Final = int(Field.APP_ERRORS_TOTAL)
_PEER_ERRORS_TOTAL: Final = int(Field.PEER_ERRORS_TOTAL)
_CUT_TOTAL: Final = int(Field.CUT_TOTAL)

EARLY_BYTES: Final = 64 * 1024
"""Bytes that a client may send before it is accepted. The socket is read meanwhile, because only a socket that is
read shows that its peer has disconnected."""


class WebSocketConnection:
    """A WebSocket on the `transport` of an HTTP connection that is registered with `Live` already.

    `begin(data)` starts it, with the bytes that were received after the handshake request; `resume` starts a
    connection that another worker handed over.
    """

    def __init__(
        self,
        wire: Http1Wire,
        settings: WebSocketSettings,
        transport: asyncio.Transport,
        endpoints: Endpoints,
        head: RequestHead,
    ) -> None:
        self._wire = wire
        self._server = server = wire.server
        self._clock = server.clock
        self._live = server.live
        self._drain = server.drain
        self._settings = settings
        self.state = WebSocketState.CONNECTING
        self._transport = transport
        self._endpoints = endpoints
        self._head = head
        self._handshake: Handshake
        self._session: Session
        self._task: asyncio.Task[None] | None = None
        self._early_bytes = b""
        """Bytes received before the application accepted."""
        self._queue = ReceiveQueue(settings.max_queue)
        self._receive_waiters: list[asyncio.Future[None]] = []
        self._is_connect_delivered = False
        self._disconnect: Message | None = None
        self._is_reading_paused = False
        self._is_write_paused = False
        self._write_waiters: list[asyncio.Future[None]] = []
        self._written_bytes = 0
        self._stall_watch = StallWatch(server.settings.write_timeout)
        self._stall_timer: asyncio.TimerHandle | None = None
        self._keep_alive: KeepAlive | None = None
        """Set while the connection is open, until it is lost."""
        self._close_timer: asyncio.TimerHandle | None = None
        self._lingering: LingeringClose | None = None
        self._denial_start: Message
        self._denial_status = 0
        self._denial: ResponseFramer | None = None
        self._status = 0
        """The status that the handshake was answered with; 0 before."""
        self._client: Client | None = endpoints.client
        """The client's address for the log; a trusted proxy may name another than the peer's."""
        self._request_id: str | None = None
        self._started_ns = time.monotonic_ns()
        self._is_accepted = False
        """`_session` is set."""
        self._subprotocol: str | None = None
        self._deflate: DeflateParameters | None = None
        self._resumption: Resumption | None = None
        """The state that another worker handed over, until the application has accepted."""
        self._takes_part = False
        """The application supports `websocket.handover`."""
        self._leaving: WebSocketLeaving | None = None
        self._drain_close: DrainClose | None = None
        """Set when the drain closes the connection, until the connection is lost."""
        self._pace = Pace()

    def begin(self, data: bytes) -> None:
        """Check the handshake and call the application, or refuse the handshake with an HTTP error.

        `data` is the bytes that were received after the handshake request.
        """
        self._live.record.requests += 1
        try:
            self._handshake = Handshake(self._head)
        except PeerError as error:
            self._live.record.values[_PEER_ERRORS_TOTAL] += 1
            headers = ((b"sec-websocket-version", VERSION),) if error.status == 426 else ()
            self._refuse(error.status, error.reason, headers=headers)
            return
        if self._drain.notice:
            self._refuse(503, "Service Unavailable")
            return
        if not self._live.admits():
            self._refuse(503, "Service Unavailable", headers=(RETRY_AFTER,))
            return
        self._early_bytes = data
        if len(data) > EARLY_BYTES:
            self._pause_reading()
        self._start_application()

    def _start_application(self) -> None:
        # The caller may run in the context of a request, whose variables are not for this application call.
        self._task = self._server.variables.copy().run(self._clock.loop.create_task, run(self))

    def resume(self, resumption: Resumption) -> None:
        """Continue a connection that another worker handed over. Called in place of `begin`."""
        self._live.register(self, is_new=False)
        continuation = resumption.continuation
        self.state = WebSocketState.RESUMING
        self._handshake = resumption.handshake
        self._resumption = resumption
        self._status = 101
        self._started_ns = continuation.started_ns
        self._request_id = continuation.request_id
        self._written_bytes = continuation.sent_bytes
        self._subprotocol = resumption.subprotocol
        self._live.record.values[_WEBSOCKETS] += 1
        self._open_session(resumption.deflate, continuation.session, is_movable=True)
        try:
            self._session.resume(continuation.session)
        except FrameError as error:
            # The limits have been lowered since the other worker received the bytes.
            self._live.record.values[_PEER_ERRORS_TOTAL] += 1
            if error.limit is not None:
                self._live.record.count_limit(Limit(error.limit))
            self.write(self._session.close(error.code, error.reason))
            self._move(WebSocketEvent.SEND_CLOSE)
            self._linger()
            return
        self._start_application()

    # asyncio calls these.

    def data_received(self, data: bytes) -> None:
        self._live.record.bytes_received += len(data)
        if self._lingering is not None:
            self._lingering.drop(data)
        elif self.state is WebSocketState.OPEN or self.state is WebSocketState.CLOSING:
            self._receive_frames(data)
        elif is_before_open(self.state):
            self._early_bytes += data
            if len(self._early_bytes) > EARLY_BYTES:
                self._pause_reading()
        else:
            # Loops read nothing after `pause_reading`; bytes that came while leaving would be lost without notice.
            assert self.state is not WebSocketState.LEAVING

    def eof_received(self) -> bool:
        return False  # close: a WebSocket does not use half-closed connections (RFC 6455 section 7.1.4)

    def connection_lost(self, error: Exception | None) -> None:
        self._set_disconnected(ABNORMAL, "")
        self._move(WebSocketEvent.LOSE)
        self._stop_waiting()
        # Both refer to this connection: without these references it is freed at once, not by the garbage collector.
        self._keep_alive = self._drain_close = None
        for timer in (self._close_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self._close_timer = self._stall_timer = None
        if self._leaving is not None:
            self._leaving.cancel()
        if self._lingering is not None:
            self._lingering.cancel()
        self._is_write_paused = False
        self._wake_writers()
        if self._is_accepted:
            self._live.record.values[_WEBSOCKETS] -= 1
        if self._task is not None:
            self._live.add_background(self._task)
        if self._leaving is None or self._leaving.state is not LeavingState.GONE:
            self._log_end()
        self._live.unregister(self)

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self._is_accepted:
            self._session.hold_pongs()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._is_accepted:
            self.write(self._session.release_pongs())
        self._wake_writers()
        if self._leaving is not None:
            self._leaving.advance()

    # The drain, and `Live` when it needs room, call these; see `LiveConnection`.

    @property
    def idle_since(self) -> float | None:
        return None

    def close_idle(self) -> None:
        raise AssertionError("never idle")

    def hold(self) -> None:
        """Do nothing: an open WebSocket goes on with its code, and newer code gets new connections."""

    def release(self) -> None:
        """Do nothing, because `hold` does nothing."""

    def begin_drain(self) -> None:
        if self._leaving is not None:
            self._leaving.follow(self._drain.successor)
        elif self.state is WebSocketState.OPEN:
            self._leave()
        elif self._is_being_answered() and not self._drain_reason().has_successor:
            self._refuse_for_drain()
        # When another worker serves, a handshake in progress goes on: its client may have come from a worker that
        # has just left. The connection leaves as soon as the application accepts, as does one that is resuming.

    def _is_being_answered(self) -> bool:
        """Return whether the answer to the handshake is not complete."""
        return self.state is WebSocketState.CONNECTING or self.state is WebSocketState.DENYING

    def _refuse_for_drain(self) -> None:
        self._set_disconnected(self._drain_reason().websocket_code, "")
        if self._denial is None:
            self._refuse(503, "Service Unavailable")
        # Otherwise the application is sending its denial response, which ends by itself.

    def cut(self) -> None:
        if self._task is not None:
            self._live.record.values[_CUT_TOTAL] += 1
            self._live.add_background(self._task)  # which is cancelled a moment later
        leaving = self._leaving
        if leaving is not None and leaving.state is LeavingState.OFFERED:
            return  # the other worker decides, and has time until `abort`
        if (
            self.state is WebSocketState.OPEN
            or self.state is WebSocketState.LEAVING
            or self.state is WebSocketState.RESUMING
        ):
            self.close_for_drain()
        elif self._is_being_answered() and self._denial is None:
            self._refuse_for_drain()
        elif self._lingering is None:
            self._transport.abort()

    def open_work(self, now_ns: int) -> OpenWork:
        return OpenWork(
            "WebSocket",
            f"WebSocket {self._head.raw_path.decode('ascii')}",
            label_of(self._client),
            (now_ns - self._started_ns) / 1e9,
        )

    def abort(self) -> None:
        if self._task is not None:
            self._live.add_background(self._task)
            self._task.cancel()
        self._transport.abort()

    # The handover to another worker. `WebSocketLeaving` calls these; see `LeavingWebSocket`.

    def _leave(self) -> None:
        """Begin the handover, or plan the close of this connection."""
        successor = self._drain.successor
        if successor is not None and self._takes_part:
            self._stop_waiting()
            self._pause_reading()
            self._leaving = WebSocketLeaving(self._clock.loop, successor, self)
            self._wake_receivers()
        elif self._drain_close is None or not self._drain_close.is_due:
            drain_close = self._make_drain_close()
            if self._takes_part and self._drain.awaits_successor:
                # A handover target may still be named; the connection is served meanwhile. Connections whose state
                # was given for a target that is gone wait as long.
                drain_close.begin_after(self.patience())
            else:
                drain_close.begin(is_late=False)

    def _make_drain_close(self) -> DrainClose:
        window = self._server.settings.close_window
        self._drain_close = drain_close = DrainClose(self._clock, self._drain, window, self)
        return drain_close

    def _stop_waiting(self) -> None:
        """Stop the pings, and cancel the close that the drain has planned."""
        if self._keep_alive is not None:
            self._keep_alive.stop()
        if self._drain_close is not None:
            self._drain_close.cancel()

    def patience(self) -> float:
        """Return the seconds for the handover: at most half of the time that the drain has left, because a close
        must still be in time."""
        return min(self._settings.handover_timeout, self._drain.seconds_left() / 2)

    def is_settled(self) -> bool:
        if self._task is not None:
            return False
        transport = self._transport
        if not transport.get_write_buffer_size():
            return True
        transport.set_write_buffer_limits(0)  # then `resume_writing` is called when it is empty
        return False

    def descriptor(self) -> int:
        if self._transport.is_closing():
            return -1
        return int(self._transport.get_extra_info("socket").fileno())

    def make_parcel(self) -> Parcel | None:
        leaving = self._leaving
        assert leaving is not None
        continuation = Continuation(
            self._session.export(),
            queued(self._queue.messages),
            ping_at=self._keep_alive.ping_at if self._keep_alive is not None else None,
            started_ns=self._started_ns,
            sent_bytes=self._written_bytes,
            request_id=self._request_id,
        )
        return pack(
            self._endpoints.facts(),
            self._head,
            continuation,
            subprotocol=self._subprotocol,
            deflate=self._deflate,
            app_state=leaving.app_state,
        )

    def release_socket(self) -> None:
        self._drain.websockets_moved += 1
        # Without shutdown(): the other worker uses the socket.
        self._transport.close()

    def keep(self) -> None:
        if self.state is WebSocketState.LEAVING:
            self._move(WebSocketEvent.KEEP)
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits()
        self._make_drain_close().begin(is_late=True)

    # `DrainClose` calls these; see `DrainedConnection`.

    def count_to_close(self) -> int:
        has_successor = self._drain.successor is not None or self._drain.awaits_successor
        count = 0
        for connection in self._live.connections:
            if isinstance(connection, WebSocketConnection) and (
                connection.state is WebSocketState.OPEN
                and not (has_successor and connection._takes_part)
            ):
                count += 1
        return max(count, 1)

    def count_open(self) -> int:
        return self._live.record.values[_WEBSOCKETS]

    def is_answering(self) -> bool:
        if self.state is not WebSocketState.OPEN or self._write_waiters:
            return False  # a client that does not read is not waiting for an answer
        return not self._receive_waiters or has_unread(self._transport.get_extra_info("socket"))

    def close_for_drain(self) -> None:
        reason = self._drain_reason()
        jitter = random.random()  # it only spreads load, so it need not be secret
        self._close(reason.websocket_code, close_reason(reason, jitter))

    # The application's side.

    # `running.run` calls these.

    def call(self) -> Awaitable[None] | None:
        scope: Scope = websocket_scope(
            self._head, self._server, self._endpoints, self._handshake.subprotocols
        )
        self._client = scope["client"]
        if self._server.request_ids is not None:
            if self._request_id is None:
                self._request_id = self._server.request_ids.of(self._head.headers)
            scope["extensions"][EXTENSION] = {"id": self._request_id}
        if not self._endpoints.is_encrypted:
            self._offer_handover(scope["extensions"])
        return self._server.app(scope, self._receive, self._send)

    def note_return(self) -> None:
        if self.state is WebSocketState.OPEN:
            if self._leaving is None:
                self._close(1000, "")
            else:
                self._leaving.fail()  # no effect if it has failed already
        elif is_before_open(self.state):
            _logger.error(
                "The application returned without accepting or closing the WebSocket %s.",
                full_path(self._head, self._server),
            )
            self._fail_handshake()

    def note_error(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # `cut` and `abort` close the connection themselves; any other cancellation is the application's error.
            if (
                self.state is WebSocketState.OPEN
                or self.state is WebSocketState.LEAVING
                or is_before_open(self.state)
            ):
                self._report_error(error, "was cancelled")
        else:
            own = application_error(error)
            if own is not None:
                self._report_error(own, "failed")

    def note_end(self) -> None:
        self._task = None
        if self._leaving is not None:
            self._leaving.advance()

    def _offer_handover(self, extensions: Message) -> None:
        handover: Message = {"max_state": self._settings.handover_max_state}
        if self._resumption is not None:
            handover["state"] = self._resumption.app_state
            # The other worker has answered the handshake.
            del extensions["websocket.http.response"]
        extensions[HANDOVER_EXTENSION] = handover

    async def _receive(self) -> Message:
        if not self._is_connect_delivered:
            self._is_connect_delivered = True
            return {"type": "websocket.connect"}
        while True:
            if self._leaving is not None and self._disconnect is None:
                # The messages in the queue are for the other worker.
                if self._leaving.is_notice_due:
                    self._leaving.is_notice_due = False
                    return {"type": "websocket.handover"}
            elif self._queue.messages:
                message = self._queue.take()
                if self._is_reading_paused and self._queue.is_half_empty:
                    self._refill_queue()
                if type(message) is str:
                    return {"type": "websocket.receive", "text": message}
                return {"type": "websocket.receive", "bytes": message}
            elif self._disconnect is not None:
                if self._pace.must_yield(self._clock.now_ns):
                    await asyncio.sleep(0)  # repeated calls must not block the loop
                return self._disconnect
            await self._wait_among(self._receive_waiters)

    async def _send(self, message: Message) -> None:
        """Send a message of the application. Raise ClientDisconnectedError once the WebSocket is closed."""
        kind = kind_of(message)
        if self.state is WebSocketState.OPEN:
            if kind == "websocket.send":
                if self._is_write_paused:
                    # Wait before the message is framed: a send that is cancelled while it waits has sent nothing.
                    self._pace.note_wait()
                    await self._wait_writable()
                    await self._send(message)
                    return
                if self._transport.is_closing():
                    raise ClientDisconnectedError("the client has left")
                self.write(self._frame(message))
                if self._pace.must_yield(self._clock.now_ns):
                    await asyncio.sleep(0)
            elif kind == "websocket.close":
                self._close(*close_of(message))
            elif kind == "websocket.handover":
                self._give_state(message)
            else:
                raise AppProtocolError(f"the message {kind!r} is not allowed on an open WebSocket")
        elif is_before_open(self.state):
            await self._send_before_open(kind, message)
        else:
            raise ClientDisconnectedError("the WebSocket is closed")

    def _give_state(self, message: Message) -> None:
        leaving = self._leaving
        if leaving is None:
            raise AppProtocolError(
                "websocket.handover is an answer; wait until receive() has returned it"
            )
        if leaving.stage is HandoverStage.ASKED:
            leaving.answer(message.get("state"), self._settings.handover_max_state)
            self._move(WebSocketEvent.HAND_OVER)
            # Another task of the application may wait to send.
            self._wake_writers()
        # Otherwise the answer comes too late, and the drain closes the connection.

    def _frame(self, message: Message) -> bytes:
        payload = payload_of(message)
        if isinstance(payload, str):
            return self._session.send_text(payload)
        return self._session.send_bytes(payload)

    async def _send_before_open(self, kind: str, message: Message) -> None:
        if self._resumption is not None:
            self._send_resuming(kind, message, self._resumption)
        elif self.state is WebSocketState.DENYING:
            if kind != "websocket.http.response.body":
                raise _misplaced(kind)
            await self._deny(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._log_handshake("403")
            self._set_disconnected(ABNORMAL, "")
            self._refuse(403, "Forbidden")
        elif kind == "websocket.http.response.start":
            self._denial_status = denial_status_of(message)
            self._denial_start = message
            self._move(WebSocketEvent.DENY)
        else:
            raise _misplaced(kind)

    def _accept(self, message: Message) -> None:
        deflate = (
            self._handshake.negotiate_deflate() if self._settings.per_message_deflate else None
        )
        subprotocol = subprotocol_of(message)
        head = frame_switch(
            self._handshake.accept_headers(
                subprotocol, deflate, pairs_of(message.get("headers") or ())
            ),
            default_lines=self._wire.default_lines,
            date_line=self._clock.date_line(time.monotonic_ns()),
        )
        self._status = 101
        self._log_handshake("[accepted]")
        self._subprotocol = subprotocol
        self._takes_part = bool(message.get("handover")) and not self._endpoints.is_encrypted
        self._open_session(deflate, None, is_movable=self._takes_part)
        self._move(WebSocketEvent.ACCEPT)
        values = self._live.record.values
        values[_WEBSOCKETS] += 1
        values[_WEBSOCKETS_TOTAL] += 1
        self.write(head)
        self._begin_keep_alive(None)
        self._resume_reading()
        self._take_early()
        if self._drain.notice and self.state is WebSocketState.OPEN:
            self.begin_drain()

    def _open_session(
        self, deflate: DeflateParameters | None, state: SessionState | None, *, is_movable: bool
    ) -> None:
        settings = self._settings
        limits = SessionLimits(
            settings.max_size,
            settings.max_frame_size,
            settings.max_fragments,
            settings.max_inflation_ratio,
        )
        self._deflate = deflate
        self._session = new_session(settings.session, limits, deflate, state, is_movable=is_movable)
        self._is_accepted = True

    def _send_resuming(self, kind: str, message: Message, resumption: Resumption) -> None:
        """Handle the application's first message on a connection that another worker handed over."""
        if kind == "websocket.close":
            self._close(*close_of(message))
            return
        if kind != "websocket.accept":
            raise AppProtocolError(
                f"the message {kind!r} is not allowed before a WebSocket that was handed over is accepted"
            )
        subprotocol = message.get("subprotocol")
        if subprotocol != self._subprotocol:
            raise AppProtocolError(
                f"the subprotocol of this WebSocket is {self._subprotocol!r} since its handshake, in"
                f" another worker; it cannot become {subprotocol!r}"
            )
        self._takes_part = bool(message.get("handover"))
        self._resumption = None
        self._move(WebSocketEvent.ACCEPT)
        for waiting in resumption.messages:
            self._queue.put(waiting)
        self._begin_keep_alive(resumption.continuation.ping_at)
        self._resume_reading()
        self._take_early()
        if self._drain.notice and self.state is WebSocketState.OPEN:
            self.begin_drain()

    def _begin_keep_alive(self, ping_at: float | None) -> None:
        self._keep_alive = KeepAlive(self._clock, self._settings, self._session, self)
        self._keep_alive.begin(ping_at)

    def _take_early(self) -> None:
        early, self._early_bytes = self._early_bytes, b""
        if early or self._session.has_unread_frames:
            self._receive_frames(early)

    async def _deny(self, message: Message) -> None:
        """Write a part of the denial response, after which the connection always ends."""
        body = bytes_of(message.get("body", b""), "websocket.http.response.body")
        more_body = bool(message.get("more_body", False))
        if self._denial is None:
            framer = ResponseFramer()
            status = self._denial_status
            data = framer.begin(
                status,
                pairs_of(self._denial_start.get("headers", ())),
                body,
                more_body=more_body,
                is_head_request=False,
                http_version="1.1",
                close=True,
                default_lines=self._wire.default_lines,
                date_line=self._clock.date_line(time.monotonic_ns()),
            )
            self._denial = framer
            self._status = status
            self._live.record.observe_response(status, 0)
            self._log_handshake(str(status))
        else:
            data = self._denial.frame(body, more_body=more_body)
        self.write(data)
        if not more_body:
            self._set_disconnected(ABNORMAL, "")
            self._finish_refusal()
        elif self._is_write_paused:
            self._pace.note_wait()
            await self._wait_writable()
        elif self._transport.is_closing():
            raise ClientDisconnectedError("the client has left")
        elif self._pace.must_yield(self._clock.now_ns):
            await asyncio.sleep(0)

    def _report_error(self, error: BaseException, what: str) -> None:
        self._live.record.values[_APP_ERRORS_TOTAL] += 1
        _logger.error(
            "Exception in ASGI application: WebSocket %s %s",
            full_path(self._head, self._server),
            what,
            exc_info=error,
        )
        if self._leaving is not None:
            self._leaving.fail()
        elif self.state is WebSocketState.OPEN:
            self._close(1011, "")
        elif is_before_open(self.state):
            self._fail_handshake()

    def _fail_handshake(self) -> None:
        if self._resumption is not None:
            self._close(1011, "")
        elif self._denial is None:
            self._log_handshake("500")
            self._refuse(500, "Internal Server Error")
        else:
            # A part of the denial response was sent; closing now shows the client that it is incomplete.
            self._finish_refusal()

    async def _wait_writable(self) -> None:
        """Wait until the client has read enough. Raise ClientDisconnectedError when the WebSocket is closed."""
        while True:
            if self.state is not WebSocketState.OPEN and not is_before_open(self.state):
                raise ClientDisconnectedError("the WebSocket is closed")
            if not self._is_write_paused:
                return
            await self._wait_among(self._write_waiters)

    async def _wait_among(self, waiters: list[asyncio.Future[None]]) -> None:
        """Wait until `waiters` are woken. A cancelled wait removes its waiter."""
        waiter: asyncio.Future[None] = Future(loop=self._clock.loop)
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in waiters:
                waiters.remove(waiter)
            raise

    # Frames.

    def _receive_frames(self, data: bytes) -> None:
        session = self._session
        queue = self._queue
        closed: Closed | None = None
        for event in session.receive(data, queue.room):
            if isinstance(event, Closed):
                closed = event
            else:
                queue.put(event)
        answer = session.take_answer()
        if answer and self.state is not WebSocketState.CLOSED:
            self.write(answer)
        if closed is not None:
            self._handle_closed(closed)
        elif session.has_unread_frames or queue.room <= 0:
            self._pause_reading()
        self._wake_receivers()

    def _refill_queue(self) -> None:
        """Decode bytes for which the queue had no room, then resume reading if there is room again."""
        self._receive_frames(b"")
        if not self._session.has_unread_frames and self._queue.room > 0:
            self._resume_reading()

    def _handle_closed(self, event: Closed) -> None:
        if event.is_fault:
            self._live.record.values[_PEER_ERRORS_TOTAL] += 1
        if event.limit is not None:
            self._live.record.count_limit(event.limit)
        if self.state is WebSocketState.CLOSED:
            # The connection was lost while the close frame waited for room; the frame tells more than the loss.
            self._disconnect = None
        self._set_disconnected(event.code, event.reason)
        before = self.state
        self._move(WebSocketEvent.RECEIVE_CLOSE)
        if before is WebSocketState.OPEN:
            # The peer may send more, against the protocol; a reset by that must not destroy our close frame.
            self._linger()
        elif before is WebSocketState.CLOSING:
            self._transport.close()
            self._bound_close()

    def _close(self, code: int, reason: str) -> None:
        """Send a close frame, and wait at most `close_timeout` for the peer's.

        Raise AppProtocolError, with nothing changed, for a code or reason that may not be sent.
        """
        self.write(self._session.close(code, reason))
        self._move(WebSocketEvent.SEND_CLOSE)
        self._resumption = None
        if self._leaving is not None:
            self._leaving.cancel()
        self._set_disconnected(code, reason)
        self._wake_writers()
        self._bound_close()
        self._take_early()  # the peer's close frame may be among these bytes
        self._resume_reading()

    def _bound_close(self) -> None:
        """Bound the time for which a peer that neither answers nor reads can keep the connection open."""
        self._stop_waiting()
        if self._close_timer is None:
            self._close_timer = self._clock.loop.call_later(
                self._settings.close_timeout, self._give_up_close
            )

    def _give_up_close(self) -> None:
        self._close_timer = None
        if self.state is WebSocketState.CLOSING:
            self._live.record.count_limit(Limit.WS_CLOSE_TIMEOUT)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    # `KeepAlive` calls these; see `PingedConnection`.

    def is_write_paused(self) -> bool:
        return self._is_write_paused

    def is_reading_paused(self) -> bool:
        return self._is_reading_paused

    def note_ping_timeout(self) -> None:
        self._live.record.count_limit(Limit.WS_PING_TIMEOUT)
        self._close(1011, "keepalive ping timeout")

    # Clients that do not read.

    def _watch_writing(self) -> None:
        """Drop a client that has read nothing for `write_timeout`."""
        self._stall_timer = None
        waiting_bytes = self._transport.get_write_buffer_size()
        if not waiting_bytes:
            self._stall_watch.rest()
        elif self._stall_watch.is_stalled(
            self._clock.loop.time(), self._written_bytes - waiting_bytes
        ):
            self._live.record.count_limit(Limit.WRITE_TIMEOUT)
            self._set_disconnected(ABNORMAL, "")
            self._transport.abort()
        else:
            self._arm_stall_watch()

    def _arm_stall_watch(self) -> None:
        self._stall_timer = self._clock.loop.call_later(
            self._stall_watch.interval, self._watch_writing
        )

    # The ends.

    def _move(self, event: WebSocketEvent) -> None:
        self.state = next_state(self.state, event)

    def _drain_reason(self) -> DrainReason:
        return self._drain.notice.reason or DrainReason.RELOAD

    def _set_disconnected(self, code: int, reason: str) -> None:
        """Set the disconnect message for the application, unless it is set: the first cause counts."""
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._wake_receivers()

    def _refuse(
        self, status: int, text: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Answer the handshake with an HTTP error."""
        self._status = status
        self._live.record.observe_response(status, 0)
        self.write(
            frame_error(
                status,
                text,
                headers=headers,
                default_lines=self._wire.default_lines,
                date_line=self._clock.date_line(time.monotonic_ns()),
            )
        )
        self._finish_refusal()

    def _finish_refusal(self) -> None:
        self._move(WebSocketEvent.REFUSE)
        self._linger()

    def _linger(self) -> None:
        """Begin a lingering close, so that a client that still sends can read what was written."""
        self._wake_writers()
        self._stop_waiting()
        self._is_reading_paused = False
        self._lingering = LingeringClose(self._transport, self._clock.loop)
        self._lingering.begin()

    def _log_handshake(self, outcome: str) -> None:
        access_log = self._server.access_log
        if access_log is not None and access_log.logs_at_start:
            access_log.websocket_answered(
                label_of(self._client), full_path(self._head, self._server), outcome
            )

    def _log_end(self) -> None:
        """Log the end of the connection in the access log, if it logs connections of this duration."""
        access_log = self._server.access_log
        duration_ns = time.monotonic_ns() - self._started_ns
        if access_log is None or duration_ns < access_log.entry_from_ns:
            return
        disconnect = self._disconnect
        access_log.response_ended(
            AccessEntry(
                client=self._client,
                method=self._head.method,
                target=full_path(self._head, self._server),
                http_version=self._head.http_version,
                scheme="wss" if self._endpoints.is_secure else "ws",
                status=self._status,
                request_headers=self._head.headers,
                response_headers=(),
                body_bytes=self._written_bytes,
                duration_ns=duration_ns,
                started_at=time.time() - duration_ns / 1e9,
                is_complete=disconnect is not None and disconnect["code"] != ABNORMAL,
                request_id=self._request_id,
                kind="websocket",
                close_code=disconnect["code"] if self._is_accepted and disconnect else None,
            )
        )

    def write(self, data: bytes) -> None:
        if data:
            size = len(data)
            self._written_bytes += size
            self._live.record.bytes_sent += size
            self._transport.write(data)
            if self._stall_timer is None:
                # One timer for many messages; when it finds nothing waiting it is not armed again.
                self._arm_stall_watch()

    def _wake_writers(self) -> None:
        if self._write_waiters:
            waiters, self._write_waiters = self._write_waiters, []
            _wake(waiters)

    def _wake_receivers(self) -> None:
        if self._receive_waiters:
            waiters, self._receive_waiters = self._receive_waiters, []
            _wake(waiters)

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._transport.is_closing():
            self._is_reading_paused = True
            if self._keep_alive is not None:
                self._keep_alive.was_readable = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            if not self._transport.is_closing():  # uvloop raises for a closed transport
                self._transport.resume_reading()


def _misplaced(kind: str) -> AppProtocolError:
    return AppProtocolError(f"the message {kind!r} is not allowed before the WebSocket is open")


def _wake(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
