"""Low CPU priority for processes of a reload, so that serving workers get the CPU first.

A template computes during its whole import and shares each CPU with the worker there: on a machine that is half
busy, responses are then delayed by tens of milliseconds. The fork of a worker, its boot, and the exit of its
predecessor with exit handlers and freed memory delay responses by some milliseconds each. None of that work is
urgent, so it gets only CPU time that is left over, for at most `patience` seconds: on a fully busy machine a reload
would otherwise never end.

Even so, Linux may leave such work alone on a CPU while several serving workers share another one. A process that
wakes up looks for an idle CPU near by only when the machine as a whole is not busy, and work of low priority counts
as busy there (`select_idle_cpu`, `update_idle_cpu_scan` in kernel/sched/fair.c of Linux 6). So the supervisor
checks every few milliseconds which process is on which CPU, and tells a worker to move to a CPU that has only such
work (`to_spread`).
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from asgireload.supervisor.system import System

LONGEST = 10.0
SHARE_OF_BOOT_TIMEOUT = 0.25
LOOK_INTERVAL = 0.004
"""Seconds between two checks of up to LOOKED_AT workers; longer in proportion for more, as a check takes longer."""
LOOKED_AT = 4
TELL_INTERVAL = 0.012
"""Seconds for a worker to move after it was told, which it does in the next iteration of its loop."""

_logger = logging.getLogger("asgireload.error")


def patience_for(boot_timeout: float) -> float:
    """Return the seconds for which a process may have low priority without missing its boot timeout. Pure."""
    return min(LONGEST, boot_timeout * SHARE_OF_BOOT_TIMEOUT)


class CpuPlace(msgspec.Struct, frozen=True):
    """The CPU of a worker that has normal priority."""

    cpu: int
    """The CPU's index."""
    told_at: float
    """When the worker was last told to move, in monotonic seconds."""


def to_spread(
    lowered: Iterable[int], serving: Mapping[int, CpuPlace], now: float
) -> dict[int, int]:
    """Return the workers that should move, each with its new CPU. Pure.

    `lowered` are the CPUs of processes with low priority. One worker moves to each CPU that has only such work,
    from the CPU with the most workers; a worker alone on its CPU does not move. After a worker was told to move,
    TELL_INTERVAL passes before another worker on that CPU is told: the first one may be busy for longer.
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
    """Holds the pids of processes with low priority. `forget()` each pid before its exit is collected."""

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
        milliseconds with the pids of low priority, and returns how many other processes it has looked at. If
        `is_allowed` is false, no priority is read or changed."""
        self._loop = loop
        self._system = system
        self._patience = patience
        self._spread = spread
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._is_looking = False
        self._is_allowed = is_allowed

    def lower(self, pid: int) -> None:
        """Lower the priority of a child. Do nothing if the priority could not be restored later."""
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
        """Restore the normal priority of a child that was lowered, and of its descendants."""
        if self.forget(pid):
            self._restore(pid)

    def restore_inherited(self, pid: int) -> None:
        """Restore the normal priority of a child that was not lowered itself, but may have inherited low
        priority."""
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
        """Restore the normal priority of every child that was lowered."""
        for pid in list(self._timers):
            self.restore(pid)

    def forget(self, pid: int) -> bool:
        """Forget a process without changing its priority; return whether it was lowered."""
        timer = self._timers.pop(pid, None)
        if timer is not None:
            timer.cancel()
        return timer is not None
