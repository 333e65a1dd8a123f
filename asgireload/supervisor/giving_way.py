"""Processes of a reload that let those which serve have the processor first.

A template that imports computes for as long as that takes and shares each processor it finds with the worker there:
on a machine that is half busy, answers then wait for tens of milliseconds. So does, for some milliseconds each,
the fork of a worker, its start, and the end of the one before, with its exit handlers and its memory. All
that is in no hurry and gets what is left over, for `patience` at most: on a machine where nothing is left over a
reload would never end.
"""

import asyncio
import logging

from asgireload.ipc.linux import can_give_way, give_way, stop_giving_way

LONGEST = 10.0
SHARE_OF_BOOT_TIMEOUT = 0.25

_logger = logging.getLogger("asgireload.error")


def patience_for(boot_timeout: float) -> float:
    """Return how many seconds a process may be held up, so that its boot does not end for that. Pure."""
    return min(LONGEST, boot_timeout * SHARE_OF_BOOT_TIMEOUT)


class GivingWay:
    """Holds the process numbers of those that give way. `forget()` each before it is collected."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: float) -> None:
        self._loop = loop
        self._patience = patience
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def begin(self, pid: int) -> None:
        """Let a child give way. Does nothing where there would be no way back."""
        if pid in self._timers or not can_give_way():
            return
        try:
            give_way(pid)
        except OSError as error:
            _logger.debug("Process [%d] keeps its priority: %s", pid, error)
            return
        self._timers[pid] = self._loop.call_later(self._patience, self.end, pid)

    def end(self, pid: int) -> None:
        """Give it, and what it has started, the usual share. Does nothing for others."""
        if self.forget(pid):
            self._raise(pid)

    def end_inherited(self, pid: int) -> None:
        """Likewise for a worker that was not to give way, and may have taken after a template that did."""
        if pid not in self._timers and can_give_way():
            self._raise(pid)

    def _raise(self, pid: int) -> None:
        try:
            stop_giving_way(pid)
        except OSError as error:
            _logger.warning(
                "Process [%d] keeps the lowest priority, and what it starts with it: %s."
                " Start with --reload-priority normal",
                pid,
                error,
            )

    def end_all(self) -> None:
        for pid in list(self._timers):
            self.end(pid)

    def forget(self, pid: int) -> bool:
        """Leave a process as it is; return whether it gave way."""
        timer = self._timers.pop(pid, None)
        if timer is not None:
            timer.cancel()
        return timer is not None
