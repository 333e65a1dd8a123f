"""What an exchange sends its response to: the one interface of every version of HTTP.

    start ──▶ send_data, send_file … ──▶ send_trailers … ──▶ complete
    send_continue, send_early_hints, probe: before or between them; abort: at any time before `complete`

A stream turns a response into bytes and hands them to its connection. The order of messages, what an application
may send, and what is logged and counted is the exchange's (`exchange.py`). What a wire can carry is asked of the
stream and never concluded from a version: `can_inform`, `can_send_trailers`, `is_open_ended`.
"""

from typing import Any, Final

APART_BYTES: Final = 64 * 1024
"""From so many bytes on, a piece of a response body is written by itself, at once."""


class ResponseStream:
    """The response to one request. The connection that the request came over makes it.

    A class and no protocol: compiled, its attributes and methods are then found without a lookup. Every method that
    is not a coroutine returns at once.
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
        """Interim responses (RFC 9110 section 15.2) reach the client."""
        self.can_send_trailers = can_send_trailers
        """The client takes trailers, unless the length of the body is announced."""
        self.is_started = False
        """`start` has taken a final status: there can be no other one."""
        self.omits_body = False
        """The head is the whole response: to HEAD, or with a status that has no body. Known from `start` on."""
        self.is_open_ended = False
        """The length of the body is not announced. Known from `start` on."""
        self.sends_trailers = False
        """Trailers are sent behind this body; otherwise the application's are dropped. Known from `start` on."""

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
        """Take the head, which is written together with the piece that follows at once.

        The piece has `size` bytes, for `send_file` if `is_file`, else for `send_data`; more follow if `more_body`.
        `now_ns`: what the clock of the connection says. `trailers`: the application sends some. `request_id`: is
        told to the client in the header that is configured for it. Raise AppProtocolError, with nothing taken, for
        headers that cannot be sent, and for a piece that does not fit the announced length.
        """
        raise NotImplementedError

    def check_head(self, status: int, headers: tuple[Any, ...]) -> None:
        """Raise AppProtocolError where `start` would, for the head alone. Nothing is taken."""
        raise NotImplementedError

    def send_data(self, body: bytes, now_ns: int, *, more_body: bool) -> None:
        """Send the next piece of the body, or its end.

        Raise AppProtocolError, with nothing sent of it, when the body becomes longer or shorter than announced.
        """
        raise NotImplementedError

    async def send_file(self, descriptor: int, offset: int, size: int, *, more_body: bool) -> None:
        """Send `size` bytes of a file as the next piece of the body, where that is not omitted.

        Return when they are sent. Raise AppProtocolError as `send_data` does, ClientDisconnectedError when the
        client is gone, EOFError when the file has become shorter: then only `abort` may follow.
        """
        raise NotImplementedError

    def send_trailers(self, headers: tuple[Any, ...], *, more_trailers: bool) -> None:
        """Send trailers, where `sends_trailers`. Raise AppProtocolError for a field that is not allowed there."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write now what may have been put off to the end of this turn of the loop."""
        raise NotImplementedError

    def complete(self) -> None:
        """The response is complete with what was sent. The application may still run."""
        raise NotImplementedError

    def abort(self) -> None:
        """The response cannot be completed: the client is to see that it is cut short."""
        raise NotImplementedError

    # What is no part of the response.

    def send_continue(self) -> None:
        """Tell the client that its request body is wanted (RFC 9110 section 15.2.1)."""
        raise NotImplementedError

    def send_early_hints(self, links: tuple[Any, ...]) -> None:
        """Send a 103 response with these Link headers (RFC 8297) if `can_inform`, before `start`.

        Raise AppProtocolError for what cannot be sent as a header, whether it is sent or not.
        """
        raise NotImplementedError

    def probe(self, *, is_endless: bool) -> None:
        """Have the client's side of the connection show whether the client is still there.

        What is sent for it, the client ignores. Only before `start` and between two pieces. `is_endless`: nobody
        waits for the end of this body; where nothing can be said in it, the client is taken to have left.
        """
        raise NotImplementedError

    # Backpressure, and the client that leaves.

    def is_write_paused(self) -> bool:
        """Whether the client has to read before more may be sent; see `wait_writable`."""
        raise NotImplementedError

    async def wait_writable(self) -> None:
        """Return when the client has read enough, or is gone."""
        raise NotImplementedError

    def is_gone(self) -> bool:
        """Whether nothing that is sent from now on can arrive."""
        raise NotImplementedError

    def watch_disconnect(self) -> None:
        """The application waits to be told that the client has left: see to it that it will be."""
        raise NotImplementedError

    # The request, and the connection around it.

    def resume_body(self) -> None:
        """The application has read what was held of the request body; more may come."""
        raise NotImplementedError

    def task_name(self) -> str:
        """Return what tasks that run applications for this connection are called."""
        raise NotImplementedError

    def event_stream_begun(self) -> None:
        """The response is a stream of server-sent events without a known end."""

    def event_sent(self) -> None:
        """A piece of the event stream was written, or put off."""
