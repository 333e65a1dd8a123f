"""Writes the heads of responses whose body does not follow within a moment.

A head is written together with the first piece of the body when that follows at once, as the ASGI specification
allows. But a client of an event stream needs the head to know that the stream is open, so a head that has waited
for MOMENT is written by itself.
"""

import asyncio
from typing import Final, Protocol

MOMENT: Final = 0.01
"""Seconds for which a head waits at least; it waits for twice as long at most. One timer serves all heads, most of
which were written when it fires."""


class Starting(Protocol):
    """A response whose head waits for the first piece of the body."""

    def flush_head(self) -> None:
        """Write the head if it was not written yet."""


class LateHeads:
    """The responses of one event loop whose heads wait for the first piece of the body."""

    __slots__ = ("_is_due", "_lately", "_longer", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_due = False
        self._lately: list[Starting] = []
        self._longer: list[Starting] = []
        """Responses that had been added when the timer last fired."""

    def add(self, starting: Starting) -> None:
        """Call `flush_head` of `starting` after a moment."""
        self._lately.append(starting)
        if not self._is_due:
            self._is_due = True
            self._loop.call_later(MOMENT, self._look)

    def _look(self) -> None:
        waiting, self._longer, self._lately = self._longer, self._lately, []
        self._is_due = bool(self._longer)
        if self._is_due:
            self._loop.call_later(MOMENT, self._look)
        for starting in waiting:
            starting.flush_head()
