"""One HTTP request with its response, spoken with the application in ASGI.

The exchange knows the ASGI message order and the bookkeeping of one request; it neither parses nor
owns the socket. The `Carrier` it is given moves bytes and is told when the response is complete. The
framing is HTTP/1's, in one place (`_begin_response`, `_continue_response`).
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Protocol

from asgireload.asgi import Message, Scope
from asgireload.errors import AppProtocolError
from asgireload.http.context import ServingContext, access_logger, error_logger
from asgireload.http.endpoints import Endpoints
from asgireload.http.parser import RequestHead
from asgireload.http.scope import full_path, http_scope
from asgireload.http.writer import ResponseFramer
from asgireload.ipc.scoreboard import Field

BODY_HIGH_WATER_BYTES = 64 * 1024
"""Request body held for an application that does not read, before the socket is no longer read.
The same as asyncio's default for the other direction; one read (at most 256 KiB) comes on top."""

_EXCHANGES = int(Field.EXCHANGES)
_APP_ERRORS_TOTAL = int(Field.APP_ERRORS_TOTAL)


class Carrier(Protocol):
    """What an exchange needs of its connection."""

    context: ServingContext
    endpoints: Endpoints
    is_write_paused: bool

    def write(self, data: bytes) -> None: ...

    async def wait_writable(self) -> None:
        """Return when the client has read enough, or is gone."""
        ...

    def must_close_after(self, exchange: "HttpExchange", *, is_last_piece: bool) -> bool:
        """Decide, while the head is framed, whether the connection ends with this response."""
        ...

    def send_continue(self) -> None: ...

    def resume_body(self) -> None:
        """The application has read what was held; more may come."""
        ...

    def response_completed(self, exchange: "HttpExchange", *, closes: bool) -> None:
        """The last byte was written. The application may still run."""
        ...

    def response_broken(self, exchange: "HttpExchange", *, needs_reset: bool) -> None:
        """The response cannot be completed: make the truncation visible.

        `needs_reset`: an orderly close would look like the end of the body.
        """
        ...


class HttpExchange:
    """Runs the application for one request.

    The connection calls `feed_body`, `complete_request`, `disconnect` and `abandon`; the application
    calls `receive` and `send`.
    """

    __slots__ = (
        "_body",
        "_carrier",
        "_framer",
        "_has_peer_closed",
        "_is_counted",
        "_is_disconnected",
        "_is_end_delivered",
        "_is_told_to_stop",
        "_receive_waiters",
        "_start",
        "_started_ns",
        "_status",
        "body_received",
        "head",
        "is_request_complete",
        "is_response_begun",
        "is_response_complete",
        "needs_continue",
        "task",
    )

    def __init__(self, carrier: Carrier, head: RequestHead) -> None:
        self._carrier = carrier
        self.head = head
        self.task: asyncio.Task[None] | None = None
        self.needs_continue = head.expects_continue
        """The client waits for a 100 before it sends the body (RFC 9110 section 10.1.1)."""
        self.body_received = 0
        self.is_request_complete = False
        self.is_response_begun = False
        """Bytes of the final response were written."""
        self.is_response_complete = False
        self._body = b""
        self._is_disconnected = False
        self._is_end_delivered = False
        self._has_peer_closed = False
        self._is_told_to_stop = False
        """`receive` said http.disconnect although the response may still be sent."""
        self._receive_waiters: list[asyncio.Future[None]] | None = None
        self._start: tuple[int, Iterable[tuple[bytes, bytes]]] | None = None
        self._framer: ResponseFramer | None = None
        self._status = 0
        self._started_ns = time.monotonic_ns()
        self._is_counted = True
        carrier.context.record.values[_EXCHANGES] += 1

    # The connection's side.

    def feed_body(self, data: bytes) -> bool:
        """Take a piece of the request body. Return True when the client should be slowed down."""
        self.body_received += len(data)
        if self.is_response_complete or self._is_disconnected:
            return False
        # Concatenation stays cheap because the size is bounded by the high water and one read.
        self._body = self._body + data if self._body else data
        self._wake_receivers()
        return len(self._body) > BODY_HIGH_WATER_BYTES

    def complete_request(self) -> None:
        self.is_request_complete = True
        self._wake_receivers()

    def note_peer_closed(self) -> None:
        """The client will send no more, and has perhaps left: `receive` says so, `send` goes on.

        From here a client that has left and one that waits with its sending side closed look the same.
        An application that asks is told; one that does not answers both.
        """
        self._has_peer_closed = True
        self._wake_receivers()

    def disconnect(self) -> None:
        """The client is gone or its request is broken: `receive` says so and `send` raises."""
        self._is_disconnected = True
        self._body = b""
        self._uncount()
        self._wake_receivers()

    def abandon(self) -> None:
        """Cancel the application. It may refuse; nobody waits for it here."""
        self.disconnect()
        if self.task is not None:
            self.task.cancel()

    @property
    def can_keep_reading(self) -> bool:
        return len(self._body) <= BODY_HIGH_WATER_BYTES

    # The application's side.

    async def run(self) -> None:
        """Call the application and see to it that the client gets an end, whatever it does."""
        context = self._carrier.context
        scope: Scope = http_scope(self.head, context, self._carrier.endpoints)
        try:
            await self._call_app(scope)
            if not self.is_response_complete and not self._is_disconnected:
                self._end_unanswered()
        except asyncio.CancelledError:
            # After `abandon` it was the server that cancelled, and the client has its answer.
            if not self._is_disconnected:
                self._report_error("was cancelled")
        except OSError as error:
            # `send` raises ConnectionResetError when the client has left; that is no fault of anybody.
            if not (self._is_disconnected and isinstance(error, ConnectionResetError)):
                self._report_error("failed")
        except BaseException:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of a handler too: one request is the price, not the worker
            self._report_error("failed")
        finally:
            self._uncount()
            if self.task is not None:
                context.remove_background(self.task)
                self.task = None

    async def _call_app(self, scope: Scope) -> None:
        context = self._carrier.context
        limit = context.settings.limit_concurrency
        if limit is not None and (
            len(context.connections) > limit or context.record.values[_EXCHANGES] > limit
        ):
            error_logger.warning("Exceeded concurrency limit.")
            self._write_response(503, b"Service Unavailable")
        else:
            await context.app(scope, self.receive, self.send)

    async def receive(self) -> Message:
        """Return the next body piece, or http.disconnect once there is nothing more to come."""
        while True:
            if self._is_disconnected or self.is_response_complete:
                return {"type": "http.disconnect"}
            if self._body:
                body, self._body = self._body, b""
                more_body = not self.is_request_complete
                if more_body:
                    self._carrier.resume_body()
                else:
                    self._is_end_delivered = True
                return {"type": "http.request", "body": body, "more_body": more_body}
            if self.is_request_complete and not self._is_end_delivered:
                self._is_end_delivered = True
                return {"type": "http.request", "body": b"", "more_body": False}
            if self._has_peer_closed:
                self._is_told_to_stop = True
                return {"type": "http.disconnect"}
            if self.needs_continue and not self.is_request_complete:
                self.needs_continue = False
                if not self.is_response_begun:
                    self._carrier.send_continue()
            waiter = self._carrier.context.loop.create_future()
            if self._receive_waiters is None:
                self._receive_waiters = [waiter]
            else:
                self._receive_waiters.append(waiter)
            await waiter

    async def send(self, message: Message) -> None:
        """Take a response message.

        Raise ConnectionResetError when the client has left, AppProtocolError for a message that is
        not allowed now or does not fit the framing.
        """
        if self._is_disconnected:
            raise ConnectionResetError("the client has left")
        kind = message["type"]
        if kind == "http.response.body" and not self.is_response_complete:
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = bytes(body)
            more_body = bool(message.get("more_body", False))
            if self._framer is None:
                data = self._begin_response(body, more_body=more_body)
            else:
                data = self._continue_response(self._framer, body, more_body=more_body)
            if data:
                self._carrier.write(data)
            if not more_body:
                self._complete_response()
            elif self._carrier.is_write_paused:
                await self._carrier.wait_writable()
                if self._is_disconnected:
                    raise ConnectionResetError("the client has left")
        elif kind == "http.response.start" and self._start is None and not self.is_response_begun:
            # ASGI: nothing goes out before the first body message, so head and body leave together.
            self._start = (int(message["status"]), message.get("headers", ()))
        else:
            raise AppProtocolError(f"the message {kind!r} is not allowed {self._describe_state()}")

    def _describe_state(self) -> str:
        if self.is_response_complete:
            return "after the response was completed"
        return "after the response was started" if self._start else "before http.response.start"

    def _begin_response(self, body: bytes, *, more_body: bool) -> bytes:
        if self._start is None:
            raise AppProtocolError("http.response.start must come before http.response.body")
        status, headers = self._start
        carrier = self._carrier
        context = carrier.context
        framer = ResponseFramer()
        data = framer.begin(
            status,
            headers,
            body,
            more_body=more_body,
            is_head_request=self.head.method == "HEAD",
            http_version=self.head.http_version,
            close=carrier.must_close_after(self, is_last_piece=not more_body),
            default_lines=context.default_lines,
            date_line=context.date_line(time.monotonic_ns()),
        )
        self._framer = framer
        self._status = status
        self.is_response_begun = True
        if context.log_access:
            access_logger.info(
                '%s - "%s %s HTTP/%s" %d',
                carrier.endpoints.client_label,
                self.head.method,
                full_path(self.head, context),
                self.head.http_version,
                status,
            )
        return data

    def _continue_response(self, framer: ResponseFramer, body: bytes, *, more_body: bool) -> bytes:
        try:
            return framer.frame(body, more_body=more_body)
        except AppProtocolError:
            # Part of the body is on the wire and the rest does not fit: only the close can say so.
            self._break_response()
            raise

    def _complete_response(self) -> None:
        assert self._framer is not None
        self.is_response_complete = True
        self._body = b""
        duration_ns = time.monotonic_ns() - self._started_ns
        self._carrier.context.record.observe_response(self._status, duration_ns)
        self._uncount()
        self._wake_receivers()
        if self.task is not None:
            # Frameworks run background work behind the response; the drain waits for it. `run` takes
            # the task out again.
            self._carrier.context.background.add(self.task)
        self._carrier.response_completed(self, closes=self._framer.closes)

    def _report_error(self, what: str) -> None:
        context = self._carrier.context
        context.record.values[_APP_ERRORS_TOTAL] += 1
        error_logger.exception(
            "Exception in ASGI application: %s %s %s",
            self.head.method,
            full_path(self.head, context),
            what,
        )
        self._fail()

    def _end_unanswered(self) -> None:
        """The application returned and owes the response, or the rest of it."""
        if self._is_told_to_stop:
            self._break_response()  # it took our word that nobody listens
            return
        error_logger.error(
            "The application returned without %s its response to %s %s.",
            "completing" if self._start or self.is_response_begun else "starting",
            self.head.method,
            full_path(self.head, self._carrier.context),
        )
        self._fail()

    def _fail(self) -> None:
        """End a response that the application did not complete."""
        if self.is_response_complete or self._is_disconnected:
            return
        if self.is_response_begun:
            self._break_response()
        else:
            self._write_response(500, b"Internal Server Error")

    def _break_response(self) -> None:
        needs_reset = self._framer is not None and self._framer.is_delimited_by_close
        self.disconnect()
        self._carrier.response_broken(self, needs_reset=needs_reset)

    def _write_response(self, status: int, body: bytes) -> None:
        """Answer in the application's place. Only before the response was begun."""
        self._start = (status, [(b"content-type", b"text/plain; charset=utf-8")])
        self._carrier.write(self._begin_response(body, more_body=False))
        self._complete_response()

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self._carrier.context.record.values[_EXCHANGES] -= 1

    def _wake_receivers(self) -> None:
        waiters = self._receive_waiters
        if waiters is not None:
            self._receive_waiters = None
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
