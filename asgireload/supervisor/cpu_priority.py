"""Low CPU priority for processes of a reload, so that workers which serve have the CPU first.

A template that imports computes for as long as that takes and shares each processor it finds with the worker there:
on a machine that is half busy, answers then wait for tens of milliseconds. So does, for some milliseconds each,
the fork of a worker, its start, and the end of the one before, with its exit handlers and its memory. All
that is in no hurry and gets what is left over, for `patience` at most: on a machine where nothing is left over a
reload would never end.

Linux leaves such work alone on a CPU all the same, and lets those that serve crowd on another one: what wakes up
looks for an idle CPU near by only where the machine as a whole is not busy, and work that gives way counts as
busy there (`select_idle_cpu`, `update_idle_cpu_scan` in kernel/sched/fair.c of Linux 6). So where everybody is
is looked at every few milliseconds, and a worker is told where there is room (`to_spread`).
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from asgireload.supervisor.system import System

LONGEST = 10.0
SHARE_OF_BOOT_TIMEOUT = 0.25
LOOK_INTERVAL = 0.004
"""Seconds between two looks at where four workers are; for more of them it grows, as a look takes longer."""
LOOKED_AT = 4
TELL_INTERVAL = 0.012
"""Seconds for a worker to go where it was told, which it does with the next turn of its loop."""

_logger = logging.getLogger("asgireload.error")


def patience_for(boot_timeout: float) -> float:
    """Return how many seconds a process may be held up, so that its boot does not end for that. Pure."""
    return min(LONGEST, boot_timeout * SHARE_OF_BOOT_TIMEOUT)


class CpuPlace(msgspec.Struct, frozen=True):
    """Where a worker is that does not give way."""

    processor: int
    told_at: float
    """When it was told to go elsewhere, last."""


def to_spread(
    lowered: Iterable[int], serving: Mapping[int, CpuPlace], now: float
) -> dict[int, int]:
    """Return which workers are to go to which CPU. Pure.

    `lowered` are the CPUs of those that give way. Where only such work is, one worker goes, from where most of
    them are; nobody leaves a CPU of its own. One that was told a moment ago is waited for, and then another one
    is asked: the first may be busy for longer.
    """
    crowds: dict[int, list[int]] = {}
    for worker, place in serving.items():
        crowds.setdefault(place.processor, []).append(worker)
    moves: dict[int, int] = {}
    for room in sorted(set(lowered) - set(crowds)):
        crowd = max(crowds.values(), key=len, default=[])
        told = {worker: serving[worker].told_at for worker in crowd}
        if len(crowd) < 2 or now - max(told.values()) < TELL_INTERVAL:
            break
        mover = min(crowd, key=told.__getitem__)
        moves[mover] = room
        crowd.remove(mover)
    return moves


class CpuPriority:
    """Holds the process numbers of those that give way. `forget()` each before it is collected."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        system: System,
        patience: float,
        spread: Callable[[Collection[int]], int] = lambda lowered: 0,
        *,
        is_allowed: bool = True,
    ) -> None:
        """`spread` is called every few milliseconds with those that give way, and returns how many others it
        has looked at. Where priorities must not even be asked for, it is not `is_allowed` and nobody does."""
        self._loop = loop
        self._system = system
        self._patience = patience
        self._spread = spread
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._is_looking = False
        self._is_allowed = is_allowed

    def begin(self, pid: int) -> None:
        """Let a child give way. Does nothing where there would be no way back."""
        if pid in self._timers or not self._can_give_way():
            return
        try:
            self._system.lower_priority(pid)
        except OSError as error:
            _logger.debug("Process [%d] keeps its priority: %s", pid, error)
            return
        self._timers[pid] = self._loop.call_later(self._patience, self.end, pid)
        if not self._is_looking:
            self._is_looking = True
            self._look()

    def _look(self) -> None:
        if not self._timers:
            self._is_looking = False
            return
        looked_at = self._spread(self._timers.keys())
        interval = LOOK_INTERVAL * max(1, looked_at / LOOKED_AT)
        self._loop.call_later(interval, self._look)

    def end(self, pid: int) -> None:
        """Give it, and what it has started, the usual share. Does nothing for others."""
        if self.forget(pid):
            self._raise(pid)

    def end_inherited(self, pid: int) -> None:
        """Likewise for a worker that was not to give way, and may have taken after a template that did."""
        if pid not in self._timers and self._can_give_way():
            self._raise(pid)

    def _can_give_way(self) -> bool:
        return self._is_allowed and self._system.can_lower_priority()

    def _raise(self, pid: int) -> None:
        try:
            self._system.restore_priority(pid)
        except OSError as error:
            _logger.warning(
                "Process [%d] and the processes that it starts keep the lowest CPU priority: %s."
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
