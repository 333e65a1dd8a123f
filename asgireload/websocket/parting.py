"""An open WebSocket on its way to the worker that follows, and what it waits for.

    ASKED ──state──▶ ANSWERED ──application has returned, all is sent──▶ ENLISTED ──turn──▶ OFFERED ──taken──▶ DONE
                        └──nobody follows──▶ WAITING ◀──it is gone──┘  │        ◀──gone, or full──┘
                                                └──another follows──▶ ENLISTED
      any but OFFERED ──too late, failed, declined──▶ FAILED ◀──not such a parcel── OFFERED

Nothing is read from the moment of asking, so that what the client sends waits for the other worker. While
OFFERED nothing may be written either. The connection does what it is told here through `PartingSocket`.

The application has left by then, so a connection that nobody takes could only be closed. But the successor may
die in the middle, or be full, and another be named in its place a moment later: it waits for that one.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.errors import AppProtocolError
from asgireload.http.context import Successor
from asgireload.ipc.parcels import WebSocketParcel


class PartingStage(Enum):
    ASKED = auto()
    """The application is to give its state."""
    ANSWERED = auto()
    """It has, and has yet to return, or the client to take what was sent."""
    ENLISTED = auto()
    """The successor will give it a turn."""
    OFFERED = auto()
    """The successor decides."""
    WAITING = auto()
    """Ready to go, and nobody is there to go to."""
    DONE = auto()
    FAILED = auto()
    """It stays here, to be closed."""


class PartingSocket(Protocol):
    """What a parting needs of its connection."""

    def is_settled(self) -> bool:
        """Whether the application has returned and the transport holds nothing; if it holds something, see to
        it that `Parting.advance` is called when it does not."""

    def patience(self) -> float:
        """Return for how many seconds from now it can wait, and still be closed in time."""

    def descriptor(self) -> int:
        """Return the socket's, or -1 when the connection is about to end by itself."""

    def make_parcel(self, app_state: bytes) -> WebSocketParcel: ...

    def part(self) -> None:
        """The connection is the other worker's: close the descriptor without a word."""

    def stay(self) -> None:
        """It stays here after all: see to it that it is closed."""


class Parting:
    """One connection's leaving. The patience of its socket is for the application and for a client that is slow to
    read, and again for each time that the successor is lost and another awaited."""

    __slots__ = (
        "_app_state",
        "_following",
        "_loop",
        "_refused_by",
        "_socket",
        "_successor",
        "_timer",
        "is_notice_due",
        "stage",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, successor: Successor, socket: PartingSocket
    ) -> None:
        self.stage = PartingStage.ASKED
        self.is_notice_due = True
        """The application has not received `websocket.handover`."""
        self._following: Successor | None = successor
        """Who follows now."""
        self._successor: Successor | None = None
        """Where the connection is enlisted, or offered."""
        self._refused_by: Successor | None = None
        self._socket = socket
        self._app_state = b""
        self._loop = loop
        self._timer = loop.call_later(socket.patience(), self.fail)

    def answer(self, state: object, max_state: int) -> None:
        """Take the application's state. Raise AppProtocolError for what is none."""
        if not isinstance(state, bytes | bytearray | memoryview):
            raise AppProtocolError(
                f"the state of websocket.handover must be bytes, not {type(state).__name__}"
            )
        data = bytes(state)
        if len(data) > max_state:
            raise AppProtocolError(
                f"the state of websocket.handover has {len(data)} bytes, more than the"
                f" {max_state} of ws_handover_max_state; keep large things elsewhere, and their key here"
            )
        self._app_state = data
        self.stage = PartingStage.ANSWERED

    def advance(self) -> None:
        """The application has returned, or the transport's buffer has become empty."""
        if self.stage is PartingStage.ANSWERED and self._socket.is_settled():
            self._enlist()

    def follow(self, successor: Successor | None) -> None:
        """The drain has begun anew: another worker follows, or none just now."""
        self._following = successor
        if (self.stage is PartingStage.ENLISTED and successor is not self._successor) or (
            self.stage is PartingStage.WAITING and successor is not None
        ):
            self._enlist()

    def fail(self) -> None:
        """Give up, unless it is the successor who decides or all is over."""
        if self.stage not in (PartingStage.OFFERED, PartingStage.DONE, PartingStage.FAILED):
            self._end(PartingStage.FAILED)
            self._socket.stay()

    def cancel(self) -> None:
        """The connection has ended in another way."""
        if self.stage is not PartingStage.DONE:
            self._end(PartingStage.FAILED)

    def _enlist(self) -> None:
        """Ask who follows for a turn, or wait for somebody who does."""
        successor = self._following
        if successor is not None and successor is not self._refused_by:
            self._timer.cancel()
            self._successor = successor
            self.stage = PartingStage.ENLISTED
            successor.enlist(self._take_turn)
        elif self.stage is not PartingStage.WAITING:
            self._timer.cancel()
            self._timer = self._loop.call_later(self._socket.patience(), self.fail)
            self._successor = None
            self.stage = PartingStage.WAITING

    def _take_turn(self) -> None:
        successor = self._successor
        if self.stage is not PartingStage.ENLISTED or successor is None:
            return
        descriptor = self._socket.descriptor()
        if descriptor < 0:
            self.cancel()
            return
        parcel = self._socket.make_parcel(self._app_state)
        self.stage = PartingStage.OFFERED
        if not successor.take(descriptor, parcel, self._settle):
            self._settle(False)

    def _settle(self, is_taken: bool) -> None:  # noqa: FBT001 - the port's call has one value
        if self.stage is not PartingStage.OFFERED:
            return
        self._refused_by = successor = self._successor
        if is_taken:
            self._end(PartingStage.DONE)
            self._socket.part()
        elif successor is not self._following or (successor is not None and successor.is_spent):
            self._enlist()
        else:
            self._end(PartingStage.FAILED)
            self._socket.stay()

    def _end(self, stage: PartingStage) -> None:
        self.stage = stage
        self._timer.cancel()
        self._app_state = b""
