"""Tell the supervisor what a drain waits for, when it takes long.

The first report comes after FIRST_REPORT seconds, and nothing is done before it: most drains are over by then.
"""

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterable

from asgireload.http.context import ServingContext
from asgireload.ipc.messages import OpenWork, WorkerWaits

FIRST_REPORT = 2.0
REPORT_INTERVAL = 10.0
NAMED = 3
"""Pieces of work that a report names, those that take longest; the others are counted."""
TEXT_LIMIT = 120
"""Characters of a name: a client chooses the path."""
SHUTDOWN = "lifespan shutdown"
BACKGROUND = "application call behind a finished response"


def summarize_work(work: Iterable[OpenWork], background: int) -> WorkerWaits:
    """Return the report: what is open by kind, and which of it takes longest. Pure.

    `background`: applications that run without a connection. With nothing open the lifespan shutdown is what runs.
    """
    known = list(work)
    counts = dict(Counter(entry.kind for entry in known))
    if background:
        counts[BACKGROUND] = background
    if not counts:
        counts[SHUTDOWN] = 1
    oldest = heapq.nlargest(NAMED, (entry for entry in known if entry.name), key=_seconds)
    return WorkerWaits(
        counts,
        tuple(
            OpenWork(entry.kind, entry.name[:TEXT_LIMIT], entry.client[:TEXT_LIMIT], entry.seconds)
            for entry in oldest
        ),
    )


def _seconds(entry: OpenWork) -> float:
    return entry.seconds


class WaitReports:
    """Calls `tell` with a report at its times, until `end`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: ServingContext,
        tell: Callable[[WorkerWaits], None],
    ) -> None:
        self._loop = loop
        self._context = context
        self._tell = tell
        self._timer = loop.call_later(FIRST_REPORT, self._report)

    def end(self) -> None:
        self._timer.cancel()

    def _report(self) -> None:
        self._timer = self._loop.call_later(REPORT_INTERVAL, self._report)
        context = self._context
        now_ns = context.now_ns()
        background = 0 if context.connections else len(context.background)
        work = (connection.open_work(now_ns) for connection in context.connections)
        self._tell(summarize_work(work, background))
