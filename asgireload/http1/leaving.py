"""The handover of an event stream or WebSocket to another worker, once its application's call has ended here.

    STAYING ──begin──▶ ENLISTED ──turn──▶ OFFERED ──taken──▶ GONE
       └───begin──▶ WAITING ◀──no worker follows──┘ (ENLISTED, OFFERED)
    WAITING ──another worker follows──▶ ENLISTED
    any but OFFERED ──too late──▶ KEPT ◀──refused── OFFERED

Until it is OFFERED, the connection belongs to this worker, and from GONE on to the other worker. In between,
nothing may be read from it or written to it. A connection that is KEPT can only be ended, because its application
has been told that the client has left. So a connection whose successor is lost is not KEPT at once, but waits for
another successor, for `LeavingSocket.patience` seconds.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor
from asgireload.ipc.parcels import Parcel


class LeavingState(Enum):
    """How far the handover is; see the diagram of the module."""

    STAYING = auto()
    """`begin` was not called yet."""
    ENLISTED = auto()
    """The connection waits for a turn to be offered to the successor."""
    OFFERED = auto()
    """The connection was offered; the successor has not answered yet."""
    WAITING = auto()
    """The connection is ready to be offered, and there is no successor at present."""
    GONE = auto()
    """The successor has taken the connection."""
    KEPT = auto()
    """The connection ends in this worker."""


_OVER = (LeavingState.GONE, LeavingState.KEPT)


class LeavingSocket(Protocol):
    """The interface of a connection to `Leaving`."""

    def patience(self) -> float:
        """Return for how many seconds from now the connection can wait and still be ended in time."""

    def descriptor(self) -> int:
        """Return the descriptor of the socket, or -1 when the connection is about to end by itself."""

    def make_parcel(self) -> Parcel | None:
        """Return what the other worker needs beside the socket; None when the connection can no longer move."""

    def release_socket(self) -> None:
        """Close the descriptor without writing and without shutdown(): the other worker uses the socket."""

    def keep(self) -> None:
        """End the connection: no worker takes it."""


class Leaving:
    """Hands one connection over to the worker that follows.

    Call `cancel` when the connection ends in another way.
    """

    __slots__ = ("_loop", "_refused_by", "_socket", "_successor", "_timer", "following", "state")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: LeavingSocket, following: Successor | None
    ) -> None:
        self.state = LeavingState.STAYING
        self.following = following
        """The worker that follows at present; None when there is none."""
        self._loop = loop
        self._socket = socket
        self._successor: Successor | None = None
        """The worker at which the connection is enlisted, or to which it is offered."""
        self._refused_by: Successor | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """True when the state is GONE or KEPT."""
        return self.state in _OVER

    def begin(self) -> None:
        """Enlist the connection, which is ready to be offered. Called again, it does nothing."""
        if self.state is LeavingState.STAYING:
            self._enlist()

    def follow(self, successor: Successor | None) -> None:
        """Note that another worker follows, or none at present (None)."""
        self.following = successor
        if (self.state is LeavingState.ENLISTED and successor is not self._successor) or (
            self.state is LeavingState.WAITING and successor is not None
        ):
            self._enlist()

    def give_up(self) -> None:
        """Keep the connection, unless it is OFFERED, GONE or KEPT."""
        if self.state is not LeavingState.OFFERED and not self.is_over:
            self._end(LeavingState.KEPT)
            self._socket.keep()

    def cancel(self) -> None:
        """Call no method of the connection any more."""
        if self.state is not LeavingState.GONE:
            self._end(LeavingState.KEPT)

    def _enlist(self) -> None:
        """Ask the worker that follows for a turn, or wait until a worker follows."""
        successor = self.following
        if successor is not None and successor is not self._refused_by:
            # No timeout while the connection is enlisted: its turn comes, or the successor is lost.
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
