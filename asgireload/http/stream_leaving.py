"""An event stream on its way out of a worker that drains.

    NOTIFIED ──a worker follows, and the stream can move──▶ TO_MOVE ──between two events──▶ DETACHED
        ──all is sent──▶ ENLISTED ──turn──▶ OFFERED ──taken──▶ DONE
    NOTIFIED ──its time has come──▶ TO_END ──between two events──▶ DONE
    DETACHED, ENLISTED, OFFERED ──nobody follows──▶ WAITING ──another follows──▶ ENLISTED
    DETACHED, ENLISTED, OFFERED, WAITING ──refused, or too late──▶ DONE, with a proper end

A stream moves when its events have ids: the application's call ends here, and the worker that follows calls its own
with the id of the last event, as the client would after a reconnect; the client sees one response. Every other
stream is ended between two events, with the end that its framing has, at the time that the drain's plan gives it;
until then the application, which has heard of the drain, may end it by itself.

What this asks of the connection is in `LeavingStream`. It never ends a stream within an event: the deadline of the
drain does, if nothing else came.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.http.context import Successor
from asgireload.ipc.parcels import EventStreamParcel


class LeavingStage(Enum):
    NOTIFIED = auto()
    """The application has heard of the drain; nothing is done yet."""
    TO_MOVE = auto()
    """Moves between two events."""
    TO_END = auto()
    """Ends between two events."""
    DETACHED = auto()
    """The application's call is over here, and the client has yet to take what was sent."""
    ENLISTED = auto()
    """The successor will give it a turn."""
    OFFERED = auto()
    """The successor decides."""
    WAITING = auto()
    """Ready to move, and nobody is there to move to."""
    DONE = auto()


class LeavingStream(Protocol):
    """What a stream needs of its connection to leave."""

    def can_move(self) -> bool:
        """Whether the worker that follows can go on with it."""

    def is_between_events(self) -> bool: ...

    def end_at(self) -> float:
        """Return when it is to end if it cannot move, by the loop's clock. Called once."""

    def patience(self) -> float:
        """Return for how many seconds from now it can wait, and still be ended in time."""

    def detach(self) -> None:
        """End the application's call: to it the client has left."""

    def is_settled(self) -> bool:
        """Whether the transport holds nothing; if it does, see to it that `advance` is called when it does not."""

    def descriptor(self) -> int:
        """Return the socket's, or -1 when the connection is about to end by itself."""

    def make_parcel(self) -> EventStreamParcel: ...

    def part(self) -> None:
        """The connection is the other worker's: close the descriptor without a word."""

    def end(self) -> None:
        """End the stream as its framing does, and the application's call if it is not over."""


class StreamLeaving:
    """One stream's leaving. `cancel` it when the response or the connection ends in another way."""

    __slots__ = ("_following", "_loop", "_refused_by", "_stream", "_successor", "_timer", "stage")

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: LeavingStream) -> None:
        self.stage = LeavingStage.NOTIFIED
        self._loop = loop
        self._stream = stream
        self._following: Successor | None = None
        """Who follows now."""
        self._successor: Successor | None = None
        """Where the stream is enlisted, or offered."""
        self._refused_by: Successor | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_detached(self) -> bool:
        return self.stage in (
            LeavingStage.DETACHED,
            LeavingStage.ENLISTED,
            LeavingStage.OFFERED,
            LeavingStage.WAITING,
        )

    def follow(self, successor: Successor | None) -> None:
        """The drain has begun, or begins anew: another worker follows, or none just now."""
        self._following = successor
        if self.stage is LeavingStage.NOTIFIED:
            self.advance()
            if self._timer is None and not self.is_detached:
                self._timer = self._loop.call_at(self._stream.end_at(), self._end_in_time)
        elif (self.stage is LeavingStage.ENLISTED and successor is not self._successor) or (
            self.stage is LeavingStage.WAITING and successor is not None
        ):
            self._enlist()

    def advance(self) -> None:
        """A piece was sent, or the transport's buffer has become empty."""
        stream = self._stream
        if self.stage is LeavingStage.NOTIFIED and self._has_somewhere_to_go():
            self.stage = LeavingStage.TO_MOVE
        if self.stage is LeavingStage.TO_MOVE and stream.is_between_events():
            if not self._has_somewhere_to_go():
                self.stage = LeavingStage.NOTIFIED  # it is ended in its time
                return
            self._wait(stream.patience())
            self.stage = LeavingStage.DETACHED
            stream.detach()
        if self.stage is LeavingStage.DETACHED and stream.is_settled():
            self._enlist()
        elif self.stage is LeavingStage.TO_END and stream.is_between_events():
            self._end()

    def cancel(self) -> None:
        self.stage = LeavingStage.DONE
        self._cancel_timer()

    def _has_somewhere_to_go(self) -> bool:
        return self._following is not None and self._stream.can_move()

    def _end_in_time(self) -> None:
        self._timer = None
        if self.stage is LeavingStage.NOTIFIED or self.stage is LeavingStage.TO_MOVE:
            self.stage = LeavingStage.TO_END
            self.advance()

    def _enlist(self) -> None:
        """Ask who follows for a turn, or wait for somebody who does."""
        successor = self._following
        if successor is not None and successor is not self._refused_by:
            self._wait(self._stream.patience())
            self._successor = successor
            self.stage = LeavingStage.ENLISTED
            successor.enlist(self._take_turn)
        elif self.stage is not LeavingStage.WAITING:
            self._wait(self._stream.patience())
            self._successor = None
            self.stage = LeavingStage.WAITING

    def _take_turn(self) -> None:
        successor = self._successor
        if self.stage is not LeavingStage.ENLISTED or successor is None:
            return
        stream = self._stream
        descriptor = stream.descriptor()
        if descriptor < 0:
            self.cancel()
        elif not stream.can_move():
            self._end()
        else:
            self.stage = LeavingStage.OFFERED
            if not successor.take(descriptor, stream.make_parcel(), self._settle):
                self._settle(False)

    def _settle(self, is_taken: bool) -> None:  # noqa: FBT001 - the port's call has one value
        if self.stage is not LeavingStage.OFFERED:
            return
        self._refused_by = successor = self._successor
        if is_taken:
            self.cancel()
            self._stream.part()
        elif successor is not self._following or (successor is not None and successor.is_spent):
            self._enlist()
        else:
            self._end()

    def _end(self) -> None:
        self.cancel()
        self._stream.end()

    def _wait(self, seconds: float) -> None:
        """Give up after so long, unless it is the successor who decides."""
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._timer = None
        if self.is_detached and self.stage is not LeavingStage.OFFERED:
            self._end()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
