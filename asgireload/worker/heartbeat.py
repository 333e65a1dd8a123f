"""The heartbeat of a worker: it shows the supervisor that the loop runs, and publishes the worker's counts."""

import asyncio
import time
from collections.abc import Callable

from asgireload.ipc.scoreboard import Field, Record


class Heartbeat:
    """Writes the monotonic time to `record` every `interval` seconds while the loop runs.

    Calls `on_beat` at each beat but the first.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        record: Record,
        interval: float,
        on_beat: Callable[[], None] | None,
    ) -> None:
        self._loop = loop
        self._record = record
        self._interval = interval
        self._on_beat = on_beat
        self._timer: asyncio.TimerHandle | None = None
        self._beat()

    def _beat(self) -> None:
        self._record.values[Field.HEARTBEAT] = time.monotonic_ns()  # publishes all counts
        is_first = self._timer is None
        self._timer = self._loop.call_later(self._interval, self._beat)
        if self._on_beat is not None and not is_first:
            self._on_beat()

    def stop(self) -> None:
        """Stop the heartbeat and publish the counts. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._record.publish()
