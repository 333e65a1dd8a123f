"""Server-sent events as bytes: the body of a response, its events, and how it ended. Pure.

`Body` takes the framing of HTTP/1.1 away, `EventParser` reads events by the rules that EventSource follows
(https://html.spec.whatwg.org/multipage/server-sent-events.html). Whoever reads the socket says how the connection
ended. The tests of the server use this too (`tests/process/sse.py`).
"""

import re
from dataclasses import dataclass
from enum import Enum

from . import wire
from .wire import BrokenAnswer

MAX_LINE = 4096
"""Bytes of a line of the chunked framing; the servers here send less than twenty."""
BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\r|\n")


class End(Enum):
    """How the body of a response ended."""

    TERMINATED = "terminated"
    """It is complete: the last chunk came, or all bytes that Content-Length announced."""
    EOF = "eof"
    """The connection was closed before. Of a body without length that is the only end, whole or not."""
    RESET = "reset"
    """The connection was reset, or failed in another way."""


class Body:
    """The body of one response. It is fed what comes behind the head."""

    def __init__(self, head: wire.Head) -> None:
        has_no_body = head.status in (204, 304)
        self.is_chunked = head.is_chunked and not has_no_body
        self.is_complete = has_no_body or (head.length == 0 and not head.is_chunked)
        self.rest = b""
        """What came behind the complete body: the beginning of the next response."""
        # Bytes until the chunk, or the body of known length, is over; None: until the connection ends.
        self._left = 0 if self.is_chunked else head.length
        self._buffer = bytearray()
        self._is_at_data_end = False
        self._is_in_trailer = False

    def feed(self, data: bytes) -> bytes:
        """Return the content in the next bytes. Raise BrokenAnswer when the framing is wrong."""
        if self.is_complete:
            self.rest += data
            return b""
        if self.is_chunked:
            return self._feed_chunked(data)
        if self._left is None:
            return data
        content, self.rest = data[: self._left], data[self._left :]
        self._left -= len(content)
        self.is_complete = self._left == 0
        return content

    def _feed_chunked(self, data: bytes) -> bytes:
        buffer, content = self._buffer, bytearray()
        buffer += data
        while buffer and not self.is_complete:
            if self._left:
                content += buffer[: self._left]
                taken = min(self._left, len(buffer))
                del buffer[:taken]
                self._left -= taken
                self._is_at_data_end = self._left == 0
            elif (line := self._line()) is None:
                break
            elif self._is_at_data_end:
                if line:
                    raise BrokenAnswer(f"{line[:20]!r} behind a chunk")
                self._is_at_data_end = False
            elif self._is_in_trailer:
                self.is_complete = not line
            else:
                self._left = wire.chunk_size(line)
                self._is_in_trailer = self._left == 0
        if self.is_complete:
            self.rest = bytes(buffer)
            buffer.clear()
        return bytes(content)

    def _line(self) -> bytes | None:
        """Take the next line without its end; None while it is not whole."""
        end = self._buffer.find(b"\r\n", 0, MAX_LINE)
        if end < 0:
            if len(self._buffer) >= MAX_LINE:
                raise BrokenAnswer(f"a line of more than {MAX_LINE} bytes in the framing of a body")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line


@dataclass(frozen=True, slots=True)
class Event:
    """An event as EventSource gives it to a page."""

    data: str
    id: str = ""
    """The last id so far: events without one have the id of the event before."""
    type: str = "message"


class EventParser:
    """Reads events out of a body that may be split anywhere."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """What EventSource sends as Last-Event-ID when it comes back."""
        self.retry_ms: int | None = None
        self.comments = 0
        self._line = b""
        self._is_after_cr = False
        self._is_first_line = True
        self._has_fields = False
        self._data: list[str] = []
        self._type = ""
        self._id = last_id

    @property
    def is_at_boundary(self) -> bool:
        """Whether an end here takes nothing away: no line is half there, and no event waits for its empty line."""
        return not self._line and not self._has_fields

    def feed(self, content: bytes) -> list[Event]:
        """Return the events that the next bytes complete."""
        if self._is_after_cr and content:
            content = content.removeprefix(b"\n")
            self._is_after_cr = False
        if not content:
            return []
        self._is_after_cr = content.endswith(b"\r")
        *lines, self._line = _LINE_END.split(self._line + content)
        events = []
        for line in lines:
            event = self._take(line)
            if event is not None:
                events.append(event)
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(BOM)
        if not line:
            return self._dispatched()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments += 1
        elif name == "retry":
            if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
        elif name in ("data", "id", "event"):
            self._has_fields = True
            if name == "data":
                self._data.append(value)
            elif name == "event":
                self._type = value
            elif "\0" not in value:
                self._id = value
        return None

    def _dispatched(self) -> Event | None:
        self.last_id = self._id
        data, kind = self._data, self._type
        self._data, self._type, self._has_fields = [], "", False
        return Event("\n".join(data), self.last_id, kind or "message") if data else None
