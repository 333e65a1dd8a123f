"""Make a worker end by itself when its supervisor is gone, even if its loop is blocked."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from asgireload.config import Config

ORPHAN_MARGIN = 10
"""Seconds after the drain, lifespan and exit timeouts at which the kernel ends a worker without a supervisor."""


class Orphaned:
    """Handles SIGTERM, which the kernel sends when the supervisor is gone, or an operator sends to the worker.

    The signal may come at any moment: before the loop runs, in which case `telling` checks `seen`, and after the
    loop has ended, when the worker exits anyway. SIGALRM ends a worker whose loop is blocked.
    """

    def __init__(self, config: Config) -> None:
        longest = config.drain_timeout + config.lifespan_timeout + (config.exit_timeout or 0)
        self._patience = int(longest) + ORPHAN_MARGIN
        self._wake: Callable[[], object] | None = None
        """Wakes the loop and calls `on_seen` there; None outside of `telling`."""
        self.seen = False

    @contextmanager
    def telling(
        self, loop: asyncio.AbstractEventLoop, on_seen: Callable[[], None]
    ) -> Iterator[None]:
        """Within this context, call `on_seen` in `loop` after the first signal; at once if it has come already."""
        self._wake = partial(loop.call_soon_threadsafe, on_seen)
        try:
            if self.seen:
                on_seen()
            yield
        finally:
            self._wake = None  # the loop may be closed from now on

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            return  # first, because when many signals come, each interrupts the handler of the one before
        self.seen = True
        # If the loop is blocked for good, no supervisor is left to kill this process, so the alarm does.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(self._patience)
        if self._wake is not None:
            self._wake()
