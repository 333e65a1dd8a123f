"""Responses to requests that a client has sent in one go leave in one go.

A client may send requests without waiting for the responses (pipelining, RFC 9112 section 9.3.2). Those are
answered one after the other, each in a turn of the loop, and a write for each costs more than all the rest: so the
end of a response waits for the next one while more requests are known to wait, and as long as they come turn by
turn. An application that has to wait delays nothing that came before it by more than two turns of the loop. One
that computes or blocks delays what came before it; where that is seen, nothing is gathered for a while.
"""

import asyncio
from collections.abc import Callable
from typing import Final

MOST_BYTES: Final = 16 * 1024
"""Gathered at most; above that, a write by itself is cheap for what it carries."""
BLOCKED_NS: Final = 4_000_000
"""Nanoseconds without another response after which an application has kept those before it."""
LONGEST_NS: Final = 20_000_000
"""Nanoseconds after which nothing is added any more, so that what is complete waits for one application that
computes for long, and not for several. With many such clients a turn alone takes some milliseconds."""


class Gathering:
    """Ends of responses, in their order, on their way to `write`.

    Whoever writes anything else calls `release` first.
    """

    __slots__ = (
        "_data",
        "_is_watched",
        "_last_at",
        "_loop",
        "_note_block",
        "_now_ns",
        "_since",
        "_write",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        write: Callable[[bytes], None],
        now_ns: Callable[[], int],
        note_block: Callable[[], None],
    ) -> None:
        """`note_block` is called when an application has kept responses before its own for long."""
        self._loop = loop
        self._write = write
        self._now_ns = now_ns
        self._note_block = note_block
        self._data = b""
        self._since = 0
        """When the first of what is gathered came, by the clock."""
        self._last_at = 0
        self._is_watched = False

    def add(self, data: bytes) -> None:
        """Take the end of a response behind which another one is expected."""
        now = self._now_ns()
        if not self._data:
            self._since = now
        else:
            self._look_for_block(now)
        self._last_at = now
        self._data += data
        if len(self._data) > MOST_BYTES or now - self._since > LONGEST_NS:
            self.release()
        elif not self._is_watched:
            self._is_watched = True
            self._loop.call_soon(self._watch, 0)

    def release(self) -> None:
        """Write what was gathered."""
        data = self.take()
        if data:
            self._write(data)

    def take(self) -> bytes:
        """Return what was gathered, for others to write, or nobody."""
        data, self._data = self._data, b""
        if data:
            self._look_for_block(self._now_ns())
        return data

    def _look_for_block(self, now: int) -> None:
        if now - self._last_at > BLOCKED_NS:
            self._note_block()

    def _watch(self, seen: int) -> None:
        """Once in each turn: release what has not grown since the turn before."""
        size = len(self._data)
        if size and size != seen:
            self._loop.call_soon(self._watch, size)
        else:
            self._is_watched = False
            self.release()
