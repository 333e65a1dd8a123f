"""Writes of one turn of the event loop leave at its end, one connection behind the other, where that helps.

A write wakes whoever reads at the other end, a proxy or a client on the same machine, and waking somebody who
has gone to sleep on another CPU costs more than the write. When a turn answers many clients, their responses
leave together at its end: a tenth less CPU for each. Several pieces of one response are one write for the same
reason.

What waits for the end of the turn also waits for application code that runs before it: for work behind the last
`send`, and for the applications of other clients. So nothing waits unless it pays and was seen to be harmless:

- A complete response waits only while turns answer several clients at once. One that is alone is written at once.
- The first responses of a worker are written at once, and so are those that follow one that has waited for code
  that computes or blocks. Each time this happens the number of those that follow doubles, and it halves when as
  many have passed without.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

LONGEST_NS: Final = 1_000_000
"""Nanoseconds after which the first response waits for no more than the application that runs."""
BLOCKED_NS: Final = 4_000_000
"""Nanoseconds; a response behind which the turn took so long was, or would have been, kept by an application."""
AT_ONCE_LEAST: Final = 1000
"""Responses that are written at once at first, and after a block."""
AT_ONCE_MOST: Final = 1 << 17
CROWD: Final = 4
"""Responses in one turn from which on it pays to write them together."""
SAMPLE: Final = 32
"""While responses are alone, the turn of one in so many is watched for others."""
FEW_TURNS: Final = 8
"""Turns with fewer than CROWD responses, one after the other, after which responses are alone again."""


class Sender(Protocol):
    def release_outgoing(self) -> bool:
        """Write what there is to write; return whether there was something."""


class Outbox:
    """Calls everybody who has something to write, at once or at the end of the turn. One for each loop."""

    __slots__ = (
        "_at_once",
        "_at_once_next",
        "_calm_left",
        "_count",
        "_counts_next",
        "_few_turns",
        "_is_crowded",
        "_is_due",
        "_is_part",
        "_is_watching",
        "_loop",
        "_now_ns",
        "_since_ns",
        "_waiting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now_ns: Callable[[], int] = time.monotonic_ns,
        *,
        at_once: int = AT_ONCE_LEAST,
        is_crowded: bool = False,
    ) -> None:
        self._loop = loop
        self._now_ns = now_ns
        self._at_once = at_once
        """So many responses yet do not wait."""
        self._at_once_next = AT_ONCE_LEAST
        """As many after the next block."""
        self._calm_left = AT_ONCE_LEAST
        """Responses without a block after which it will be half as many."""
        self._is_crowded = is_crowded
        """Turns answer several clients."""
        self._few_turns = 0
        self._count = 0
        """Responses since the turn began that is counted, or since one was."""
        self._waiting: list[Sender] = []
        self._since_ns = 0
        self._is_due = False
        """The end of the turn is waited for."""
        self._is_part = False
        """Not all responses of that turn were counted."""
        self._counts_next = False
        """While responses are alone: those of the next turn are to be."""
        self._is_watching = False
        """`_since_ns` is of a response that was written at once."""

    @property
    def writes_at_once(self) -> bool:
        """Whether nothing waits at present, be it a part of a response."""
        return self._at_once > 0

    @property
    def writes_complete_at_once(self) -> bool:
        """Whether no complete response waits at present."""
        return self._at_once > 0 or not self._is_crowded

    def enlist(self, sender: Sender, now_ns: int, *, is_complete: bool) -> None:
        """Have `sender` called once: now, or at the end of this turn, or in between.

        `now_ns`: by the same clock. `is_complete`: what it writes ends a response.
        """
        self._count += 1
        if not self._waiting:
            if self._at_once:
                self._at_once -= 1
                self._look_for_block(now_ns)
                self._watch(now_ns)
                sender.release_outgoing()
                return
            if is_complete and not self._is_crowded:
                if self._count >= SAMPLE or self._counts_next:
                    self._sample(now_ns)
                sender.release_outgoing()
                return
            self._since_ns = now_ns
            self._is_watching = False
            self._await_end()
        self._waiting.append(sender)
        self.hurry(now_ns)

    def hurry(self, now_ns: int) -> None:
        """Call everybody now where the first has waited for too long."""
        if self._waiting and now_ns - self._since_ns > LONGEST_NS:
            self._flush(now_ns)

    def note_block(self) -> None:
        """Something has waited for an application that computes or blocks: let others not."""
        self._at_once = self._calm_left = self._at_once_next
        self._at_once_next = min(self._at_once_next * 2, AT_ONCE_MOST)

    def _watch(self, now_ns: int) -> None:
        """See how long the turn goes on behind a response that was written at once."""
        self._since_ns = now_ns
        self._is_watching = True
        self._await_end()

    def _sample(self, now_ns: int) -> None:
        """Wait for the end of this turn, and count the whole of the one after it."""
        if not self._is_due:
            is_first = self._counts_next
            self._watch(now_ns)
            self._counts_next = not is_first
            self._is_part = not is_first

    def _await_end(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._counts_next = self._is_part = False
            self._count = 1
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_due = False
        if self._is_part:
            pass
        elif self._count >= CROWD:
            self._is_crowded = True
            self._few_turns = 0
        elif self._is_crowded:
            self._few_turns += 1
            if self._few_turns >= FEW_TURNS:
                self._is_crowded = False
                self._few_turns = 0
        if not self._at_once:
            self._calm_left -= self._count
            if self._calm_left <= 0:
                self._at_once_next = max(self._at_once_next // 2, AT_ONCE_LEAST)
                self._calm_left = self._at_once_next
        self._count = 0
        if self._waiting:
            self._flush(self._now_ns())
        elif self._is_watching:
            self._look_for_block(self._now_ns())

    def _look_for_block(self, now_ns: int) -> None:
        if self._is_watching:
            self._is_watching = False
            if now_ns - self._since_ns > BLOCKED_NS:
                self.note_block()

    def _flush(self, now_ns: int) -> None:
        waiting, self._waiting = self._waiting, []
        has_waited = False
        for sender in waiting:
            if sender.release_outgoing():
                has_waited = True
        if has_waited and now_ns - self._since_ns > BLOCKED_NS:
            self.note_block()
