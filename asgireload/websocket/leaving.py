"""An open WebSocket that leaves for the worker that follows, and what it waits for before.

    ASKED ──state──▶ ANSWERED ──application has returned, all is sent──▶ LEAVING (`http1/leaving.py`) ──▶ DONE
      ASKED, ANSWERED ──too late, failed, declined──▶ DONE, to be closed here

Nothing is read from the moment of asking, so that what the client sends waits for the other worker.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.errors import AppProtocolError
from asgireload.http.drain_state import Successor
from asgireload.http1.leaving import Leaving, LeavingSocket, LeavingState


class HandoverStage(Enum):
    ASKED = auto()
    """The application is to give its state."""
    ANSWERED = auto()
    """It has, and has yet to return, or the client to take what was sent."""
    LEAVING = auto()
    """It waits for the worker that follows."""
    DONE = auto()
    """The other worker has it, or it ends here."""


class LeavingWebSocket(LeavingSocket, Protocol):
    """What a WebSocket that leaves asks of its connection. `keep` sees to it that it is closed."""

    def is_settled(self) -> bool:
        """Whether the application has returned and the transport holds nothing; if it holds something, see to
        it that `WebSocketLeaving.advance` is called when it does not."""


class WebSocketLeaving:
    """The leaving of one WebSocket. The patience of its socket is for the application and for a client that is slow
    to read, and again for each time that the successor is lost and another awaited."""

    __slots__ = ("_leaving", "_socket", "_stage", "_timer", "app_state", "is_notice_due")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, successor: Successor, socket: LeavingWebSocket
    ) -> None:
        self.is_notice_due = True
        """The application has not received `websocket.handover`."""
        self.app_state = b""
        """What the application has given for the other worker."""
        self._stage = HandoverStage.ASKED
        self._socket = socket
        self._leaving = Leaving(loop, socket, successor)
        self._timer = loop.call_later(socket.patience(), self.fail)

    @property
    def stage(self) -> HandoverStage:
        if self._stage is HandoverStage.LEAVING and self._leaving.is_over:
            return HandoverStage.DONE
        return self._stage

    @property
    def state(self) -> LeavingState:
        return self._leaving.state

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
        self.app_state = data
        self._stage = HandoverStage.ANSWERED

    def advance(self) -> None:
        """The application has returned, or the transport's buffer has become empty."""
        if self._stage is HandoverStage.ANSWERED and self._socket.is_settled():
            self._timer.cancel()
            self._stage = HandoverStage.LEAVING
            self._leaving.begin()

    def follow(self, successor: Successor | None) -> None:
        """The drain has begun anew: another worker follows, or none at present."""
        self._leaving.follow(successor)

    def fail(self) -> None:
        """Give up, unless it is the successor who decides or all is over."""
        if self._stage is HandoverStage.LEAVING:
            self._leaving.give_up()
        elif self._stage is not HandoverStage.DONE:
            self.cancel()
            self._socket.keep()

    def cancel(self) -> None:
        """The connection has ended in another way."""
        self._timer.cancel()
        if self._stage is not HandoverStage.LEAVING:
            self._stage = HandoverStage.DONE
        self._leaving.cancel()
