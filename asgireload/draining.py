"""The drain notice, which tells an application that its worker drains.

One `DrainNotice` exists per worker. Every HTTP and WebSocket scope carries it as
`scope["extensions"]["asgireload.drain"]`; `asgireload.draining()` returns the same object without a scope. The
notice is separate from `http.disconnect` (the client has disconnected) and from cancellation (the deadline has
passed).
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
        """The close code for WebSockets: 1012 when other workers go on serving, else 1001 (RFC 6455 section 7.4,
        IANA WebSocket close code registry)."""
        return 1012 if self.has_successor else 1001

    @property
    def has_successor(self) -> bool:
        """True when other workers go on serving."""
        return self not in (DrainReason.STOP, DrainReason.ORPHANED)


class DrainNotice:
    """A notice that is set once, when the worker begins to drain; it is true in a boolean context from then on.

    `deadline` is None before; then it is the time, on the clock of `time.monotonic()`, at which running exchanges
    are cancelled. `reason` is None before.
    """

    __slots__ = ("_event", "deadline", "reason")

    def __init__(self) -> None:
        self._event: asyncio.Event | None = None
        self.deadline: float | None = None
        self.reason: DrainReason | None = None

    def __bool__(self) -> bool:
        return self.reason is not None

    async def wait(self) -> None:
        """Wait until the drain begins; return at once if it has begun. The wait may be cancelled."""
        if self.reason is not None:
            return
        if self._event is None:
            # Imported late: `import asgireload` and the command line do not need asyncio.
            import asyncio

            self._event = asyncio.Event()
        await self._event.wait()

    def begin(self, reason: DrainReason, deadline: float) -> None:
        """Set the notice and wake all waiters. Called by the worker only; further calls have no effect."""
        if self.reason is not None:
            return
        self.reason = reason
        self.deadline = deadline
        if self._event is not None:
            self._event.set()


_current = DrainNotice()


def draining() -> DrainNotice:
    """Return the drain notice of this process: `if asgireload.draining(): …` or `await
    asgireload.draining().wait()`.

    Outside a worker the notice is never set.
    """
    return _current
