"""Heads of responses that wait for the first piece of their body, for a moment.

Head and body leave together when the body comes at once, as the ASGI specification lets them. But a client that
hears nothing of an event stream does not know that it is open, so a head that has waited for long leaves by itself.
"""

import asyncio
from typing import Final, Protocol

MOMENT: Final = 0.01
"""Seconds; a head waits for that time at least, and twice as long at most. One timer serves all of them: most have
left when it fires."""


class Starting(Protocol):
    def flush_head(self) -> None:
        """Write the head if it still waits."""


class LateHeads:
    """One for each loop."""

    __slots__ = ("_is_due", "_lately", "_longer", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_due = False
        self._lately: list[Starting] = []
        self._longer: list[Starting] = []
        """Were here already when the timer was last due."""

    def add(self, starting: Starting) -> None:
        """Call `flush_head` of it in a moment."""
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
