"""A wire that there is not: an exchange over it shows what it asks of any version of HTTP."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from asgireload.asgi import ASGIApp
from asgireload.errors import AppProtocolError, ClientDisconnectedError
from asgireload.http.clock import Clock
from asgireload.http.endpoints import Endpoints
from asgireload.http.exchange import HttpExchange
from asgireload.http.request import Headers, RequestHead, RequestLine
from asgireload.http.response_stream import ResponseStream
from asgireload.http.server import Server
from asgireload.http.settings import HttpSettings
from asgireload.ipc.scoreboard import Field
from tests.http.test_proxies import Transport


class RecordingStream(ResponseStream):
    """Keeps what it is asked to send, in words. Every part of it can be slow, or absent."""

    def __init__(self, *, can_inform: bool = True, can_send_trailers: bool = False) -> None:
        super().__init__(can_inform=can_inform, can_send_trailers=can_send_trailers)
        self.sent: list[Any] = []
        self.is_head_request = False
        self.is_paused = False
        self.has_left = False
        self.writable = asyncio.Event()
        self.file_may_go_on = asyncio.Event()
        self.file_may_go_on.set()
        self._remaining: int | None = None
        self._head: list[Any] = []

    @property
    def kinds(self) -> list[str]:
        return [each[0] for each in self.sent]

    @property
    def body(self) -> bytes:
        return b"".join([each[1] for each in self.sent if each[0] in ("data", "file")])

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
        assert not self.is_started
        self.check_head(status, headers)
        lengths = [int(value) for name, value in headers if name == b"content-length"]
        self.omits_body = self.is_head_request or status in (204, 304)
        remaining = lengths[0] if lengths else None
        if remaining is not None and not self.omits_body:
            self._left_of(remaining, size, more_body=more_body)
        self._remaining = remaining
        self.is_started = True
        self.is_open_ended = remaining is None and more_body
        self.sends_trailers = trailers and self.can_send_trailers
        self._head = [("start", status, headers)]

    def check_head(self, status: int, headers: tuple[Any, ...]) -> None:
        if any(b"\n" in value for _, value in headers):
            raise AppProtocolError("a line break")

    def _left_of(self, remaining: int, size: int, *, more_body: bool) -> int:
        left = remaining - size
        if left < 0 or (left and not more_body):
            raise AppProtocolError(f"the body is {abs(left)} bytes off")
        return left

    def _account(self, size: int, *, more_body: bool) -> None:
        if self._remaining is not None and not self.omits_body:
            self._remaining = self._left_of(self._remaining, size, more_body=more_body)
        self.sent += self._head
        self._head = []

    def send_data(self, body: bytes, now_ns: int, *, more_body: bool) -> None:
        assert self.is_started
        self._account(len(body), more_body=more_body)
        self.sent.append(("data", b"" if self.omits_body else body, more_body))

    async def send_file(self, descriptor: int, offset: int, size: int, *, more_body: bool) -> None:
        assert not self.omits_body
        self._account(size, more_body=more_body)
        await self.file_may_go_on.wait()
        if self.has_left:
            raise ClientDisconnectedError("the client has left")
        self.sent.append(("file", os.pread(descriptor, size, offset), more_body))

    def send_trailers(self, headers: tuple[Any, ...], *, more_trailers: bool) -> None:
        assert self.sends_trailers
        self.sent.append(("trailers", headers, more_trailers))

    def flush(self) -> None:
        self.sent.append(("flush",))

    def complete(self) -> None:
        self.sent.append(("complete",))

    def abort(self) -> None:
        self.has_left = True
        self.sent.append(("abort",))

    def send_continue(self) -> None:
        self.sent.append(("continue",))

    def send_early_hints(self, links: tuple[Any, ...]) -> None:
        if self.can_inform:
            self.sent.append(("hints", links))

    def probe(self, *, is_endless: bool) -> None:
        self.sent.append(("probe", is_endless))

    def is_write_paused(self) -> bool:
        return self.is_paused

    async def wait_writable(self) -> None:
        await self.writable.wait()
        self.is_paused = False

    def is_gone(self) -> bool:
        return self.has_left

    def watch_disconnect(self) -> None:
        self.sent.append(("watch",))

    def resume_body(self) -> None:
        self.sent.append(("resume_body",))

    def task_name(self) -> str:
        return "second-wire"

    def event_stream_begun(self) -> None:
        self.sent.append(("event_stream_begun",))

    def event_sent(self) -> None:
        self.sent.append(("event_sent",))


class Wire:
    """One loop's worth of exchanges."""

    def __init__(self, app: ASGIApp, options: dict[str, Any]) -> None:
        self.server = Server(app, HttpSettings(**options), Clock(asyncio.get_running_loop()))

    def exchange(
        self,
        stream: RecordingStream,
        method: str = "GET",
        headers: Headers | None = None,
        *,
        body_follows: bool = False,
        version: str = "7",
    ) -> HttpExchange:
        """Begin an exchange; its request is complete unless `body_follows`."""
        head = RequestHead(RequestLine(method, None, b"/a", b"b=c", version), headers or [])
        stream.is_head_request = method == "HEAD"
        exchange = HttpExchange(head, stream, self.server, Endpoints(Transport()))
        if not body_follows:
            exchange.complete_request()
        exchange.start(at_once=True)
        return exchange

    async def finish(self, exchange: HttpExchange) -> None:
        """Return when the application has ended."""
        async with asyncio.timeout(5):
            while exchange.task is not None:  # noqa: ASYNC110 - the task says so when all is counted
                await asyncio.sleep(0)

    def count(self, field: Field) -> int:
        return self.server.live.record.values[field]


@asynccontextmanager
async def second_wire(app: ASGIApp, **options: Any) -> AsyncIterator[Wire]:
    """Serve exchanges until the block ends; then check that no task or count is left over."""
    wire = Wire(app, options)
    yield wire
    async with asyncio.timeout(5):
        await wire.server.live.wait_idle()
    assert wire.count(Field.EXCHANGES) == 0
