"""A connection that goes to another worker: the last part of its way, the same for event streams and WebSockets.

    STAYING ──begin──▶ ENLISTED ──turn──▶ OFFERED ──taken──▶ GONE
       └───begin──▶ WAITING ◀──nobody follows──┘ (ENLISTED, OFFERED)
    WAITING ──another worker follows──▶ ENLISTED
    any but OFFERED ──too late──▶ KEPT ◀──refused── OFFERED

Until it is OFFERED the connection is this worker's, and from GONE on it is the other worker's. In between nothing
may be read from it or written to it. A connection that is KEPT can only be ended: its application has been told
that the client has left. So a connection does not give up when the worker that follows is lost, but waits for the
next one, for as long as `LeavingSocket.patience` says.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor
from asgireload.ipc.parcels import Parcel


class LeavingState(Enum):
    STAYING = auto()
    """It has not begun."""
    ENLISTED = auto()
    """The successor will give it a turn."""
    OFFERED = auto()
    """The successor decides."""
    WAITING = auto()
    """Ready to go, and no worker follows at present."""
    GONE = auto()
    """The other worker has it."""
    KEPT = auto()
    """It ends here."""


_OVER = (LeavingState.GONE, LeavingState.KEPT)


class LeavingSocket(Protocol):
    """What `Leaving` asks of its connection."""

    def patience(self) -> float:
        """Return for how many seconds from now it can wait, and still be ended in time."""

    def descriptor(self) -> int:
        """Return the socket's, or -1 when the connection is about to end by itself."""

    def make_parcel(self) -> Parcel | None:
        """Return what the other worker needs beside the socket; None: it cannot go any more."""

    def release_socket(self) -> None:
        """Close the descriptor without a word: the connection is the other worker's."""

    def keep(self) -> None:
        """End the connection: no worker takes it."""


class Leaving:
    """The leaving of one connection. `cancel` it when the connection ends in another way."""

    __slots__ = ("_loop", "_refused_by", "_socket", "_successor", "_timer", "following", "state")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: LeavingSocket, following: Successor | None
    ) -> None:
        self.state = LeavingState.STAYING
        self.following = following
        """Which worker follows at present."""
        self._loop = loop
        self._socket = socket
        self._successor: Successor | None = None
        """Where the connection is enlisted, or offered."""
        self._refused_by: Successor | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    def begin(self) -> None:
        """The connection is ready to go."""
        if self.state is LeavingState.STAYING:
            self._enlist()

    def follow(self, successor: Successor | None) -> None:
        """Another worker follows, or none at present."""
        self.following = successor
        if (self.state is LeavingState.ENLISTED and successor is not self._successor) or (
            self.state is LeavingState.WAITING and successor is not None
        ):
            self._enlist()

    def give_up(self) -> None:
        """Keep the connection, unless it is the successor who decides or all is over."""
        if self.state is not LeavingState.OFFERED and not self.is_over:
            self._end(LeavingState.KEPT)
            self._socket.keep()

    def cancel(self) -> None:
        """Ask nothing more of the connection."""
        if self.state is not LeavingState.GONE:
            self._end(LeavingState.KEPT)

    def _enlist(self) -> None:
        """Ask the worker that follows for a turn, or wait for one that follows."""
        successor = self.following
        if successor is not None and successor is not self._refused_by:
            # No timeout while it is in line: a turn comes, or the successor is lost.
            self._cancel_timer()
            self._successor = successor
            self.state = LeavingState.ENLISTED
            successor.enlist(self._take_turn)
        elif self.state is not LeavingState.WAITING:
            self._cancel_timer()
            self._timer = self._loop.call_later(self._socket.patience(), self.give_up)
            self._successor = None
            self.state = LeavingState.WAITING

    def _take_turn(self) -> None:
        successor = self._successor
        if self.state is not LeavingState.ENLISTED or successor is None:
            return
        descriptor = self._socket.descriptor()
        if descriptor < 0:
            self.cancel()
            return
        parcel = self._socket.make_parcel()
        if parcel is None:
            self.give_up()
            return
        self.state = LeavingState.OFFERED
        if not successor.take(descriptor, parcel, self._settle):
            self._settle(False)

    def _settle(self, is_taken: bool) -> None:  # noqa: FBT001 - the port's call has one value
        if self.state is not LeavingState.OFFERED:
            return
        self._refused_by = successor = self._successor
        if is_taken:
            self._end(LeavingState.GONE)
            self._socket.release_socket()
        elif successor is not self.following or (successor is not None and successor.is_spent):
            self._enlist()
        else:
            self._end(LeavingState.KEPT)
            self._socket.keep()

    def _end(self, state: LeavingState) -> None:
        self.state = state
        self._cancel_timer()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
