"""The way of a connection that is between two requests to the worker that follows.

    FREE, HELD ──its turn──▶ OFFERED ──taken──▶ GONE
    FREE ──hold──▶ HELD ◀──refused── OFFERED
    HELD ──release──▶ FREE

A connection that is enlisted for a turn serves on, so it is FREE until then. It is HELD, and does not read, when
its turn comes at once, when only the other worker can serve what it would read, and while newer code is on its way.
While it is OFFERED nothing is read or written; from GONE on, the socket is the other worker's.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor


class HoldState(Enum):
    FREE = auto()
    """It reads, or answers a request."""
    HELD = auto()
    """Between two requests, and not reading."""
    OFFERED = auto()
    """The worker that follows decides."""
    GONE = auto()
    """The other worker has it."""


class IdleConnection(Protocol):
    """What `IdleHandover` asks of its connection."""

    def is_between_requests(self) -> bool: ...

    def may_leave(self) -> bool:
        """Whether the worker that follows may take the connection."""

    def pause_reading(self) -> None: ...

    def stay(self) -> None:
        """Read again, what was received and not read first."""

    def is_flushed(self) -> bool:
        """Whether the transport holds nothing; if it does, `enlist` is called when it does not."""

    def offer_to(self, successor: Successor, settled: Callable[[bool], None]) -> bool:
        """Call `Successor.take` with the socket and an `HttpParcel`; return what it returns."""

    def leave(self) -> None:
        """Close the descriptor without a word: the connection is the other worker's."""

    def begin_drain(self) -> None:
        """The offer was refused: end as a connection does that nobody takes."""


class IdleHandover:
    """Of one connection; made when it is held or enlisted for the first time."""

    __slots__ = ("_connection", "_refused_by", "_successor", "state")

    def __init__(self, connection: IdleConnection) -> None:
        self.state = HoldState.FREE
        self._connection = connection
        self._successor: Successor | None = None
        """Where the connection is enlisted, or offered."""
        self._refused_by: Successor | None = None

    def was_refused_by(self, successor: Successor) -> bool:
        return successor is self._refused_by

    def enlist(self, successor: Successor | None) -> bool:
        """Ask for a turn, once. True: it comes before anything else would be read."""
        if successor is None or self._successor is successor:
            return False
        self._successor = successor
        return successor.enlist(self._take_turn)

    def hold(self) -> None:
        """Do not read until `release`, or the turn."""
        if self.state is HoldState.FREE:
            self.state = HoldState.HELD
        self._connection.pause_reading()

    def release(self) -> None:
        """Read on, if the connection was held and not offered."""
        if self.state is HoldState.HELD:
            self.state = HoldState.FREE
            self._connection.stay()

    def _take_turn(self) -> None:
        connection = self._connection
        successor = self._successor
        self._successor = None
        if not connection.is_between_requests():
            return
        if successor is None or not connection.may_leave():
            self.release()
            return
        # Until it has gone, or is refused: what comes now is for the other worker to read.
        self.hold()
        if not connection.is_flushed():
            # The other worker could write before the rest of this one's: asks again when all is out.
            return
        self.state = HoldState.OFFERED
        self._successor = successor
        if not connection.offer_to(successor, self._settle):
            self._settle(False)

    def _settle(self, is_taken: bool) -> None:  # noqa: FBT001 - the port's call has one value
        """Hear what became of the offer."""
        successor = self._successor
        self._successor = None
        if self.state is not HoldState.OFFERED:
            return
        if is_taken:
            self.state = HoldState.GONE
            self._connection.leave()
            return
        self._refused_by = successor
        self.state = HoldState.HELD
        self._connection.begin_drain()

    def cancel(self) -> None:
        """The connection ends in another way."""
        self.state = HoldState.GONE
