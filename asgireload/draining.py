"""The drain notice: how an application learns that its worker is about to leave.

One `DrainNotice` exists per worker. Every HTTP and WebSocket scope carries it as
`scope["extensions"]["asgireload.drain"]`; `asgireload.draining()` returns the same object without a scope.
It is never mixed up with `http.disconnect` (the client left) or cancellation (the deadline passed).
"""

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class DrainReason(Enum):
    """Why a worker drains."""

    RELOAD = "reload"
    RECYCLE = "recycle"
    SCALE_DOWN = "scale-down"
    STOP = "stop"
    ORPHANED = "orphaned"

    @property
    def websocket_code(self) -> int:
        """Close code for WebSockets: 1012 when a successor serves, else 1001 (RFC 6455 section 7.4, IANA)."""
        return 1012 if self.has_successor else 1001

    @property
    def has_successor(self) -> bool:
        """Whether other workers go on serving."""
        return self not in (DrainReason.STOP, DrainReason.ORPHANED)


class DrainNotice:
    """Set once, when the worker begins to drain.

    `deadline` is None before that, then a `time.monotonic()` value in seconds at which exchanges that
    still run are cancelled. True in a boolean context once set.
    """

    __slots__ = ("_event", "deadline", "reason")

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self.deadline: float | None = None
        self.reason: DrainReason | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    async def wait(self) -> None:
        """Return when the drain begins; at once if it has begun. Cancel freely."""
        if self.reason is not None:
            return
        if self._event is None:
            # Whoever awaits has asyncio; `import asgireload` and the command line do without it.
            import asyncio

            self._event = asyncio.Event()
        await self._event.wait()

    def begin(self, reason: DrainReason, deadline: float) -> None:
        """Used by the worker only: mark the drain as begun and wake everyone who waits."""
        if self.reason is not None:
            return
        self.reason = reason
        self.deadline = deadline
        if self._event is not None:
            self._event.set()


_current = DrainNotice()


def draining() -> DrainNotice:
    """Return this process's drain notice: `if asgireload.draining(): …` or `await asgireload.draining().wait()`.

    Outside a worker it is a notice that is never set.
    """
    return _current
