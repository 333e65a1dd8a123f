"""Calls connections when their deadlines have passed: thousands of them with one timer of the loop.

A timer of the loop costs more to make, cancel and keep than anything else that a waiting connection needs, and few
of these timers ever fire. So a deadline that is far away is put into a slot of a quarter second, together with all
other deadlines in that quarter. A keep-alive timeout of 5.2 seconds in place of 5 does no harm.
"""

import asyncio
from typing import Final, Protocol

SLOT_SECONDS: Final = 0.25
COARSE_FROM: Final = 2.0
"""Seconds. A deadline at least so far away may be late by a slot; a nearer one gets a timer of the loop."""
BATCH: Final = 64
"""Calls in one turn of the loop. Many connections with the same deadline must not block the others."""
_MARGIN: Final = 0.001
"""Seconds; loops fire up to one tick of their clock early."""


class Waiting(Protocol):
    """A member of a `TimerWheel`."""

    def on_deadline(self) -> None:
        """Handle that the deadline has passed, by one slot at most. Rarely called after a `remove`, too."""


class TimerWheel:
    """Calls `on_deadline` of its members, once for each `put`. Use it on the thread of the loop only.

    It closes nothing. Without members it has no timer.
    """

    __slots__ = ("_due", "_loop", "_slots", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Waiting]] = {}
        """Members by the end of their slot, as a multiple of SLOT_SECONDS on the clock of the loop."""
        self._due: list[Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def put(self, member: Waiting, deadline: float) -> int:
        """Call `on_deadline` of `member` after `deadline`, by the clock of the loop.

        Return the slot for `remove`, which is never 0.
        """
        slot = int(deadline / SLOT_SECONDS) + 1
        members = self._slots.get(slot)
        if members is None:
            self._slots[slot] = {member}
            if self._timer is None or slot * SLOT_SECONDS < self._timer_at:
                self._arm(slot * SLOT_SECONDS)
        else:
            members.add(member)
        return slot

    def remove(self, member: Waiting, slot: int) -> None:
        """Remove `member` from the `slot` that `put` has returned. Do nothing if it is not there any more."""
        members = self._slots.get(slot)
        if members is not None:
            members.discard(member)

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._call_due)

    def _call_due(self) -> None:
        self._timer = None
        now = self._loop.time() + _MARGIN
        for slot in [slot for slot in self._slots if slot * SLOT_SECONDS <= now]:
            self._due.extend(self._slots.pop(slot))
        try:
            for _ in range(min(len(self._due), BATCH)):
                self._due.pop().on_deadline()
        finally:
            if self._due:
                self._arm(now)
            elif self._slots:
                self._arm(min(self._slots) * SLOT_SECONDS)
