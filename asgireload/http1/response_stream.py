"""A response over HTTP/1.1: framed by `writer.py`, written by its connection.

`Http1ResponseStream` decides which bytes are sent, and which of them belong in one write. The connection decides
when they are written (`write_scheduling.py`), and whether it continues after the response.
"""

from typing import Any

from asgireload.http.clock import Clock
from asgireload.http.live import Live
from asgireload.http.request import RequestHead
from asgireload.http.response_stream import APART_BYTES, ResponseStream
from asgireload.http.server import Server
from asgireload.http1.sendfile import FileCarrier, send_span
from asgireload.http1.wire import Http1Wire
from asgireload.http1.write_scheduling import ConnectionWriter
from asgireload.http1.writer import CONTINUE, ResponseFramer, frame_early_hints, prepare_head
from asgireload.ipc.parcels import EventStreamParcel


class Carrier:
    """The interface of a connection to its response streams.

    It is a base class and not a typing.Protocol, because compiled code finds the attributes and methods of a native
    class without a lookup by name.
    """

    __slots__ = ("clock", "live", "server", "wire", "writer")

    clock: Clock
    live: Live
    server: Server
    wire: Http1Wire
    writer: ConnectionWriter

    def write(self, data: bytes) -> None:
        """Write a piece of a response, at the end of this turn of the loop or sooner."""
        raise NotImplementedError

    def write_large(self, pieces: list[bytes]) -> None:
        """Write a large piece of a response now, given as a list of bytes that follow one another."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write now all bytes that were passed to `write` and `write_end` and have not been written."""
        raise NotImplementedError

    def write_end(self, data: bytes, now_ns: int, *, closes: bool) -> None:
        """Write the last bytes of a response; `response_completed` is called next.

        `closes`: the connection ends with them. `now_ns`: the present time of `Clock.now_ns`.
        """
        raise NotImplementedError

    def send_interim(self, data: bytes) -> None:
        """Write now bytes that are not part of the response: a 100 response, or a probe of the client."""
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Return when the client has read enough, or the connection has ended."""
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Return whether the connection is closing or lost, so that nothing sent from now on can arrive."""
        raise NotImplementedError

    def file_carrier(self) -> FileCarrier:
        """Return the object through which files are sent on this connection."""
        raise NotImplementedError

    def task_name(self) -> str:
        """Return the name of tasks that run applications for this connection."""
        raise NotImplementedError

    def must_close_after(self, head: RequestHead, *, is_last_piece: bool) -> bool:
        """Return whether the connection must end with the response whose head is being framed.

        `head`: the head of the current request. `is_last_piece`: the response is complete with the next write.
        """
        raise NotImplementedError

    def watch_disconnect(self) -> None:
        """Watch for the departure of the client: the application waits for http.disconnect."""
        raise NotImplementedError

    def drop_departed(self) -> None:
        """Abort the connection: the client is taken to have left."""
        raise NotImplementedError

    def event_stream_begun(self, stream: "Http1ResponseStream") -> None:
        """Note that the response is a stream of server-sent events without a known end."""
        raise NotImplementedError

    def event_sent(self, stream: "Http1ResponseStream") -> None:
        """Note that a piece of the event stream was written, or will be at the end of this turn of the loop."""
        raise NotImplementedError

    def resume_body(self) -> None:
        """Read more of the request body: the application has taken the part that was buffered."""
        raise NotImplementedError

    def response_completed(self, *, closes: bool) -> None:
        """Note that the last byte of the current response was written. The application may still run.

        `closes`: the connection ends with the response.
        """
        raise NotImplementedError

    def response_broken(self, *, needs_reset: bool) -> None:
        """End the connection so that the client sees that the current response is truncated.

        `needs_reset`: an orderly close would look like the end of the body.
        """
        raise NotImplementedError


class Http1ResponseStream(ResponseStream):
    """The response to one request of a connection."""

    __slots__ = ("_awaits_trailers", "_connection", "_data", "_framer", "_head")

    def __init__(self, connection: Carrier, head: RequestHead) -> None:
        is_1_1 = head.http_version == "1.1"
        super().__init__(can_inform=is_1_1, can_send_trailers=is_1_1 and head.takes_trailers)
        self._connection = connection
        self._head = head
        self._framer: ResponseFramer | None = None
        self._data = b""
        """The framed head, until it is written together with the first piece of the body."""
        self._awaits_trailers = False
        """The application ends its response with trailers, whether they are sent or dropped."""

    def resume(self, parcel: EventStreamParcel) -> None:
        """Continue a response that another worker has begun. Called in place of `start`."""
        framer = self._framer = ResponseFramer()
        framer.resume(is_chunked=parcel.is_chunked, closes=parcel.closes)
        self.is_started = self.is_open_ended = True

    @property
    def is_chunked(self) -> bool:
        return self._framer is not None and self._framer.is_chunked

    @property
    def is_delimited_by_close(self) -> bool:
        """Whether only the close of the connection marks the end of the body."""
        return self._framer is not None and self._framer.is_delimited_by_close

    @property
    def closes(self) -> bool:
        """Whether the connection ends with the response, as the head announced."""
        return self._framer is not None and self._framer.closes

    def start(
        self,
        status: int,
        headers: tuple[Any, ...],
        size: int,
        now_ns: int,
        *,
        more_body: bool,
        trailers: bool,
        request_id: str | None,
        is_file: bool = False,
    ) -> None:
        connection = self._connection
        head = self._head
        is_head_request = head.method == "HEAD"
        framer = ResponseFramer()
        data = framer.begin_head(
            connection.wire.prepared_heads.prepare(status, headers)
            if request_id is None
            else prepare_head(status, headers, self._default_lines(request_id)),
            size,
            more_body=more_body,
            is_head_request=is_head_request,
            http_version=head.http_version,
            # While a file is sent, the rest of a request body may arrive.
            close=connection.must_close_after(
                head, is_last_piece=is_head_request or not (more_body or is_file)
            ),
            date_line=connection.clock.date_line(now_ns),
            body_length=size if is_file and not more_body else None,
            sends_trailers=trailers and head.takes_trailers,
        )
        framer.check(size, more_body=more_body)
        self._framer = framer
        self._data = data
        self._awaits_trailers = trailers
        self.is_started = True
        self.omits_body = framer.omits_body
        self.is_open_ended = framer.is_chunked or framer.is_delimited_by_close
        self.sends_trailers = framer.sends_trailers

    def check_head(self, status: int, headers: tuple[Any, ...]) -> None:
        self._connection.wire.prepared_heads.prepare(status, headers)

    def _default_lines(self, request_id: str) -> tuple[tuple[bytes, bytes], ...]:
        connection = self._connection
        request_ids = connection.server.request_ids
        if request_ids is None:
            return connection.wire.default_lines
        return (*connection.wire.default_lines, request_ids.default_line(request_id))

    def send_data(self, body: bytes, now_ns: int, *, more_body: bool) -> None:
        framer = self._framer
        assert framer is not None
        if len(body) >= APART_BYTES and not framer.omits_body:
            self._send_apart(framer, body, more_body=more_body)
            return
        data = framer.frame(body, more_body=more_body)
        if self._data:
            data = self._data + data
            self._data = b""
        if data:
            if (more_body or self._awaits_trailers) and not framer.omits_body:
                self._connection.write(data)
            else:
                self._connection.write_end(data, now_ns, closes=framer.closes)

    def _send_apart(self, framer: ResponseFramer, body: bytes, *, more_body: bool) -> None:
        """Write a large piece without copying it into one string with its head."""
        around = framer.frame_span(len(body), more_body=more_body)
        assert around is not None
        before, behind = around
        before = self._data + before
        self._data = b""
        pieces = [before, body] if before else [body]
        if behind:
            pieces.append(behind)
        self._connection.write_large(pieces)

    async def send_file(self, descriptor: int, offset: int, size: int, *, more_body: bool) -> None:
        framer = self._framer
        assert framer is not None
        connection = self._connection
        around = framer.frame_span(size, more_body=more_body)
        assert around is not None
        before, behind = around
        before = self._data + before
        self._data = b""
        if before:
            connection.write(before)
        await send_span(connection.file_carrier(), descriptor, offset, size)
        if behind and not connection.is_gone():
            connection.write(behind)

    def send_trailers(self, headers: tuple[Any, ...], *, more_trailers: bool) -> None:
        framer = self._framer
        assert framer is not None
        self._connection.write(framer.frame_trailers(headers, more_trailers=more_trailers))

    def flush(self) -> None:
        self._connection.flush()

    def complete(self) -> None:
        self._connection.response_completed(closes=self.closes)

    def abort(self) -> None:
        self._connection.response_broken(needs_reset=self.is_delimited_by_close)

    def send_continue(self) -> None:
        self._connection.send_interim(CONTINUE)

    def send_early_hints(self, links: tuple[Any, ...]) -> None:
        hints = frame_early_hints(links)
        if self.can_inform and not self.is_started:
            self._connection.write(hints)
            self._connection.flush()  # the hints must arrive while the application computes the response

    def probe(self, *, is_endless: bool) -> None:
        """Send bytes that the client ignores; the kernel of a client that has left answers them with a reset.

        Before the response, the bytes are a 100 response, which a client must accept at any time (RFC 9110 section
        15.2). Between two chunks, they are a leading zero of the size of the next chunk (RFC 9112 section 7.1). A
        body that is delimited by the close has no such bytes: if it `is_endless`, the connection is dropped.
        """
        framer = self._framer
        if framer is None:
            if self.can_inform:
                self._connection.send_interim(CONTINUE)
        elif framer.is_chunked:
            self._connection.send_interim(b"0")
        elif framer.is_delimited_by_close and is_endless:
            self._connection.drop_departed()

    def is_write_paused(self) -> bool:
        return self._connection.writer.is_paused

    async def wait_writable(self) -> None:
        await self._connection.wait_writable()

    def is_gone(self) -> bool:
        return self._connection.is_gone()

    def watch_disconnect(self) -> None:
        self._connection.watch_disconnect()

    def resume_body(self) -> None:
        self._connection.resume_body()

    def task_name(self) -> str:
        return self._connection.task_name()

    def event_stream_begun(self) -> None:
        self._connection.event_stream_begun(self)

    def event_sent(self) -> None:
        self._connection.event_sent(self)
