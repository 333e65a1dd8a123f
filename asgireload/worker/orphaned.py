"""A worker that its supervisor has left: it ends by itself, whatever its loop does."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from asgireload.config import Config

ORPHAN_MARGIN = 10
"""Seconds beyond drain, lifespan and exit timeouts after which the kernel ends a worker without a supervisor."""


class Orphaned:
    """The supervisor is gone, or somebody sent SIGTERM to this worker: leave, whatever the loop does.

    The signal may come at any moment: before the loop runs, when `seen` is looked at later, and after the loop has
    ended, when the worker leaves anyway.
    """

    def __init__(self, config: Config) -> None:
        longest = config.drain_timeout + config.lifespan_timeout + (config.exit_timeout or 0)
        self._patience = int(longest) + ORPHAN_MARGIN
        self._wake: Callable[[], object] | None = None
        """Tells the loop; None while none is to be told."""
        self.seen = False

    @contextmanager
    def telling(
        self, loop: asyncio.AbstractEventLoop, on_seen: Callable[[], None]
    ) -> Iterator[None]:
        """Call `on_seen` in a turn of `loop` after the first signal, and at once if one has come before."""
        self._wake = partial(loop.call_soon_threadsafe, on_seen)
        try:
            if self.seen:
                on_seen()
            yield
        finally:
            self._wake = None  # the loop may be closed from now on

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            return  # first of all: in a storm of signals each one interrupts the handler of the one before
        self.seen = True
        # If the loop is blocked for good nobody is left to kill this process, so the kernel does.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(self._patience)
        if self._wake is not None:
            self._wake()
