"""Call connections when their deadlines have passed: thousands of them with one timer of the loop.

A timer of the loop costs more to make, cancel and keep than anything else that a waiting connection needs, and
few of them ever fire. So a deadline that is far away is put into a slot of a quarter second, together with all
others that pass within it; nobody is harmed by a keep-alive timeout of 5.2 seconds.
"""

import asyncio
from typing import Final, Protocol

SLOT_SECONDS: Final = 0.25
COARSE_FROM: Final = 2.0
"""Seconds from which on being late by a slot does not matter. What is nearer deserves a timer of its own."""
BATCH: Final = 64
"""Calls in one turn of the loop. A crowd that fell silent together must not hold up all others together."""
_MARGIN: Final = 0.001
"""Seconds; loops fire up to one tick of their clock early."""


class Waiting(Protocol):
    def on_deadline(self) -> None:
        """The deadline has passed, by a slot at most. Also called, rarely, behind a `remove`."""


class TimerWheel:
    """Calls `on_deadline` of its members, each once; used on the loop's own thread only.

    It closes nothing, and without members it has no timer.
    """

    __slots__ = ("_due", "_loop", "_slots", "_timer", "_timer_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Waiting]] = {}
        """By the number of seconds, in SLOT_SECONDS, at which they end."""
        self._due: list[Waiting] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def put(self, member: Waiting, deadline: float) -> int:
        """Call `member` behind `deadline`, on the loop's clock; return the slot, never 0, for `remove`."""
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
        """Forget `member`, which `put` into `slot`. Harmless when it is not there any more."""
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
