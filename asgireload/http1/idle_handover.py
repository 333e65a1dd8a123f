"""The handover to the worker that follows of a connection that is between two requests.

    FREE, HELD ──its turn──▶ OFFERED ──taken──▶ GONE
    FREE ──hold──▶ HELD ◀──refused── OFFERED
    HELD ──release──▶ FREE

A connection that is enlisted for a turn serves requests until the turn comes, so it is FREE. It is HELD, and does
not read, when its turn comes at once, when only the other worker can serve the next request, and while newer code
is about to be loaded. While it is OFFERED, nothing is read or written; from GONE on, the socket belongs to the
other worker.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor


class HoldState(Enum):
    """How far the handover is; see the diagram of the module."""

    FREE = auto()
    """The connection reads, or answers a request."""
    HELD = auto()
    """The connection is between two requests, and does not read."""
    OFFERED = auto()
    """The connection was offered; the worker that follows has not answered yet."""
    GONE = auto()
    """The other worker has taken the connection, or the connection has ended."""


class IdleConnection(Protocol):
    """The interface of a connection to its `IdleHandover`."""

    def is_between_requests(self) -> bool: ...

    def may_leave(self) -> bool:
        """Return whether the worker that follows may take the connection."""

    def pause_reading(self) -> None: ...

    def stay(self) -> None:
        """Read again, and first parse the bytes that were received while the connection was held."""

    def is_flushed(self) -> bool:
        """Return whether the write buffer of the transport is empty. If not, call `enlist` again when it is."""

    def offer_to(self, successor: Successor, settled: Callable[[bool], None]) -> bool:
        """Call `Successor.take` with the socket and an `HttpParcel`; return its result."""

    def leave(self) -> None:
        """Close the descriptor without writing and without shutdown(): the other worker uses the socket."""

    def begin_drain(self) -> None:
        """End as a connection that no worker takes: the offer was refused."""


class IdleHandover:
    """The handover of one connection; made when the connection is held or enlisted for the first time."""

    __slots__ = ("_connection", "_refused_by", "_successor", "state")

    def __init__(self, connection: IdleConnection) -> None:
        self.state = HoldState.FREE
        self._connection = connection
        self._successor: Successor | None = None
        """The worker at which the connection is enlisted, or to which it is offered."""
        self._refused_by: Successor | None = None

    def was_refused_by(self, successor: Successor) -> bool:
        """Return whether `successor` was the last to refuse the connection."""
        return successor is self._refused_by

    def enlist(self, successor: Successor | None) -> bool:
        """Ask `successor` for a turn, if that was not done. Return True if the turn comes in the next turn of the
        loop or soon after (`Successor.enlist`)."""
        if successor is None or self._successor is successor:
            return False
        self._successor = successor
        return successor.enlist(self._take_turn)

    def hold(self) -> None:
        """Stop reading until `release`, or until the connection is handed over."""
        if self.state is HoldState.FREE:
            self.state = HoldState.HELD
        self._connection.pause_reading()

    def release(self) -> None:
        """Read again if the connection is HELD."""
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
        # Bytes that arrive from now on are for the other worker to read, unless it refuses the connection.
        self.hold()
        if not connection.is_flushed():
            # Otherwise the other worker could write before the buffered bytes of this one.
            return
        self.state = HoldState.OFFERED
        self._successor = successor
        if not connection.offer_to(successor, self._settle):
            self._settle(False)

    def _settle(self, is_taken: bool) -> None:  # noqa: FBT001 - the port's call has one value
        """Note the answer of the successor to the offer."""
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
        """Note that the connection ends in another way."""
        self.state = HoldState.GONE
