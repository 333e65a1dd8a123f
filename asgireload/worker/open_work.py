"""Report to the supervisor what a long drain waits for.

The first report comes after FIRST_REPORT seconds; before that nothing is collected, since most drains end earlier.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable

from asgireload.http.clock import Clock
from asgireload.http.live import Live
from asgireload.ipc.messages import OpenWork, WorkerWaits

FIRST_REPORT = 2.0
REPORT_INTERVAL = 10.0
NAMED = 3
"""How many of the longest-running pieces of work a report names; the others are counted."""
TEXT_LIMIT = 120
"""Characters of a name or client, since a client chooses the path."""
SHUTDOWN = "lifespan shutdown"
BACKGROUND = "application call behind a finished response"


def summarize_work(work: Iterable[OpenWork], background: int) -> WorkerWaits:
    """Return a report that counts open work by kind and names the longest-running pieces. Pure.

    `background` is the number of application calls that run without a connection. If nothing is open, the lifespan
    shutdown is what the drain waits for.
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
    """Calls `tell` with a report after FIRST_REPORT seconds and then every REPORT_INTERVAL, until `end`."""

    def __init__(
        self,
        clock: Clock,
        live: Live,
        tell: Callable[[WorkerWaits], None],
    ) -> None:
        self._clock = clock
        self._live = live
        self._tell = tell
        self._timer = clock.loop.call_later(FIRST_REPORT, self._report)

    def end(self) -> None:
        """Send no more reports. Idempotent."""
        self._timer.cancel()

    def _report(self) -> None:
        self._timer = self._clock.loop.call_later(REPORT_INTERVAL, self._report)
        live = self._live
        now_ns = self._clock.now_ns()
        background = 0 if live.connections else len(live.background)
        work = (connection.open_work(now_ns) for connection in live.connections)
        self._tell(summarize_work(work, background))
