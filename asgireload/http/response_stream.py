"""The interface through which an exchange sends its response, the same for every version of HTTP.

    start ──▶ send_data, send_file … ──▶ send_trailers … ──▶ complete
    send_continue, send_early_hints, probe: before or between them; abort: at any time before `complete`

A stream turns a response into bytes and passes them to its connection. The exchange (`exchange.py`) keeps the order
of messages, checks what an application may send, logs and counts. Attributes of the stream say what the protocol
can carry (`can_inform`, `can_send_trailers`, `is_open_ended`); no code concludes it from the HTTP version.
"""

from typing import Any, Final

APART_BYTES: Final = 64 * 1024
"""A piece of a response body of at least so many bytes is written at once, and not joined with others."""


class ResponseStream:
    """The response to one request. The connection that has read the request makes the stream.

    It is a base class and not a typing.Protocol, because compiled code finds the attributes and methods of a native
    class without a lookup by name. Every method that is not a coroutine returns at once.
    """

    __slots__ = (
        "can_inform",
        "can_send_trailers",
        "is_open_ended",
        "is_started",
        "omits_body",
        "sends_trailers",
    )

    def __init__(self, *, can_inform: bool, can_send_trailers: bool) -> None:
        self.can_inform = can_inform
        """Interim responses (RFC 9110 section 15.2) can be sent to the client."""
        self.can_send_trailers = can_send_trailers
        """The client accepts trailers. They are sent only after a body of no announced length."""
        self.is_started = False
        """`start` was called: the final status can no longer change."""
        self.omits_body = False
        """The response has no body: it answers HEAD, or has a status without a body. Known from `start` on."""
        self.is_open_ended = False
        """The length of the body is not announced. Known from `start` on."""
        self.sends_trailers = False
        """Trailers are sent after the body; otherwise the application's are dropped. Known from `start` on."""

    # The response.

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
        """Begin the response. The head is written together with the first piece of the body.

        The caller passes that piece next, to `send_file` if `is_file`, else to `send_data`. `size` is its size in
        bytes; `more_body`: more pieces follow. `now_ns`: the present time of `Clock.now_ns`. `trailers`: the
        application sends trailers. `request_id` is sent in the header that is configured for it. Raise
        AppProtocolError, with nothing changed, for headers that cannot be sent, and for a piece that does not fit
        the announced length.
        """
        raise NotImplementedError

    def check_head(self, status: int, headers: tuple[Any, ...]) -> None:
        """Raise AppProtocolError for a head that `start` would refuse. Nothing is sent."""
        raise NotImplementedError

    def send_data(self, body: bytes, now_ns: int, *, more_body: bool) -> None:
        """Send the next piece of the body; the last one if not `more_body`.

        `now_ns`: the present time of `Clock.now_ns`. Raise AppProtocolError, with nothing of the piece sent, when
        the body becomes longer or shorter than announced.
        """
        raise NotImplementedError

    async def send_file(self, descriptor: int, offset: int, size: int, *, more_body: bool) -> None:
        """Send `size` bytes of a file, from `offset` on, as the next piece of the body. Not for an omitted body.

        Return when the bytes are sent. The caller closes `descriptor`. Raise AppProtocolError as `send_data` does,
        ClientDisconnectedError when the client has left, EOFError when the file has become shorter. After an error
        only `abort` may be called.
        """
        raise NotImplementedError

    def send_trailers(self, headers: tuple[Any, ...], *, more_trailers: bool) -> None:
        """Send trailers; only if `sends_trailers`. The response ends with them if not `more_trailers`.

        Raise AppProtocolError for a field that is not allowed in a trailer (RFC 9110 section 6.5.1).
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Write now the bytes that were deferred to the end of this turn of the loop."""
        raise NotImplementedError

    def complete(self) -> None:
        """Note that all of the response was passed to the stream. The application may still run."""
        raise NotImplementedError

    def abort(self) -> None:
        """End a response that cannot be completed, so that the client sees that it is truncated."""
        raise NotImplementedError

    # Interim responses and probes, which are not part of the response.

    def send_continue(self) -> None:
        """Tell the client that its request body is wanted (RFC 9110 section 15.2.1)."""
        raise NotImplementedError

    def send_early_hints(self, links: tuple[Any, ...]) -> None:
        """Send a 103 response with these Link headers (RFC 8297) if `can_inform` and before `start`.

        Raise AppProtocolError for a value that cannot be sent as a header, also when no response is sent.
        """
        raise NotImplementedError

    def probe(self, *, is_endless: bool) -> None:
        """Find out whether the client is still there, by sending bytes that it ignores.

        May be called before `start` and between two pieces of the body. `is_endless`: the body has no end that a
        client could wait for. If no bytes can be sent within such a body, the client is taken to have left.
        """
        raise NotImplementedError

    # Backpressure and disconnects.

    def is_write_paused(self) -> bool:
        """Return whether the client has to read before more may be sent; see `wait_writable`."""
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Return when the client has read enough, or the connection has ended."""
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Return whether the connection is closing or lost, so that nothing sent from now on can arrive."""
        raise NotImplementedError

    def watch_disconnect(self) -> None:
        """Watch for the departure of the client: the application waits for http.disconnect."""
        raise NotImplementedError

    # The request and the connection.

    def resume_body(self) -> None:
        """Receive more of the request body: the application has taken the part that was buffered."""
        raise NotImplementedError

    def task_name(self) -> str:
        """Return the name of tasks that run applications for this connection."""
        raise NotImplementedError

    def event_stream_begun(self) -> None:
        """Note that the response is a stream of server-sent events without a known end."""

    def event_sent(self) -> None:
        """Note that a piece of the event stream was passed to `send_data`."""
