"""When to hold the old code back, and when to load the new. Pure.

The first complete file starts a load at once: most saves are one file. If more follow, that load may have
read half of what belongs together, so it is given up, and the next one waits until it has been quiet for
`quiet` seconds: a checkout of thousands of files makes one early attempt and one load. A file that
vanished starts nothing: editors move the old version away before they write the new one.

    QUIET ──arrived──▶ load ──▶ BUSY ──more──▶ hold, give up the load ──quiet──▶ load ──▶ QUIET
    QUIET ──vanished──▶ hold ──arrived again──▶ load …

What changes without an end is loaded nevertheless, every LONGEST_BURST quiet periods, and such a load is
not given up, or none would ever be finished.
"""

import msgspec

from asgireload.development.watch.changes import NOTHING, Changes

LONGEST_BURST = 10


class BurstDecision(msgspec.Struct, frozen=True):
    """What follows from changes, or from the passing of time."""

    gives_up: bool = False
    """A load that has begun before may be of a half-written tree."""
    load: Changes | None = None
    """Load now; these files have changed since the load before."""


class Bursts:
    """`add` what happens, call `expire` at `deadline`. Times are monotonic seconds, given from outside."""

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._waiting = NOTHING
        self._latest_at = float("-inf")
        self._longest = quiet * LONGEST_BURST or float("inf")
        self._forced_at = float("inf")
        self._has_loaded = False
        """In this burst."""
        self._is_endless = False
        self.deadline: float | None = None

    def add(self, changes: Changes, now: float) -> BurstDecision:
        if self.deadline is None and now >= self._latest_at + self._quiet:
            self._has_loaded = self._is_endless = False
            self._forced_at = now + self._longest
        self._latest_at = now
        self._waiting |= changes
        is_whole = not self._waiting.vanished and not self._waiting.is_vague
        if is_whole and not self._has_loaded:
            return self._load()
        self.deadline = min(now + self._quiet, self._forced_at)
        return BurstDecision(gives_up=not self._is_endless)

    def expire(self, now: float) -> BurstDecision:
        """Return what is due at `now`; nothing when the deadline has not come."""
        if self.deadline is None or now < self.deadline:
            return BurstDecision()
        if now >= self._forced_at:
            self._is_endless = True
            self._forced_at = now + self._longest
            decision = self._load()
            return BurstDecision(gives_up=False, load=decision.load)
        return self._load()

    def _load(self) -> BurstDecision:
        load, self._waiting = self._waiting, NOTHING
        self.deadline = None
        self._has_loaded = True
        return BurstDecision(gives_up=True, load=load)
