"""The event stream that a connection has in hand while its worker drains: how it moves, stays or ends.

When it does is decided by `StreamLeaving`.
"""

import random
import time
from typing import Final, Protocol

from asgireload.http.clock import Clock
from asgireload.http.close_plan import ClosePlan, late_close_at
from asgireload.http.drain_state import DrainState
from asgireload.http.endpoints import Endpoints
from asgireload.http.event_stream import with_last_event_id
from asgireload.http.exchange import HttpExchange
from asgireload.http.server import Server
from asgireload.http1.response_stream import Http1ResponseStream
from asgireload.http1.write_scheduling import ConnectionWriter
from asgireload.ipc.parcels import EventStreamParcel, Parcel

DETACH_SECONDS: Final = 1.0
"""From telling an application that its event stream is over here until it is cancelled, if it does not listen."""
PATIENCE_SECONDS: Final = 5.0
"""How long an event stream waits for its client to take what was sent, and for a worker that follows."""
NO_DEADLINE_SECONDS: Final = 3600.0
"""What a drain without a deadline leaves."""


class StreamConnection(Protocol):
    """What a host asks of the connection; see the methods of these names in `HttpConnection`."""

    server: Server
    clock: Clock
    drain: DrainState
    endpoints: Endpoints
    writer: ConnectionWriter
    unread: bytes

    def may_leave(self) -> bool: ...

    def count_event_streams(self) -> int: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def flush(self) -> None: ...

    def is_flushed(self) -> bool: ...

    def is_gone(self) -> bool: ...

    def plain_socket(self) -> int | None: ...

    def leave(self) -> None: ...

    def stream_stays(self) -> None: ...


class EventStreamHost:
    """The `LeavingStream` of the exchange that a connection has in hand."""

    __slots__ = ("_connection", "_exchange", "_stream")

    def __init__(
        self, connection: StreamConnection, exchange: HttpExchange, stream: Http1ResponseStream
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._stream = stream

    def can_move(self) -> bool:
        connection = self._connection
        exchange = self._exchange
        return (
            connection.server.settings.event_stream_handover
            and exchange.events is not None
            and exchange.events.can_move
            and not connection.writer.is_direct
            # The worker that follows reads the head once more, and would wait for a body.
            and exchange.is_request_complete
            and not exchange.head.chunked
            and not exchange.head.content_length
            and connection.may_leave()
        )

    def is_between_events(self) -> bool:
        events = self._exchange.events
        return events is not None and events.is_at_boundary and not self._exchange.has_pending_piece

    def end_at(self) -> float:
        connection = self._connection
        settings = connection.server.settings
        left = self._seconds_left()
        notice = min(settings.event_stream_notice, left / 2)
        window = min(settings.close_window, (left - notice) / 2)
        now = connection.clock.loop.time() + notice
        jitter = random.random()  # it spreads load; nobody gains by guessing it
        plan = connection.drain.stream_plan
        if plan is None:
            count = connection.count_event_streams()
            plan = connection.drain.stream_plan = ClosePlan(now, count, window)
        if plan.is_full:
            return late_close_at(now, connection.count_event_streams(), window, jitter)
        return plan.next_at(jitter)

    def _seconds_left(self) -> float:
        """Return the time until the deadline of the drain."""
        deadline = self._connection.drain.notice.deadline
        return NO_DEADLINE_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())

    def patience(self) -> float:
        return min(PATIENCE_SECONDS, self._seconds_left() / 2)

    def detach(self) -> None:
        self._connection.pause_reading()
        self._connection.flush()
        self._let_go()

    def _let_go(self) -> None:
        """Tell the application that its stream is over here, and cancel it a moment later if it does not listen."""
        exchange = self._exchange
        exchange.detach()
        self._connection.clock.loop.call_later(
            min(DETACH_SECONDS, self._seconds_left() / 4), exchange.cancel_unless_told
        )

    def is_settled(self) -> bool:
        return self._connection.is_flushed()

    def descriptor(self) -> int:
        connection = self._connection
        descriptor = connection.plain_socket()
        return -1 if descriptor is None or connection.is_gone() else descriptor

    def make_parcel(self) -> Parcel | None:
        if not self.can_move():
            return None
        exchange = self._exchange
        events = exchange.events
        assert events is not None
        return EventStreamParcel(
            self._connection.endpoints.facts(),
            with_last_event_id(exchange.head.to_bytes(), events.last_event_id),
            self._stream.is_chunked,
            self._stream.closes,
            events.last_event_id,
            events.has_events,
            events.first_event_id or b"",
            self._connection.unread,
            exchange.started_ns,
            exchange.sent_bytes,
            exchange.request_id,
        )

    def release_socket(self) -> None:
        self._connection.drain.streams_moved += 1
        self._connection.leave()

    def keep(self) -> None:
        exchange = self._exchange
        self._connection.stream_stays()
        if not exchange.is_detached:
            self._let_go()
        self._connection.resume_reading()
        self._connection.drain.streams_ended += 1
        exchange.end_stream()
