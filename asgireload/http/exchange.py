"""One HTTP request with its response: calls the application, and implements `receive` and `send`.

The exchange enforces the order of ASGI messages, logs and counts. It does not depend on the version of HTTP: the
connection that has read the request calls the exchange, and a `ResponseStream` sends the response.
"""

import asyncio
import logging
import os
import sys
from asyncio import Task
from collections.abc import Awaitable, Coroutine
from enum import Enum, auto
from time import time
from typing import Any, Final

from asgireload.asgi import Message, Scope
from asgireload.errors import AppProtocolError, ClientDisconnectedError
from asgireload.http.access_format import AccessEntry
from asgireload.http.endpoints import Endpoints, label_of
from asgireload.http.event_stream import BOM, EventStream, is_event_stream
from asgireload.http.files import open_file, span_of
from asgireload.http.messages import bytes_of, kind_of, pairs_of, start_of, value_of
from asgireload.http.pace import Pace
from asgireload.http.refusals import application_error, let_go
from asgireload.http.request import RequestHead
from asgireload.http.request_id import EXTENSION
from asgireload.http.response_stream import APART_BYTES, ResponseStream
from asgireload.http.running import run
from asgireload.http.scope import full_path, http_scope
from asgireload.http.server import Server
from asgireload.ipc.messages import OpenWork
from asgireload.ipc.parcels import EventStreamParcel
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.networks import Client

BODY_HIGH_WATER_BYTES: Final = 64 * 1024
"""Bytes of request body that are buffered for an application that does not read, before reading is paused.
The same as asyncio's default for writing; one read (at most 256 KiB) may be buffered in addition."""

DROPPED_NS: Final = 1_000_000_000
"""Nanoseconds for which an application may send to a client that has left, before `send` raises. The application
may have work to do after the response, and frameworks that receive http.disconnect end by themselves."""
DROPPED_MESSAGES: Final = 1000
"""Messages that are dropped before `send` raises, after the client has left or for a body that is omitted, as in a
response to HEAD. Without a bound, an application that only sends would run for ever."""
DROPPED_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes of body."""
_LENGTH_NAMES: Final = (b"content-length", b"Content-Length")
_PARTS_OF_BODY: Final = frozenset(
    {
        "http.response.body",
        "http.response.trailers",
        "http.response.pathsend",
        "http.response.zerocopysend",
    }
)

_logger = logging.getLogger("asgireload.error")

_make_task: Any = Task
_HAS_EAGER_START: Final = sys.version_info >= (3, 12)
_APP_ERRORS_TOTAL: Final = int(Field.APP_ERRORS_TOTAL)


class ResponseStage(Enum):
    """Which messages of the response the application has sent."""

    WAITING = auto()
    """None."""
    STARTED = auto()
    """http.response.start; nothing was written."""
    BODY = auto()
    """The head was written; more of the body follows."""
    FILE = auto()
    """A file is being sent: no other message may be sent meanwhile."""
    TRAILERS = auto()
    """The body has ended; trailers follow."""
    COMPLETE = auto()
    """The response is complete."""


_WHEN = {
    ResponseStage.WAITING: "before http.response.start",
    ResponseStage.STARTED: "after the response was started",
    ResponseStage.BODY: "after the response was started",
    ResponseStage.FILE: "while a file is sent",
    ResponseStage.TRAILERS: "after the body, where only trailers may follow",
    ResponseStage.COMPLETE: "after the response was completed",
}
RETRY_AFTER: Final = (b"retry-after", b"1")
"""Header of the 503 response to a request beyond `limit_concurrency`. An overload is often short; clients that wait
for a second do not add to it."""


class HttpExchange:
    """Runs the application for one request.

    The connection calls `start`, `feed_body`, `complete_request`, `disconnect`, `time_out` and `abandon`; the
    application calls `receive` and `send`. The exchange calls `complete` or `abort` of its stream.
    """

    __slots__ = (
        "_begun_ns",
        "_body",
        "_body_sent",
        "_cancellation",
        "_client",
        "_clock",
        "_dropped_bytes",
        "_dropped_messages",
        "_endpoints",
        "_gone_ns",
        "_has_peer_closed",
        "_is_beginning",
        "_is_counted",
        "_is_detached",
        "_is_disconnected",
        "_is_end_delivered",
        "_is_refused",
        "_is_resumed",
        "_is_told",
        "_known_ids",
        "_live",
        "_omits_rest",
        "_pace",
        "_receive_waiters",
        "_sends_trailers",
        "_server",
        "_stage",
        "_start",
        "_started_ns",
        "_status",
        "body_received",
        "events",
        "head",
        "is_request_complete",
        "needs_continue",
        "request_id",
        "stream",
        "task",
    )

    def __init__(
        self,
        head: RequestHead,
        stream: ResponseStream,
        server: Server,
        endpoints: Endpoints,
    ) -> None:
        self.head = head
        self.stream = stream
        self._server = server
        self._clock = server.clock
        self._live = server.live
        self._endpoints = endpoints
        self.task: Task[None] | None = None
        self.needs_continue = head.expects_continue
        """The client waits for a 100 before it sends the body (RFC 9110 section 10.1.1)."""
        self.body_received = 0
        self.events: EventStream | None = None
        """The position in the response, if it is an event stream that a drain moves, or ends, between events."""
        self._is_beginning = False
        """The application runs its first step, and has not waited for anything."""
        self._is_detached = False
        """The application is told that the client has left, although the client is connected."""
        self._is_resumed = False
        """Another worker has begun the response, and the application has not sent http.response.start yet."""
        self.is_request_complete = False
        self._body = b""
        self._is_disconnected = False
        self._is_end_delivered = False
        self._has_peer_closed = False
        """The client has closed its sending side, and was not probed yet (`ResponseStream.probe`)."""
        self._receive_waiters: list[asyncio.Future[None]] | None = None
        self._stage = ResponseStage.WAITING
        self._start: tuple[int, tuple[Any, ...]] = (0, ())
        self._sends_trailers = False
        self._status = 0
        self._begun_ns = 0
        """When the head was written, if the response was not complete with that write; else 0."""
        self._body_sent = 0
        self._pace: Pace | None = None
        """Made for the first call after which the event loop may have to get a turn."""
        self._known_ids: tuple[bytes, bytes] | None = None
        """Ids of events that the client has. If the first event of a resumed stream has one of them, the
        application has ignored Last-Event-ID."""
        self._is_told = False
        """`receive` has returned http.disconnect."""
        self._is_refused = False
        """The application was not called, because `limit_concurrency` is exceeded."""
        self._cancellation: asyncio.CancelledError | None = None
        """The exception that has ended a `send` to a client that has left."""
        self._omits_rest = False
        """The response is complete with its head, and the body that the application still sends is dropped."""
        self._dropped_bytes = 0
        self._dropped_messages = 0
        self._gone_ns = 0
        """When the client was found to have left: at a `send`, or when the connection noticed."""
        self._client: Client | None = endpoints.client
        """The client for the log: the peer, or the client that a trusted proxy has forwarded."""
        self.request_id: str | None = None
        self._started_ns = self._clock.now_ns()
        self._is_counted = True
        record = self._live.record
        record.exchanges += 1
        record.note_time(self._started_ns)

    def open_work(self, now_ns: int) -> OpenWork:
        """Return a description of the request for logs and status pages, without the query.

        `now_ns`: the present time of `Clock.now_ns`.
        """
        return OpenWork(
            "event stream" if self.is_event_stream else "request",
            f"{self.head.method} {self.head.raw_path.decode('ascii')}",
            label_of(self._client),
            (now_ns - self._started_ns) / 1e9,
        )

    @property
    def is_response_begun(self) -> bool:
        """True when bytes of the final response were written."""
        return self.stream.is_started

    @property
    def is_response_complete(self) -> bool:
        return self._stage is ResponseStage.COMPLETE

    @property
    def is_event_stream(self) -> bool:
        """True when the application has begun to answer with server-sent events (WHATWG HTML section 9.2)."""
        return self.events is not None or is_event_stream(self._start[1])

    # The connection calls these.

    def start(self, *, at_once: bool) -> None:
        """Begin to run the application.

        `at_once`: its first step, which may be the whole exchange, may run before `start` returns. Set it only when
        no task is running.
        """
        loop = self._clock.loop
        self._is_beginning = at_once
        # The caller may run in the context of another request, whose variables this one must not see.
        if loop.get_task_factory() is None:
            # As `loop.create_task` does, but with one name for all tasks of a connection.
            name = self.stream.task_name()
            if not at_once:
                task = _make_task(
                    run(self), loop=loop, name=name, context=self._server.variables.copy()
                )
            elif _HAS_EAGER_START:
                variables = self._server.variables.copy()
                task = _make_task(
                    run(self), loop=loop, name=name, context=variables, eager_start=True
                )
                if task.done():
                    return
                self._note_first_wait()
            else:
                begun = self._clock.eager_starter.begin(
                    run(self), name, self._server.variables.copy()
                )
                if begun is None:
                    return
                self._note_first_wait()
                task = begun
        else:
            task = self._server.variables.copy().run(loop.create_task, run(self))
        self.task = task
        # A drain also waits for work that frameworks run after the response.
        self._live.background.add(task)

    def _note_first_wait(self) -> None:
        """Note that the first step of the application has ended with a wait."""
        self._is_beginning = False
        if self._stage is ResponseStage.STARTED:
            self._flush_head_later()

    def feed_body(self, data: bytes) -> bool:
        """Take a piece of the request body. Return True when reading from the client should be paused."""
        self.body_received += len(data)
        if self._stage is ResponseStage.COMPLETE or self._is_disconnected:
            return False
        # Concatenation is cheap, because the size is bounded by the high-water mark and one read.
        self._body = self._body + data if self._body else data
        self._wake_receivers()
        return len(self._body) > BODY_HIGH_WATER_BYTES

    def complete_request(self) -> None:
        """Note that the end of the request body was received."""
        self.is_request_complete = True
        self._wake_receivers()

    def note_peer_closed(self) -> None:
        """Note that the client has closed its sending side, and has perhaps left.

        A client that waits with its sending side closed must get its whole response. It looks the same as a client
        that has left, until something is written: the kernel of a client that has left answers with a reset. So the
        client is probed (`ResponseStream.probe`) when the application calls `receive` next.
        """
        self._has_peer_closed = True
        self._wake_receivers()

    def disconnect(self, status: int = 0) -> None:
        """Note that the client has left or its request is broken.

        `receive` then returns http.disconnect, and `send` drops messages and raises ClientDisconnectedError after a
        moment. `status`: the status that the connection answers with in place of the application, for the log; 0 if
        it does not answer.
        """
        if status and not self.stream.is_started:
            self._status = status
        was_open = not self.is_response_complete and (
            not self._is_disconnected or self._is_detached
        )
        self._is_detached = False
        self._is_disconnected = True
        self._body = b""
        self._uncount()
        self._wake_receivers()
        if was_open:
            self._gone_ns = self._clock.now_ns()
            self._log_end(self._clock.now_ns() - self._started_ns, is_complete=False)

    def abandon(self, status: int = 0) -> None:
        """Call `disconnect`, and cancel the application without waiting for its end. `status`: see there."""
        self.disconnect(status)
        self._cancel()

    def time_out(self) -> None:
        """End a response that took longer than `request_timeout`, and cancel the application.

        The client gets a 504 response, or a truncated one if the response was begun.
        """
        if self._is_detached:
            return  # the stream is being handed over; the other worker goes on to measure the time
        self._live.record.count_limit(Limit.REQUEST_TIMEOUT)
        _logger.error(
            "%s %s took longer than %g s (timeout_request): the application was cancelled",
            self.head.method,
            full_path(self.head, self._server),
            self._server.settings.request_timeout,
        )
        if self.is_response_begun and not self._is_resumed:
            self._break_response()
        else:
            self._write_response(504, b"Gateway Timeout")
        self.abandon()

    @property
    def awaits_disconnect(self) -> bool:
        """True while `receive` waits and the request is complete: it waits for http.disconnect."""
        return self._receive_waiters is not None and self.is_request_complete

    @property
    def can_keep_reading(self) -> bool:
        """True while the buffered request body is not above BODY_HIGH_WATER_BYTES."""
        return len(self._body) <= BODY_HIGH_WATER_BYTES

    # The handover of event streams.

    def resume(self, parcel: EventStreamParcel) -> None:
        """Continue a response that another worker has begun. Called before `start`.

        The stream is resumed, too (`Http1ResponseStream.resume`).
        """
        self.events = EventStream(parcel.last_event_id, has_events=parcel.has_events, is_begun=True)
        if parcel.has_events:
            self.events.first_event_id = parcel.first_event_id
        self._is_resumed = True
        self._known_ids = (parcel.first_event_id, parcel.last_event_id)
        self._status = 200
        self._started_ns = parcel.started_ns
        self._body_sent = parcel.sent_bytes
        self.request_id = parcel.request_id

    @property
    def sent_bytes(self) -> int:
        """Bytes of the response body that were sent, without framing."""
        return self._body_sent

    @property
    def started_ns(self) -> int:
        """When the request began, by `Clock.now_ns`; for a resumed response, in the other worker."""
        return self._started_ns

    @property
    def is_resumed(self) -> bool:
        """True if another worker has begun the response, until the application has sent http.response.start."""
        return self._is_resumed

    @property
    def is_detached(self) -> bool:
        """True when the application was told that the client has left, although the client is connected."""
        return self._is_detached

    @property
    def has_pending_piece(self) -> bool:
        """True while a file is being sent."""
        return self._stage is ResponseStage.FILE

    def _is_between_events(self) -> bool:
        return self.events is not None and self.events.is_at_boundary

    def detach(self) -> None:
        """Tell the application that the client has left. The stream is handed over or ended (`end_stream`) next."""
        self._is_disconnected = self._is_detached = True
        self._gone_ns = self._clock.now_ns()
        self._uncount()
        self._wake_receivers()

    def end_stream(self) -> None:
        """Complete an event stream that is between two events."""
        now_ns = self._clock.now_ns()
        self._is_resumed = self._is_detached = False
        self.stream.send_data(b"", now_ns, more_body=False)
        self._complete_response(now_ns)
        # The application may still run, and is told that the client has left.
        self._is_disconnected = True
        self._gone_ns = self._gone_ns or now_ns

    def cancel_unless_told(self) -> None:
        """Cancel the application if `receive` has not returned http.disconnect."""
        if not self._is_told:
            self._cancel()

    # `running.run` calls these.

    def call(self) -> Awaitable[None] | None:
        """Call the application; return None, without the call, when there are too many requests."""
        stream = self.stream
        scope: Scope = http_scope(
            self.head,
            self._server,
            self._endpoints,
            can_inform=stream.can_inform,
            can_send_trailers=stream.can_send_trailers,
        )
        if self.head.is_forwarded:
            self._client = scope["client"]
        if self._server.request_ids is not None:
            if self.request_id is None:
                self.request_id = self._server.request_ids.of(self.head.headers)
            scope["extensions"][EXTENSION] = {"id": self.request_id}
        if self._live.admits():
            return self._server.app(scope, self.receive, self.send)
        self._is_refused = True
        return None

    def note_return(self) -> None:
        if self._is_disconnected or self._stage is ResponseStage.COMPLETE:
            return
        if self._is_refused:
            self._write_response(503, b"Service Unavailable", (RETRY_AFTER,))
        else:
            self._end_unanswered()

    def note_error(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # After `abandon` the server has cancelled the application, and the client has its response.
            if not self._is_disconnected:
                self._report_error(error, "was cancelled")
        else:
            own = application_error(error)
            if own is not None:
                self._report_error(own, "failed")

    def note_end(self) -> None:
        self._uncount()
        if self.task is not None:
            self._live.remove_background(self.task)
            self.task = None
        if self._cancellation is not None:
            self._clock.loop.call_soon(let_go, self._cancellation)
            self._cancellation = None

    def _cancel(self) -> None:
        task = self.task
        if task is not None:
            # A task that is cancelled before its first step never runs the `finally` of `run`.
            task.add_done_callback(self._live.remove_background)
            task.cancel()

    async def receive(self) -> Message:
        """Return the next piece of the request body, or http.disconnect.

        http.disconnect is returned when the client has left or the response is complete. Until then a call after
        the end of the body waits.
        """
        while True:
            if self._is_disconnected or self._stage is ResponseStage.COMPLETE:
                self._is_told = True
                if self._must_yield():
                    await asyncio.sleep(0)  # a loop of calls must not block the event loop
                return {"type": "http.disconnect"}
            if self._body:
                body, self._body = self._body, b""
                more_body = not self.is_request_complete
                self._is_end_delivered = not more_body
                if len(body) > BODY_HIGH_WATER_BYTES or more_body:
                    self.stream.resume_body()
                return {"type": "http.request", "body": body, "more_body": more_body}
            if self.is_request_complete and not self._is_end_delivered:
                self._is_end_delivered = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._has_peer_closed:
                self._ask_peer()
                continue
            if self.needs_continue and not self.is_request_complete:
                self.needs_continue = False
                if not self.stream.is_started:
                    self.stream.send_continue()
            if self.is_request_complete:
                self.stream.watch_disconnect()
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        waiter = self._clock.loop.create_future()
        if self._receive_waiters is None:
            self._receive_waiters = [waiter]
        else:
            self._receive_waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._forget_receiver(waiter)
            raise

    def _forget_receiver(self, waiter: "asyncio.Future[None]") -> None:
        # A method of its own: type checkers and compilers assume that an attribute is the same after an await.
        waiters = self._receive_waiters
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                self._receive_waiters = None

    def _ask_peer(self) -> None:
        """Find out whether a client that has closed its sending side is still there."""
        self._has_peer_closed = False
        if not self.stream.is_started or self._stage is ResponseStage.BODY:
            # An event stream has no end that a client could wait for.
            self.stream.probe(is_endless=self.is_event_stream)

    async def send(self, message: Message) -> None:
        """Send a response message.

        Messages to a client that has left are dropped. Raise ClientDisconnectedError when more than DROPPED_NS,
        DROPPED_MESSAGES or DROPPED_BYTES was dropped; but the last message of a response, after which frameworks do
        more work, raises only for DROPPED_MESSAGES. Raise AppProtocolError for a message that is malformed, not
        allowed now, or does not fit the framing. When `send` is cancelled, the message was not sent, unless it is a
        file.
        """
        rest = self._take(message)
        if rest is not None:
            await rest

    def _take(self, message: Message) -> Coroutine[Any, Any, None] | None:
        """Send a message; return a coroutine that `send` has to await, or None.

        It is not a part of `send`, because in compiled code the local variables of a coroutine are attributes of an
        object, which are slower.
        """
        kind = kind_of(message)
        if self._is_disconnected:
            return self._take_in_vain(kind, message)
        stage = self._stage
        if (
            stage is ResponseStage.STARTED or stage is ResponseStage.BODY
        ) and kind == "http.response.body":
            given = value_of(message, "body", b"")
            body: bytes = given if type(given) is bytes else bytes_of(given, kind)
            more_body = bool(value_of(message, "more_body", False))
            stream = self.stream
            is_first = not stream.is_started
            if not is_first:
                if more_body and stream.is_gone():
                    return self._take_in_vain(kind, message)
                if stream.is_write_paused():
                    return self._take_later(message)
            if self._known_ids is not None:
                body = body.removeprefix(BOM)  # it would not be at the beginning of the response
                if self._begins_again(body):
                    self.end_stream()
                    return None
            self._body_sent += len(body)
            now_ns = 0 if more_body and not is_first else self._clock.now_ns()
            if is_first:
                self._start_response(len(body), now_ns, more_body=more_body)
                if more_body:
                    self._begun_ns = now_ns
                stream.send_data(body, now_ns, more_body=more_body)
            else:
                self._send_next(body, now_ns, more_body=more_body)
            if len(body) >= APART_BYTES:
                now_ns = self._clock.now_ns()
            if self.events is not None:
                self.events.feed(body)
            if not more_body:
                self._end_body(now_ns)
            elif is_first and stream.omits_body:
                self._omits_rest = True
                self._complete_response(now_ns)
            else:
                if self.events is not None:
                    stream.event_sent()
                elif is_first:
                    self._look_for_events(body)
                return self._let_others() if self._must_yield() else None
        elif stage is ResponseStage.WAITING and kind == "http.response.start":
            # ASGI: the head is not sent before the first body message, so both are written together.
            self._start = start_of(message)
            self._sends_trailers = bool(value_of(message, "trailers", False))
            if self._is_resumed:
                self._go_on_with_events()
            else:
                self._stage = ResponseStage.STARTED
                if not self._is_beginning:
                    self._flush_head_later()
        elif stage is ResponseStage.COMPLETE and self._omits_rest and kind in _PARTS_OF_BODY:
            if not (
                value_of(message, "more_body", False)
                or value_of(message, "more_trailers", False)
                or (self._sends_trailers and kind != "http.response.trailers")
            ):
                self._omits_rest = False
            return self._take_in_vain(kind, message)
        else:
            return self._send_extension(kind, message)
        return None

    def _flush_head_later(self) -> None:
        """Write the head after a moment (`LateHeads`) unless a body message follows, or Content-Length is set."""
        for pair in self._start[1]:
            if type(pair) is tuple and pair[0] in _LENGTH_NAMES:
                return
        self._clock.late_heads.add(self)

    # `LateHeads` calls this.

    def flush_head(self) -> None:
        """Write the head, if the application has sent nothing after it."""
        if self._stage is not ResponseStage.STARTED or self._is_disconnected:
            return
        now_ns = self._clock.now_ns()
        stream = self.stream
        try:
            self._start_response(0, now_ns, more_body=True)
        except AppProtocolError:
            return  # the next message of the application raises the error
        self._begun_ns = now_ns
        stream.send_data(b"", now_ns, more_body=True)
        if stream.omits_body:
            self._omits_rest = True
            self._complete_response(now_ns)
        else:
            stream.flush()
            self._look_for_events(b"")

    def _look_for_events(self, body: bytes) -> None:
        """Set `events` if the response, whose first piece is `body`, is an event stream that may be ended early.

        Event streams in response to GET may be: they have no end, and clients reconnect (WHATWG HTML section 9.2).
        Event streams in response to POST end by themselves.
        """
        if (
            self.head.method == "GET"
            and not self.body_received
            and self._start[0] == 200
            and self.stream.is_open_ended
            and not self._sends_trailers
            and is_event_stream(self._start[1])
        ):
            self.events = EventStream()
            self.events.feed(body)
            self.stream.event_stream_begun()

    def _go_on_with_events(self) -> None:
        """Take http.response.start for a resumed stream, whose head the client has already."""
        status, headers = self._start
        self.stream.check_head(status, headers)  # a head that cannot be sent is an error here, too
        if status == 200 and not self._sends_trailers and is_event_stream(headers):
            self._is_resumed = False
            self._stage = ResponseStage.BODY
            self.stream.event_stream_begun()
        else:
            # The client gets another kind of response when it reconnects.
            self.end_stream()

    def _begins_again(self, body: bytes) -> bool:
        """Return whether the first event of a resumed stream is complete in `body`, and the client has it already.

        Then the application has ignored Last-Event-ID. The stream is ended, and the client, which has the id, may
        reconnect.
        """
        assert self._known_ids is not None
        beginning = EventStream()
        beginning.feed(body)
        if beginning.first_event_id is None:
            return False
        is_known = beginning.first_event_id != b"" and beginning.first_event_id in self._known_ids
        self._known_ids = None
        return is_known

    def _must_yield(self) -> bool:
        pace = self._pace
        if pace is None:
            pace = self._pace = Pace()
        return pace.must_yield(self._clock.now_ns)

    def _take_in_vain(self, kind: str, message: Message) -> Coroutine[Any, Any, None] | None:
        """Drop a message to a client that has left, or of an omitted body; see DROPPED_MESSAGES."""
        goes_on = value_of(message, "more_body", False) or value_of(message, "more_trailers", False)
        if kind == "http.response.body":
            self._dropped_bytes += len(bytes_of(value_of(message, "body", b""), kind))
        self._dropped_messages += 1
        if self._stage is not ResponseStage.COMPLETE and not self._gone_ns:
            self._gone_ns = self._clock.now_ns()
        if goes_on or self._dropped_messages > DROPPED_MESSAGES:
            return self._drop()
        return self._let_others() if self._must_yield() else None

    async def _drop(self) -> None:
        """Raise ClientDisconnectedError when too much was dropped.

        Frameworks that wait for http.disconnect cancel the task that sends, and then run background tasks. So they
        get http.disconnect first: the server notices the departure within one turn of the loop, and the application
        within another.
        """
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            self._cancellation = error
            raise
        if (
            self._dropped_messages > DROPPED_MESSAGES
            or self._dropped_bytes > DROPPED_BYTES
            or (self._gone_ns and self._clock.now_ns() - self._gone_ns > DROPPED_NS)
        ):
            raise ClientDisconnectedError("the client has left")

    async def _let_others(self) -> None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if self._is_disconnected:
                self._cancellation = error
            raise

    async def _take_later(self, message: Message) -> None:
        """Send a message when the client has read enough. It is not sent if the application is cancelled before."""
        if self._pace is not None:
            self._pace.note_wait()
        try:
            await self.stream.wait_writable()
        except asyncio.CancelledError as error:
            if self._is_disconnected:
                self._cancellation = error
            raise
        await self.send(message)

    async def _send_extension(self, kind: str, message: Message) -> None:
        """Send a message of an ASGI extension. `Server` and `http_scope` decide which extensions are offered."""
        stage = self._stage
        if kind == "http.response.early_hint" and stage is ResponseStage.WAITING:
            self.stream.send_early_hints(pairs_of(message.get("links", ()), "links must be a list"))
        elif kind == "http.response.pathsend" and stage is ResponseStage.STARTED:
            descriptor, size = open_file(message.get("path"))
            try:
                await self._send_file(descriptor, 0, size, more_body=False)
            except ClientDisconnectedError:
                pass  # as for any message that ends a response
            finally:
                os.close(descriptor)
        elif kind == "http.response.zerocopysend" and (
            stage is ResponseStage.STARTED or stage is ResponseStage.BODY
        ):
            self.events = None  # the server does not see what the kernel sends
            descriptor, offset, size, moves = span_of(
                message.get("file"), message.get("offset"), message.get("count")
            )
            more_body = bool(message.get("more_body", False))
            try:
                await self._send_file(descriptor, offset, size, more_body=more_body)
            except ClientDisconnectedError:
                if more_body:
                    raise
                return  # as for any message that ends a response
            if moves:
                os.lseek(descriptor, offset + size, os.SEEK_SET)
        elif kind == "http.response.trailers" and stage is ResponseStage.TRAILERS:
            self._send_trailers(message)
        elif (
            kind == "http.response.debug"
            and stage is ResponseStage.WAITING
            and self._server.settings.debug_extension
        ):
            _logger.debug(
                "Debug information of %s %s: %r",
                self.head.method,
                full_path(self.head, self._server),
                message.get("info"),
            )
        else:
            raise AppProtocolError(f"the message {kind!r} is not allowed {_WHEN[stage]}")
        if self._stage is not ResponseStage.COMPLETE and self._must_yield():
            await self._let_others()

    async def _send_file(self, descriptor: int, offset: int, size: int, *, more_body: bool) -> None:
        stream = self.stream
        now_ns = self._clock.now_ns()
        if not stream.is_started:
            self._start_response(size, now_ns, more_body=more_body, is_file=True)
        if stream.omits_body:
            stream.send_data(b"", now_ns, more_body=more_body)
            if more_body:
                self._omits_rest = True
                self._complete_response(now_ns)
        else:
            self._stage = ResponseStage.FILE
            try:
                await stream.send_file(descriptor, offset, size, more_body=more_body)
            except BaseException:
                self._break_response()  # a part of the announced body is missing
                raise
            self._stage = ResponseStage.BODY
            self._body_sent += size
            if self._is_disconnected:
                raise ClientDisconnectedError("the client has left")
        if not more_body:
            self._end_body(self._clock.now_ns())

    def _send_trailers(self, message: Message) -> None:
        more_trailers = bool(message.get("more_trailers", False))
        if self.stream.sends_trailers:
            headers = pairs_of(message.get("headers", ()))
            self.stream.send_trailers(headers, more_trailers=more_trailers)
        # Otherwise the client does not accept trailers, or the length of the body was announced: they are dropped.
        if not more_trailers:
            self._complete_response(self._clock.now_ns())

    def _start_response(
        self, size: int, now_ns: int, *, more_body: bool, is_file: bool = False
    ) -> None:
        """Begin the response with a piece of `size` bytes, which the caller sends next.

        Raise AppProtocolError, with nothing changed, as `ResponseStream.start` does.
        """
        status, headers = self._start
        self.stream.start(
            status,
            headers,
            size,
            now_ns,
            more_body=more_body,
            trailers=self._sends_trailers,
            request_id=self.request_id,
            is_file=is_file,
        )
        self._stage = ResponseStage.BODY
        self._status = status
        access_log = self._server.access_log
        if access_log is not None and access_log.logs_at_start:
            access_log.response_begun(
                self._client_label(),
                self.head.method,
                full_path(self.head, self._server),
                self.head.http_version,
                status,
                self.request_id,
            )

    def _send_next(self, body: bytes, now_ns: int, *, more_body: bool) -> None:
        try:
            self.stream.send_data(body, now_ns, more_body=more_body)
        except AppProtocolError:
            # Part of the body was sent and the rest does not fit: the client can only be shown a truncated body.
            self._break_response()
            raise

    def _client_label(self) -> str:
        endpoints = self._endpoints
        if self._client is endpoints.client:
            return endpoints.client_label
        return label_of(self._client)

    def _log_end(self, duration_ns: int, *, is_complete: bool) -> None:
        """Write the entry of the access log, if it logs requests of this duration."""
        access_log = self._server.access_log
        if access_log is None or duration_ns < access_log.entry_from_ns:
            return
        try:
            access_log.response_ended(self._entry(duration_ns, is_complete=is_complete))
        except Exception:
            _logger.exception(
                "The access log has no line of %s %s",
                self.head.method,
                full_path(self.head, self._server),
            )

    def _entry(self, duration_ns: int, *, is_complete: bool) -> AccessEntry:
        head = self.head
        return AccessEntry(
            client=self._client,
            method=head.method,
            target=full_path(head, self._server),
            http_version=head.http_version,
            scheme="https" if self._endpoints.is_secure else "http",
            status=self._status,
            request_headers=head.headers,
            response_headers=self._start[1] if self.stream.is_started else (),
            body_bytes=0 if head.method == "HEAD" else self._body_sent,
            duration_ns=duration_ns,
            started_at=time() - duration_ns / 1e9,
            is_complete=is_complete,
            request_id=self.request_id,
            begun_ns=max(self._begun_ns - self._started_ns, 0)
            if self.stream.is_started and self.is_event_stream
            else None,
        )

    def _end_body(self, now_ns: int) -> None:
        if self._sends_trailers:
            self._stage = ResponseStage.TRAILERS
        else:
            self._complete_response(now_ns)

    def _complete_response(self, now_ns: int) -> None:
        self._stage = ResponseStage.COMPLETE
        self._body = b""
        duration_ns = now_ns - self._started_ns
        record = self._live.record
        record.observe_response(self._status, duration_ns)
        self._log_end(duration_ns, is_complete=True)
        self._uncount()
        record.note_time(now_ns)
        self._wake_receivers()
        self.stream.complete()

    def _report_error(self, error: BaseException, what: str) -> None:
        self._live.record.values[_APP_ERRORS_TOTAL] += 1
        _logger.error(
            "Exception in ASGI application: %s %s %s",
            self.head.method,
            full_path(self.head, self._server),
            what,
            exc_info=error,
        )
        self._fail()

    def _end_unanswered(self) -> None:
        """Report that the application has returned without completing its response, and end the response."""
        _logger.error(
            "The application returned without %s its response to %s %s.",
            "starting" if self._stage is ResponseStage.WAITING else "completing",
            self.head.method,
            full_path(self.head, self._server),
        )
        self._fail()

    def _fail(self) -> None:
        """End a response that the application did not complete."""
        if self._stage is ResponseStage.COMPLETE or self._is_disconnected:
            return
        if self._is_resumed or (self._known_ids is not None and self._is_between_events()):
            # The call of the application was to continue a stream, and has sent no event of it.
            self.end_stream()
            return
        if self.is_response_begun:
            self._break_response()
        else:
            self._write_response(500, b"Internal Server Error")

    def _break_response(self) -> None:
        if self._is_disconnected:
            return
        self.disconnect()
        self.stream.abort()

    def _write_response(
        self, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Send a response in place of the application. Only before the response was begun, or for a resumed one,
        which is ended."""
        if self._is_resumed:
            self.end_stream()
            return
        self._start = (status, ((b"content-type", b"text/plain; charset=utf-8"), *headers))
        self._sends_trailers = False
        self._body_sent = len(body)
        now_ns = self._clock.now_ns()
        self._start_response(len(body), now_ns, more_body=False)
        self.stream.send_data(body, now_ns, more_body=False)
        self._complete_response(now_ns)

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._live.record.exchanges -= 1

    def _wake_receivers(self) -> None:
        waiters = self._receive_waiters
        if waiters is not None:
            self._receive_waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
