"""An event stream that leaves a worker that drains.

    NOTIFIED ──a worker follows, and the stream can move──▶ TO_MOVE ──between two events──▶ DETACHED
        ──all is sent──▶ LEAVING (`leaving.py`) ──the other worker has it──▶ DONE
    NOTIFIED ──its time has come──▶ TO_END ──between two events──▶ DONE
    DETACHED, LEAVING ──too late, or refused──▶ DONE, with a proper end

A stream moves when its events have ids: the application's call ends here, and the worker that follows calls its own
with the id of the last event, as the client would after a reconnect; the client sees one response. Every other
stream is ended between two events, with the end that its framing has, at the time that the drain's plan gives it;
until then the application, which has heard of the drain, may end it by itself.

`StreamLeaving` never ends a stream within an event: the deadline of the drain does, if nothing else came.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor
from asgireload.http1.leaving import Leaving, LeavingSocket


class StreamStage(Enum):
    NOTIFIED = auto()
    """The application has heard of the drain; nothing is done yet."""
    TO_MOVE = auto()
    """Moves between two events."""
    TO_END = auto()
    """Ends between two events."""
    DETACHED = auto()
    """The application's call is over here, and the client has yet to take what was sent."""
    LEAVING = auto()
    """It waits for the worker that follows."""
    DONE = auto()


class LeavingStream(LeavingSocket, Protocol):
    """What a stream that leaves asks of its connection. `keep` ends it as its framing does, and the application's
    call if that is not over."""

    def can_move(self) -> bool:
        """Whether the worker that follows can go on with it."""

    def is_between_events(self) -> bool: ...

    def end_at(self) -> float:
        """Return when it is to end if it cannot move, by the loop's clock. Called once."""

    def detach(self) -> None:
        """End the application's call: to it the client has left."""

    def is_settled(self) -> bool:
        """Whether the transport holds nothing; if it does, see to it that `advance` is called when it does not."""


class StreamLeaving:
    """The leaving of one stream. `cancel` it when the response or the connection ends in another way."""

    __slots__ = ("_leaving", "_loop", "_stage", "_stream", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: LeavingStream) -> None:
        self._stage = StreamStage.NOTIFIED
        self._loop = loop
        self._stream = stream
        self._leaving = Leaving(loop, stream, None)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stage(self) -> StreamStage:
        if self._stage is StreamStage.LEAVING and self._leaving.is_over:
            return StreamStage.DONE
        return self._stage

    @property
    def is_detached(self) -> bool:
        stage = self.stage
        return stage is StreamStage.DETACHED or stage is StreamStage.LEAVING

    def follow(self, successor: Successor | None) -> None:
        """The drain has begun, or begins anew: another worker follows, or none at present."""
        self._leaving.follow(successor)
        if self._stage is StreamStage.NOTIFIED:
            self.advance()
            if self._timer is None and not self.is_detached:
                self._timer = self._loop.call_at(self._stream.end_at(), self._end_in_time)

    def advance(self) -> None:
        """A piece was sent, or the transport's buffer has become empty."""
        stream = self._stream
        if self._stage is StreamStage.NOTIFIED and self._has_somewhere_to_go():
            self._stage = StreamStage.TO_MOVE
        if self._stage is StreamStage.TO_MOVE and stream.is_between_events():
            if not self._has_somewhere_to_go():
                self._stage = StreamStage.NOTIFIED  # it is ended in its time
                return
            self._cancel_timer()
            self._timer = self._loop.call_later(stream.patience(), self._give_up)
            self._stage = StreamStage.DETACHED
            stream.detach()
        if self._stage is StreamStage.DETACHED and stream.is_settled():
            self._cancel_timer()
            self._stage = StreamStage.LEAVING
            self._leaving.begin()
        elif self._stage is StreamStage.TO_END and stream.is_between_events():
            self._end()

    def cancel(self) -> None:
        self._stage = StreamStage.DONE
        self._cancel_timer()
        self._leaving.cancel()

    def _has_somewhere_to_go(self) -> bool:
        return self._leaving.following is not None and self._stream.can_move()

    def _end_in_time(self) -> None:
        self._timer = None
        if self._stage is StreamStage.NOTIFIED or self._stage is StreamStage.TO_MOVE:
            self._stage = StreamStage.TO_END
            self.advance()

    def _give_up(self) -> None:
        """The client has not taken what was sent in time."""
        self._timer = None
        if self._stage is StreamStage.DETACHED:
            self._end()

    def _end(self) -> None:
        self.cancel()
        self._stream.keep()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
