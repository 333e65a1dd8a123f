"""A client of server-sent events that hides nothing: each byte of a body, each event, and how the body ended.

    client = await SseClient.open(port)
    await client.ask("/events", last_event_id="7")
    event = await client.next_event()          # None when the body has ended
    assert await client.wait_end() is End.TERMINATED and client.is_at_boundary

It never comes back by itself. It is a protocol of its own, not a StreamReader: there a reset takes away what came
before it and was not read yet.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Self, cast

from benchmarks.reloads import wire
from benchmarks.reloads.event_stream import Body, End, Event, EventParser
from benchmarks.reloads.wire import BrokenAnswer

TIMEOUT = 10.0
"""Seconds that every wait takes at most, unless the caller says otherwise."""

__all__ = ["BrokenAnswer", "End", "Event", "SseClient"]


class SseClient(asyncio.Protocol):
    """One connection, and the response that comes on it; after a complete one it can ask again."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.is_lost = False
        """Whether the connection has ended, by whomever."""
        self.lost_with: Exception | None = None
        self.fault: BrokenAnswer | None = None
        """What was wrong with the bytes: every wait raises it."""
        self._is_closing = False
        self._changed = asyncio.Event()
        self._unparsed = b""
        self._begin("")

    def _begin(self, last_event_id: str) -> None:
        self.head: wire.Head | None = None
        self.fields: dict[str, str] = {}
        """The response's header fields, names in lower case."""
        self.body = bytearray()
        """The content so far, without the framing of HTTP."""
        self.events: list[Event] = []
        self.times: list[float] = []
        """When each event came, by the monotonic clock."""
        self.end: End | None = None
        """How the body ended; None while it goes on. Of a connection that ends without a head it is set as well."""
        self.parser = EventParser(last_event_id)
        self._given = 0
        self._framing: Body | None = None

    @classmethod
    async def open(
        cls, port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> Self:
        """Connect. Raise OSError when that fails."""
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            cls, host, port, ssl=tls, server_hostname="localhost" if tls is not None else None
        )
        return client

    # --- asking -------------------------------------------------------------------------------------

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        last_event_id: str = "",
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        timeout: float = TIMEOUT,
    ) -> wire.Head:
        """Send a request and return the head of its response, which is there with its first bytes.

        Raise TimeoutError, ConnectionError when the connection ends before, BrokenAnswer for what is no response.
        """
        if self._framing is not None and self.end is not End.TERMINATED:
            raise RuntimeError("the response before is not complete")
        unasked = self.rest
        self._begin(last_event_id)
        self._unparsed += unasked
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        if last_event_id:
            lines.append(f"Last-Event-ID: {last_event_id}")
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return await self.wait_head(timeout)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.transport.write(data)

    # --- waiting ------------------------------------------------------------------------------------

    async def wait_head(self, timeout: float = TIMEOUT) -> wire.Head:
        """Return the head when it is there. Errors are those of `ask`."""
        await self._wait(lambda: self.head is not None or self.is_lost, timeout)
        if self.head is None:
            raise ConnectionError(f"no head, {len(self._unparsed)} bytes") from self.lost_with
        return self.head

    async def next_event(self, timeout: float = TIMEOUT) -> Event | None:
        """Return the next event, or None when the body has ended and all events before were returned.

        Raise TimeoutError when neither comes, BrokenAnswer when the framing is wrong.
        """
        await self._wait(lambda: self._given < len(self.events) or self.end is not None, timeout)
        if self._given == len(self.events):
            return None
        self._given += 1
        return self.events[self._given - 1]

    async def wait_events(self, count: int, timeout: float = TIMEOUT) -> list[Event]:
        """Return all events of the body so far when there are so many, or it has ended. Errors as next_event."""
        await self._wait(lambda: len(self.events) >= count or self.end is not None, timeout)
        return list(self.events)

    async def wait_end(self, timeout: float = TIMEOUT) -> End:
        """Return how the body ended. Raise TimeoutError while it goes on, BrokenAnswer for wrong framing."""
        await self._wait(lambda: self.end is not None, timeout)
        assert self.end is not None
        return self.end

    async def wait_lost(self, timeout: float = TIMEOUT) -> None:
        """Wait until the connection has ended. Raise TimeoutError, BrokenAnswer."""
        await self._wait(lambda: self.is_lost, timeout)

    async def _wait(self, is_reached: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            while not is_reached():
                if self.fault is not None:
                    raise self.fault
                self._changed.clear()
                await self._changed.wait()

    # --- what came ----------------------------------------------------------------------------------

    @property
    def is_at_boundary(self) -> bool:
        """Whether the body so far holds whole events only."""
        return self.parser.is_at_boundary

    @property
    def last_event_id(self) -> str:
        """What EventSource would send as Last-Event-ID when it comes back."""
        return self.parser.last_id

    @property
    def rest(self) -> bytes:
        """Bytes that came behind the complete body."""
        return self._framing.rest if self._framing is not None else b""

    # --- the connection -----------------------------------------------------------------------------

    def pause(self) -> None:
        """Read no more, so that the server's writes are held up."""
        self.transport.pause_reading()

    def resume(self) -> None:
        self.transport.resume_reading()

    def close(self) -> None:
        """Leave; the body's end stays what the server made it."""
        self._is_closing = True
        self.transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        if self.fault is None:
            try:
                self._take(data)
            except BrokenAnswer as error:
                self.fault = error
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost, self.lost_with = True, error
        if self.end is None and not self._is_closing:
            self.end = End.EOF if error is None else End.RESET
        self._changed.set()

    def _take(self, data: bytes) -> None:
        if self._framing is None:
            self._unparsed += data
            self._framing = self._take_head()
            if self._framing is None:
                return
            data, self._unparsed = self._unparsed, b""
        content = self._framing.feed(data)
        self.body += content
        events = self.parser.feed(content)
        self.events += events
        self.times += [time.monotonic()] * len(events)
        if self._framing.is_complete:
            self.end = End.TERMINATED

    def _take_head(self) -> Body | None:
        """Take the response's head from what came; None while it is not whole."""
        while True:
            raw, end, behind = self._unparsed.partition(b"\r\n\r\n")
            if not end:
                return None
            self._unparsed = behind
            head = wire.parse_head(raw + end)
            # Interim responses (RFC 9110 section 15.2) come before it.
            if head.status == 101 or not 100 <= head.status < 200:
                break
        for line in raw.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            self.fields[name.lower()] = value.strip()
        self.head = head
        return Body(head)
