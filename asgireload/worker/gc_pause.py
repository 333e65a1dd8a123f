"""Keep Python's garbage collector from blocking the loop when thousands of connections arrive at once.

The collector traverses all objects whenever their number has grown by a quarter. A worker that takes over ten
thousand connections grows to hundreds of thousands of objects within a second, so the collector would traverse them
again and again, in the end for 50 ms at a time, and find nothing. So while connections arrive, only young
generations are collected. When no more arrive, all objects that live by then are frozen (`gc.freeze`, which costs
nothing), as the template does with the imported application.

Frozen objects are freed by reference counting as before, but cycles among them are no longer found, and stay until
the worker is replaced. The server's connections leave no cycles (a test checks that); asyncio's transports refer to
themselves, which leaves 1 KB for each, measured, and uvloop's do not. Applications may leave as much as they hold.
So nothing is frozen while many application calls run, in exchanges or WebSockets, and the full collection then
comes as usual.
"""

import asyncio
import gc
from collections.abc import Callable

LULL_SECONDS = 0.25
"""Seconds without a new connection after which all have arrived. A slice of connections arrives every few
milliseconds, and a pause of full collections for this time does no harm."""
FREEZE_FROM = 512
"""Arrived connections from which objects are frozen. A full collection with fewer takes about as long as a slice of
work (`sender.SLICE_SECONDS`)."""
RUNNING_FRACTION = 16
"""Arrived connections for each application call that may run when objects are frozen."""
_NEVER = 1 << 30
"""A threshold of the oldest generation that is never reached: collections of the middle one before a full one."""


def may_freeze(arrived: int, running: int) -> bool:
    """Return whether to freeze objects after `arrived` connections, while `running` application calls run. Pure."""
    return arrived >= FREEZE_FROM and running * RUNNING_FRACTION <= arrived


class GcPause:
    """Postpones full collections while connections arrive.

    `running` returns how many calls of the application run. If the application has switched the collector off, or
    changes the thresholds meanwhile, its settings stay.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, running: Callable[[], int]) -> None:
        self._loop = loop
        self._running = running
        self._arrived = 0
        self._seen = 0
        self._threshold = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, arrived: int) -> None:
        """Count `arrived` new connections, and postpone full collections until no more arrive."""
        self._arrived += arrived
        if self._timer is None and gc.isenabled():
            first, second, self._threshold = gc.get_threshold()
            gc.set_threshold(first, second, _NEVER)
            self._timer = self._loop.call_later(LULL_SECONDS, self._look)

    def end(self) -> None:
        """Restore the collector's threshold. Idempotent."""
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
            gc.collect(1)  # young garbage must not be frozen
            gc.freeze()
        self.end()
