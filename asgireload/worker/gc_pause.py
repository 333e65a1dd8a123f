"""Keep Python's garbage collector from holding the loop up when thousands of connections arrive at once.

It looks at everything that lives whenever that has grown by a quarter. A worker that takes over ten thousand
connections grows from little to hundreds of thousands of objects within a second, so that it looks at all of
them again and again, and in the end for 50 ms at a time, to find nothing. So while connections arrive only
young objects are looked at; and when no more come, what lives by then is set apart for good (`gc.freeze`, which
costs nothing), as the template does with what the application imports.

What is set apart is freed when nobody refers to it, as ever; only cycles of it are not found any more, and stay
until the worker is replaced. Our connections leave none (a test holds that); asyncio's transports refer to
themselves, which makes 1 KB of each, measured, and uvloop's do not. Applications may leave as much as they hold: so
nothing is set apart where many of them run, in exchanges or WebSockets, and the long collection comes as it
would have.
"""

import asyncio
import gc
from collections.abc import Callable

LULL_SECONDS = 0.25
"""Without a new connection for so long, those that wait have arrived. A slice of them comes every few
milliseconds; full collections are not missed for that time."""
FREEZE_FROM = 512
"""Connections. A collection of fewer takes about as long as a slice of work (`sender.SLICE_SECONDS`)."""
RUNNING_FRACTION = 16
"""At most one call of the application may run for so many connections."""
_NEVER = 1 << 30
"""So many collections of the middle generation before a full one."""


def may_freeze(arrived: int, running: int) -> bool:
    """Whether what lives may be set apart: `arrived` connections, while so many calls of the application run."""
    return arrived >= FREEZE_FROM and running * RUNNING_FRACTION <= arrived


class GcPause:
    """Puts full collections off while connections arrive.

    `running` tells how many calls of the application run. An application that has switched the collector off,
    or changes its thresholds meanwhile, keeps its way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], int]) -> None:
        self._loop = loop
        self._running = running
        self._arrived = 0
        self._seen = 0
        self._threshold = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, arrived: int) -> None:
        """So many connections have arrived."""
        self._arrived += arrived
        if self._timer is None and gc.isenabled():
            first, second, self._threshold = gc.get_threshold()
            gc.set_threshold(first, second, _NEVER)
            self._timer = self._loop.call_later(LULL_SECONDS, self._look)

    def end(self) -> None:
        """Let the collector have its way again. Idempotent."""
        self._arrived = self._seen = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            first, second, third = gc.get_threshold()
            if third == _NEVER:
                gc.set_threshold(first, second, self._threshold)

    def _look(self) -> None:
        if self._arrived != self._seen:
            self._seen = self._arrived
            self._timer = self._loop.call_later(LULL_SECONDS, self._look)
            return
        if may_freeze(self._arrived, self._running()):
            gc.collect(1)  # what is young and garbage shall not stay for good
            gc.freeze()
        self.end()
