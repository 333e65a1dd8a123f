"""The handover of one open WebSocket to a handover target, and the conditions that it waits for.

    ASKED ──state──▶ ANSWERED ──application has returned, all is sent──▶ LEAVING (`http1/leaving.py`) ──▶ DONE
      ASKED, ANSWERED ──too late, failed, declined──▶ DONE, to be closed here

Nothing is read from ASKED on, so that bytes from the client wait in the socket for the other worker.
"""

import asyncio
from enum import Enum, auto
from typing import Protocol

from asgireload.errors import AppProtocolError
from asgireload.http.drain_state import Successor
from asgireload.http1.leaving import Leaving, LeavingSocket, LeavingState


class HandoverStage(Enum):
    ASKED = auto()
    """The application has to give its state."""
    ANSWERED = auto()
    """The application has given its state, but has not returned, or the client has not read everything."""
    LEAVING = auto()
    """The connection waits for a turn of the handover target, or for its answer."""
    DONE = auto()
    """The other worker has the connection, or the connection ends here."""


class LeavingWebSocket(LeavingSocket, Protocol):
    """The interface that `WebSocketLeaving` uses of its connection. `keep` must close the connection, soon."""

    def is_settled(self) -> bool:
        """Return whether the application has returned and the transport's buffer is empty.

        If the buffer is not empty, the connection must call `WebSocketLeaving.advance` when it is.
        """


class WebSocketLeaving:
    """Hands one WebSocket over.

    `socket.patience()` bounds the time that the application and a slow client have before the handover, and, each
    time that the handover target is lost, the wait for another.
    """

    __slots__ = ("_leaving", "_socket", "_stage", "_timer", "app_state", "is_notice_due")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, successor: Successor, socket: LeavingWebSocket
    ) -> None:
        self.is_notice_due = True
        """The application has not received `websocket.handover`."""
        self.app_state = b""
        """The state that the application has given for the other worker."""
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
        """Take the application's state. Raise AppProtocolError unless it is bytes, at most `max_state` of them."""
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
        """Begin the handover if the connection is settled. Called when the application has returned, or the
        transport's buffer is empty."""
        if self._stage is HandoverStage.ANSWERED and self._socket.is_settled():
            self._timer.cancel()
            self._stage = HandoverStage.LEAVING
            self._leaving.begin()

    def follow(self, successor: Successor | None) -> None:
        """Change to another handover target, or to none at present, because the drain has begun anew."""
        self._leaving.follow(successor)

    def fail(self) -> None:
        """Give up the handover and keep the connection. No effect while it is offered, or at the end."""
        if self._stage is HandoverStage.LEAVING:
            self._leaving.give_up()
        elif self._stage is not HandoverStage.DONE:
            self.cancel()
            self._socket.keep()

    def cancel(self) -> None:
        """End the handover, because the connection has ended in another way. Idempotent."""
        self._timer.cancel()
        if self._stage is not HandoverStage.LEAVING:
            self._stage = HandoverStage.DONE
        self._leaving.cancel()
