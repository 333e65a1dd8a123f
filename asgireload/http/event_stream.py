"""Where a stream of server-sent events stands: between two events or within one, and behind which id. Pure.

Source: WHATWG HTML section 9.2.6, "Interpreting an event stream". Only what a server needs to end the stream
between two events, or to go on with it elsewhere as the client would after a reconnect.
"""

import re
from collections.abc import Iterable
from typing import Any, Final

MOST_ID_BYTES: Final = 4096
"""Of a line with an id. It goes into a request header, and servers bound those."""

HEADER: Final = b"last-event-id"
_UNFIT_FOR_HEADER: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
BOM: Final = "\ufeff".encode()
_NAME_BYTES: Final = 16


class EventStream:
    """Feed it every piece of the body. Pieces need not end where events do."""

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
        """`last_event_id`: what the client has from another response; empty: nothing."""
        self.last_event_id = last_event_id
        """Of the last event that is complete, UTF-8. Empty: the client would reconnect without one."""
        self.has_events = has_events
        """At least one event with data is complete or has begun."""
        self.first_event_id: bytes | None = None
        """Of the first event that is complete: empty if it has none; None before."""
        self._id = last_event_id
        self._has_id = False
        """The event that has begun has a line with an id."""
        self._is_in_event = False
        """Lines of an event have come, and not the empty one that ends it."""
        self._is_after_cr = False
        """A line feed that comes next belongs to the line end before it."""
        self._partial = b""
        """A line that has begun; of one that is no id only its beginning."""
        self._is_first_line = not is_begun

    @property
    def is_at_boundary(self) -> bool:
        """Whether the stream can end, or go on elsewhere, behind what was fed."""
        return not self._is_in_event and not self._partial

    @property
    def can_move(self) -> bool:
        """Whether another call of the application can go on without a loss: it learns behind which event, or there
        was none."""
        if self.last_event_id:
            return _UNFIT_FOR_HEADER.search(self.last_event_id) is None
        return not self.has_events

    def feed(self, data: bytes) -> None:
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
                # Of other lines than an id only the name is needed later.
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
    """Whether a response with these headers is one that can be read: not compressed, and of no announced length."""
    is_one = False
    for pair in headers:
        name = bytes(pair[0]).lower()
        if name == b"content-type":
            is_one = bytes(pair[1]).lstrip()[:17].lower() == b"text/event-stream"
        elif name == b"content-encoding" or name == b"content-length":
            return False
    return is_one


def with_last_event_id(head: bytes, last_event_id: bytes) -> bytes:
    """Return a request head, as `RequestHead.to_bytes` gives it, that asks for what comes behind this event.

    Empty: as it is, or was asked for before.
    """
    if not last_event_id:
        return head
    lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(HEADER + b":")]
    return b"\r\n".join([*kept, HEADER + b": " + last_event_id]) + b"\r\n\r\n"
