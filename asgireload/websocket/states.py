"""The states of one WebSocket, as a table of states and events. Pure.

    CONNECTING ──accept──▶ OPEN ──close sent──▶ CLOSING ──close received──▶ CLOSED
    CONNECTING ──refuse──▶ REFUSED              CONNECTING ──deny──▶ DENYING ──refuse──▶ REFUSED
    RESUMING ──accept──▶ OPEN                   OPEN ──hand over──▶ LEAVING ──keep──▶ OPEN

From every state a lost connection leads to CLOSED. An event without an entry is a bug in the server.
"""

from enum import Enum, auto
from typing import Final


class WebSocketState(Enum):
    CONNECTING = auto()
    """The application has not yet answered the handshake."""
    DENYING = auto()
    """The application answers the handshake with an HTTP response."""
    RESUMING = auto()
    """The handshake was answered in another worker; the application here has yet to accept."""
    OPEN = auto()
    LEAVING = auto()
    """The application has given its state; another worker is to continue the connection."""
    CLOSING = auto()
    """The server's close frame was sent; the peer's is awaited."""
    REFUSED = auto()
    """The handshake was answered with an HTTP response, which ends the connection."""
    CLOSED = auto()


class WebSocketEvent(Enum):
    ACCEPT = auto()
    """The application accepts."""
    DENY = auto()
    """The application begins an HTTP response to the handshake."""
    REFUSE = auto()
    """The handshake was answered with an HTTP response, whose last byte was written."""
    HAND_OVER = auto()
    """The application has given its state for another worker."""
    KEEP = auto()
    """No other worker takes the connection."""
    SEND_CLOSE = auto()
    """The server's close frame is sent."""
    RECEIVE_CLOSE = auto()
    """The peer's close frame was received, or an invalid frame that has ended the session."""
    LOSE = auto()
    """The socket is closed."""


_S = WebSocketState
_E = WebSocketEvent

TRANSITIONS: Final[dict[tuple[WebSocketState, WebSocketEvent], WebSocketState]] = {
    (_S.CONNECTING, _E.ACCEPT): _S.OPEN,
    (_S.CONNECTING, _E.DENY): _S.DENYING,
    (_S.CONNECTING, _E.REFUSE): _S.REFUSED,
    (_S.DENYING, _E.REFUSE): _S.REFUSED,
    (_S.RESUMING, _E.ACCEPT): _S.OPEN,
    (_S.RESUMING, _E.SEND_CLOSE): _S.CLOSING,
    (_S.OPEN, _E.HAND_OVER): _S.LEAVING,
    (_S.OPEN, _E.KEEP): _S.OPEN,
    (_S.OPEN, _E.SEND_CLOSE): _S.CLOSING,
    # The session has put the server's close frame into its answer; bytes that still arrive are dropped.
    (_S.OPEN, _E.RECEIVE_CLOSE): _S.CLOSING,
    (_S.LEAVING, _E.KEEP): _S.OPEN,
    (_S.LEAVING, _E.SEND_CLOSE): _S.CLOSING,
    # The client has stopped reading meanwhile, and its close frame had waited for room in the queue.
    (_S.LEAVING, _E.RECEIVE_CLOSE): _S.CLOSING,
    (_S.CLOSING, _E.RECEIVE_CLOSE): _S.CLOSED,
    # The close frame was received before the connection was lost, and waited for room in the queue.
    (_S.CLOSED, _E.RECEIVE_CLOSE): _S.CLOSED,
    **{(state, _E.LOSE): _S.CLOSED for state in WebSocketState},
}


def next_state(state: WebSocketState, event: WebSocketEvent) -> WebSocketState:
    """Return the state after `event`. Raise AssertionError, naming both, when the table has no entry."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise AssertionError(f"a WebSocket that is {state.name} cannot {event.name}")
    return after


def is_before_open(state: WebSocketState) -> bool:
    """Return whether the application has not accepted the connection."""
    return (
        state is WebSocketState.CONNECTING
        or state is WebSocketState.DENYING
        or state is WebSocketState.RESUMING
    )
