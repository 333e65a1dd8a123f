"""One keep-alive connection that costs its client little: what a steady rate is measured with.

The streams, deadlines and heads of the other clients cost half as much CPU time again, on the processors that the
server has: then half a server's saturation is most of a small machine's.
"""

import asyncio
from functools import lru_cache
from typing import cast

from . import wire
from .records import Failed, Outcome

_head_of = lru_cache(64)(wire.parse_head)
"""Heads differ by their date, once a second, and by the process that answers."""


class LightConnection(asyncio.Protocol):
    """Made by `loop.create_connection`. Ask one thing at a time; `drop` it in the end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._came = b""
        self._waiter: asyncio.Future[wire.Head] | None = None
        self.is_lost = False

    async def ask(self, request: bytes, timeout: float) -> wire.Head:
        """Send a request and return the head of its answer when the whole of it has come. Raise Failed."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout, self._fail, Outcome.LOST, "TimeoutError")
        if self.is_lost:
            self._fail(Outcome.LOST, "the connection ended")
        else:
            self._transport.write(request)
        try:
            head: wire.Head = await waiter
            return head
        finally:
            timer.cancel()
            self._waiter = None

    def drop(self) -> None:
        self._transport.abort()

    def _fail(self, outcome: Outcome, detail: str) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(Failed(outcome, detail))

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        came = self._came = self._came + data
        end = came.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        try:
            head = _head_of(came[:end])
        except wire.BrokenAnswer as error:
            self._fail(Outcome.LOST, f"BrokenAnswer {error}")
            return
        if head.length is None:
            self._fail(Outcome.LOST, "a body without an end")
        elif len(came) - end >= head.length:
            self._came = came[end + head.length :]
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(head)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_lost = True
        self._fail(Outcome.CUT if self._came else Outcome.LOST, "the connection ended")
