"""Low CPU priority for processes of a reload, so that workers which serve have the CPU first.

A template that imports computes for as long as that takes and shares each CPU with the worker there:
on a machine that is half busy, answers then wait for tens of milliseconds. So does, for some milliseconds each,
the fork of a worker, its start, and the end of the one before, with its exit handlers and its memory. All
that has time and gets the CPU time that others leave, for `patience` at most: on a machine where nothing is left a
reload would never end.

Linux nevertheless leaves such work alone on a CPU, and lets the workers that serve crowd on another one: a process
that wakes up looks for an idle CPU near by only when the machine as a whole is not busy, and work of low priority
counts as busy there (`select_idle_cpu`, `update_idle_cpu_scan` in kernel/sched/fair.c of Linux 6). So the
supervisor looks every few milliseconds which process is on which CPU, and tells a worker where there is room
(`to_spread`).
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
    """The CPU of a worker that has its usual priority."""

    cpu: int
    """Its number."""
    told_at: float
    """When it was told to go elsewhere, last."""


def to_spread(
    lowered: Iterable[int], serving: Mapping[int, CpuPlace], now: float
) -> dict[int, int]:
    """Return which workers are to go to which CPU. Pure.

    `lowered` are the CPUs of processes with low priority. To a CPU that has only such work one worker goes, from
    the CPU that has most of them; no worker leaves a CPU of its own. A worker that was told a moment ago is waited
    for, and then another one is told: the first may be busy for longer.
    """
    crowds: dict[int, list[int]] = {}
    for worker, place in serving.items():
        crowds.setdefault(place.cpu, []).append(worker)
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
    """Holds the pids of processes with low priority. `forget()` each before it is collected."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        system: System,
        patience: float,
        spread: Callable[[Collection[int]], int] = lambda lowered: 0,
        *,
        is_allowed: bool = True,
    ) -> None:
        """`patience` is the longest time in seconds that a priority stays low. `spread` is called every few
        milliseconds with the pids of low priority, and returns how many other processes it has looked at. Without
        `is_allowed` no priority is read or changed."""
        self._loop = loop
        self._system = system
        self._patience = patience
        self._spread = spread
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._is_looking = False
        self._is_allowed = is_allowed

    def lower(self, pid: int) -> None:
        """Lower the priority of a child. Do nothing when it could not be restored."""
        if pid in self._timers or not self._can_lower():
            return
        try:
            self._system.lower_priority(pid)
        except OSError as error:
            _logger.debug("Process [%d] keeps its priority: %s", pid, error)
            return
        self._timers[pid] = self._loop.call_later(self._patience, self.restore, pid)
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

    def restore(self, pid: int) -> None:
        """Give a child whose priority was lowered, and what it has started, the usual one; others are left
        alone."""
        if self.forget(pid):
            self._restore(pid)

    def restore_inherited(self, pid: int) -> None:
        """Give a child the usual priority whose own was not lowered, but may be inherited from a template."""
        if pid not in self._timers and self._can_lower():
            self._restore(pid)

    def _can_lower(self) -> bool:
        return self._is_allowed and self._system.can_lower_priority()

    def _restore(self, pid: int) -> None:
        try:
            self._system.restore_priority(pid)
        except OSError as error:
            _logger.warning(
                "Process [%d] and the processes that it starts keep the lowest CPU priority: %s."
                " Start with --reload-priority normal",
                pid,
                error,
            )

    def restore_all(self) -> None:
        """Give every child the usual priority."""
        for pid in list(self._timers):
            self.restore(pid)

    def forget(self, pid: int) -> bool:
        """Forget a process, and leave its priority as it is; return whether it was lowered."""
        timer = self._timers.pop(pid, None)
        if timer is not None:
            timer.cancel()
        return timer is not None
