"""When to hold requests, and when to load changed files. Pure.

The first complete file starts a load at once, since most saves are one file. When more files follow, that load may
have read old and new files, so it is abandoned, and the next one begins after `quiet` seconds without a change: a
checkout of thousands of files causes one early attempt and one load. A file that vanished starts no load at once,
since editors move the old version away before they write the new one.

    QUIET ──arrived──▶ load ──▶ BUSY ──more──▶ hold, give up the load ──quiet──▶ load ──▶ QUIET
    QUIET ──vanished──▶ hold ──arrived again──▶ load …

When changes do not end, a load begins after every LONGEST_BURST quiet periods, and such a load is not abandoned,
since otherwise none would ever be completed.
"""

import msgspec

from asgireload.development.watch.changes import NOTHING, Changes

LONGEST_BURST = 10


class BurstDecision(msgspec.Struct, frozen=True):
    """The decision after changes, or when time has passed."""

    gives_up: bool = False
    """Abandon a running load, which may have read a half-written tree."""
    load: Changes | None = None
    """Load now; these are the changes since the last load. None: do not load."""


class Bursts:
    """Groups changes into bursts. Call `add` with changes, and `expire` at `deadline`.

    Times are seconds on a monotonic clock, given by the caller. `deadline` is None when nothing waits.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._waiting = NOTHING
        self._latest_at = float("-inf")
        self._longest = quiet * LONGEST_BURST or float("inf")
        self._forced_at = float("inf")
        self._has_loaded = False
        """A load has begun in this burst."""
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
        """Return the decision at `now`; an empty one before the deadline."""
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
