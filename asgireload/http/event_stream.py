"""Follows a stream of server-sent events: whether it is between two events, and the id of the last one. Pure.

Source: WHATWG HTML section 9.2.6, "Interpreting an event stream". Only those parts are implemented that a server
needs to end a stream between two events, or to continue it in another worker as after a reconnect of the client.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

MOST_ID_BYTES: Final = 4096
"""Bytes of a line with an id. A longer id counts as empty: it would be sent in a header, whose size is limited."""

HEADER: Final = b"last-event-id"
_UNFIT_FOR_HEADER: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
BOM: Final = "\ufeff".encode()
_NAME_BYTES: Final = 16


class EventStream:
    """The position in one event stream. Pass every piece of the body to `feed`; pieces may end within events."""

    __slots__ = (
        "_has_id",
        "_id",
        "_is_after_cr",
        "_is_first_line",
        "_is_in_event",
        "_partial",
        "first_event_id",
        "has_events",
        "last_event_id",
    )

    def __init__(
        self, last_event_id: bytes = b"", *, has_events: bool = False, is_begun: bool = False
    ) -> None:
        """`last_event_id`, `has_events`: the state of a stream that another worker has begun. `is_begun`: the first
        line was sent, so that no byte order mark follows."""
        self.last_event_id = last_event_id
        """The id of the last complete event, in UTF-8; empty if the client would reconnect without an id."""
        self.has_events = has_events
        """At least one event with data is complete or has begun."""
        self.first_event_id: bytes | None = None
        """The id of the first complete event, empty if the event has no id; None before that event."""
        self._id = last_event_id
        """The id that the present event will have when it is complete."""
        self._has_id = False
        """The present event has a line with an id."""
        self._is_in_event = False
        """Lines of an event were received, but not the empty line that ends it."""
        self._is_after_cr = False
        """The last byte was CR. A line feed that follows belongs to the same line end."""
        self._partial = b""
        """A line without its end yet; only the beginning of it if the line is not an id."""
        self._is_first_line = not is_begun

    @property
    def is_at_boundary(self) -> bool:
        """Whether the bytes so far end between two events, so that the stream can be ended or moved."""
        return not self._is_in_event and not self._partial

    @property
    def can_move(self) -> bool:
        """Whether another call of the application can continue without a loss of events: there is an id that can be
        sent in Last-Event-ID, or there was no event."""
        if self.last_event_id:
            return _UNFIT_FOR_HEADER.search(self.last_event_id) is None
        return not self.has_events

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body, decoded from its framing."""
        if not data:
            return
        if self._is_after_cr and data[:1] == b"\n":
            data = data[1:]
        lines = data.splitlines(keepends=True)
        self._is_after_cr = data[-1:] == b"\r" if data else False
        for line in lines:
            if self._partial:
                line = self._partial + line
                self._partial = b""
            if line[-1:] == b"\n" or line[-1:] == b"\r":
                self._take(line.rstrip(b"\r\n"))
            else:
                # Only the name is needed of lines that are not ids.
                kept = MOST_ID_BYTES + 1 if line.removeprefix(BOM)[:3] == b"id:" else _NAME_BYTES
                self._partial = line[:kept]

    def _take(self, line: bytes) -> None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(BOM)
        if not line:
            if self._is_in_event:
                self.last_event_id = self._id
                if self.first_event_id is None and (self.has_events or self._has_id):
                    self.first_event_id = self._id if self._has_id else b""
                self._is_in_event = self._has_id = False
            return
        name, _, value = line.partition(b":")
        if name == b"data" or name == b"event" or name == b"id":
            self._is_in_event = True
            if name == b"data":
                self.has_events = True
            elif name == b"id":
                if value[:1] == b" ":
                    value = value[1:]
                if len(line) > MOST_ID_BYTES:
                    self._id = b""
                elif b"\0" not in value:
                    self._id = value
                    self._has_id = True


def is_event_stream(headers: Iterable[Any]) -> bool:
    """Return whether these are the headers of an event stream that `EventStream` can follow: text/event-stream, not
    compressed, and without Content-Length."""
    is_one = False
    for pair in headers:
        name = bytes(pair[0]).lower()
        if name == b"content-type":
            is_one = bytes(pair[1]).lstrip()[:17].lower() == b"text/event-stream"
        elif name == b"content-encoding" or name == b"content-length":
            return False
    return is_one


def with_last_event_id(head: bytes, last_event_id: bytes) -> bytes:
    """Return `head`, encoded by `RequestHead.to_bytes`, with this Last-Event-ID header.

    If `last_event_id` is empty, return `head` unchanged, with the Last-Event-ID that the client has sent, if any.
    """
    if not last_event_id:
        return head
    lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(HEADER + b":")]
    return b"\r\n".join([*kept, HEADER + b": " + last_event_id]) + b"\r\n\r\n"
