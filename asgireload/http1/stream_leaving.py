"""Decides when an event stream of a worker that drains moves to another worker, or ends.

    NOTIFIED ──a worker follows, and the stream can move──▶ TO_MOVE ──between two events──▶ DETACHED
        ──all is sent──▶ LEAVING (`leaving.py`) ──the other worker has it──▶ DONE
    NOTIFIED, TO_MOVE ──its time in the plan──▶ TO_END ──between two events──▶ DONE
    DETACHED, LEAVING ──too late, or refused──▶ DONE, with a complete response

A stream moves when its events have ids: the call of the application ends in this worker, and the worker that
follows calls its application with the id of the last event, as if the client had reconnected. The client sees one
response. Every other stream is completed between two events, at a time from the plan of the drain
(`close_plan.py`). Until then the application, which can see the drain in its scope, may end the stream by itself.

`StreamLeaving` never ends a stream within an event. Only the deadline of the drain does.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.http.drain_state import Successor
from asgireload.http1.leaving import Leaving, LeavingSocket


class StreamStage(Enum):
    """How far the stream is; see the diagram of the module."""

    NOTIFIED = auto()
    """The drain has begun; nothing was done yet."""
    TO_MOVE = auto()
    """The stream moves as soon as it is between two events."""
    TO_END = auto()
    """The stream ends as soon as it is between two events."""
    DETACHED = auto()
    """The application was told that the client has left, and the client has yet to read what was sent."""
    LEAVING = auto()
    """The connection waits for the worker that follows (`Leaving`)."""
    DONE = auto()
    """The stream has moved or ended."""


class LeavingStream(LeavingSocket, Protocol):
    """The interface of a connection to `StreamLeaving`.

    `keep` completes the response, and ends the call of the application if `detach` has not.
    """

    def can_move(self) -> bool:
        """Return whether the worker that follows can continue the stream."""

    def is_between_events(self) -> bool: ...

    def end_at(self) -> float:
        """Return the time, by the loop's clock, at which the stream ends if it cannot move. Called once."""

    def detach(self) -> None:
        """End the call of the application, by telling it that the client has left."""

    def is_settled(self) -> bool:
        """Return whether the write buffer of the transport is empty. If not, call `advance` when it is."""


class StreamLeaving:
    """Moves or ends one stream. Call `cancel` when the response or the connection ends in another way."""

    __slots__ = ("_leaving", "_loop", "_stage", "_stream", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, stream: LeavingStream) -> None:
        self._stage = StreamStage.NOTIFIED
        self._loop = loop
        self._stream = stream
        self._leaving = Leaving(loop, stream, None)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def stage(self) -> StreamStage:
        """The present stage; DONE also when `Leaving` is over."""
        if self._stage is StreamStage.LEAVING and self._leaving.is_over:
            return StreamStage.DONE
        return self._stage

    @property
    def is_detached(self) -> bool:
        """True while the application is detached, and the stream has neither moved nor ended."""
        stage = self.stage
        return stage is StreamStage.DETACHED or stage is StreamStage.LEAVING

    def follow(self, successor: Successor | None) -> None:
        """Note that the drain has begun, or that another worker follows, or none at present (None)."""
        self._leaving.follow(successor)
        if self._stage is StreamStage.NOTIFIED:
            self.advance()
            if self._timer is None and not self.is_detached:
                self._timer = self._loop.call_at(self._stream.end_at(), self._end_in_time)

    def advance(self) -> None:
        """Check for the next step, after a piece was sent or the write buffer of the transport became empty."""
        stream = self._stream
        if self._stage is StreamStage.NOTIFIED and self._has_somewhere_to_go():
            self._stage = StreamStage.TO_MOVE
        if self._stage is StreamStage.TO_MOVE and stream.is_between_events():
            if not self._has_somewhere_to_go():
                self._stage = StreamStage.NOTIFIED  # the timer for `end_at` still runs
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
        """Call no method of the stream any more."""
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
        """End the stream, because the client has not read in time what was sent."""
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
