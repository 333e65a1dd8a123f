"""What an HTTP/1.1 connection is doing: states, events, and the one table of both. Pure.

    SILENT, IDLE ──a part of a head──▶ HEAD
    SILENT, IDLE, HEAD ──a request──▶ EXCHANGE ──response──▶ IDLE
    EXCHANGE ──response, but not the rest of its body──▶ DISCARDING ──the rest──▶ IDLE
    EXCHANGE ──response that its client has yet to take──▶ DELIVERING ──taken──▶ IDLE
    SILENT, IDLE, HEAD ──a WebSocket handshake──▶ UPGRADED
    any ──last response, fault, deadline, loss──▶ CLOSING

What the connection does in a state and with an event is said in `connection.py`. A connection that waits for its
turn to leave, or is offered to another worker, is between two requests all the while (`idle_handover.py`). An event
that a state has no entry for is a mistake of the server, and raises.
"""

from enum import IntEnum
from typing import Final


class ConnectionState(IntEnum):
    # A number, so that a state is found in the table without a call of Python code.
    SILENT = 0
    """Accepted; nothing was received."""
    IDLE = 1
    """Between two requests."""
    HEAD = 2
    """Part of a request head was received."""
    EXCHANGE = 3
    """A request is being answered."""
    DISCARDING = 4
    """It is answered, and the rest of its body, which nobody reads, is awaited."""
    DELIVERING = 5
    """It is answered, and the client has yet to take enough of that."""
    CLOSING = 6
    """The last byte was written; what arrives is dropped."""
    UPGRADED = 7
    """A WebSocket connection has taken over the socket."""


class ConnectionEvent(IntEnum):
    PART_OF_HEAD = 0
    """A request head has begun."""
    REQUEST = 1
    """A request head is complete."""
    HANDSHAKE = 2
    """It was that of a WebSocket, which takes over."""
    HANDSHAKE_PUT_BACK = 3
    """It was, and is read once more, here or elsewhere."""
    BODY_LEFT = 4
    """The response is complete, and the rest of the request body has yet to come."""
    CLIENT_IS_SLOW = 5
    """The response is complete, and the client has yet to take enough of it."""
    FINISHED = 6
    """Request and response are complete; nothing is waited for."""
    END = 7
    """The connection ends, or has ended."""


_S = ConnectionState
_E = ConnectionEvent
_BETWEEN_REQUESTS: Final = {
    _E.PART_OF_HEAD: _S.HEAD,
    _E.REQUEST: _S.EXCHANGE,
    _E.HANDSHAKE: _S.UPGRADED,
    _E.HANDSHAKE_PUT_BACK: _S.HEAD,
    _E.END: _S.CLOSING,
}
TRANSITIONS: Final[dict[ConnectionState, dict[ConnectionEvent, ConnectionState]]] = {
    _S.SILENT: _BETWEEN_REQUESTS,
    _S.IDLE: _BETWEEN_REQUESTS,
    _S.HEAD: _BETWEEN_REQUESTS,
    _S.EXCHANGE: {
        _E.BODY_LEFT: _S.DISCARDING,
        _E.CLIENT_IS_SLOW: _S.DELIVERING,
        _E.FINISHED: _S.IDLE,
        _E.END: _S.CLOSING,
    },
    _S.DISCARDING: {_E.FINISHED: _S.IDLE, _E.END: _S.CLOSING},
    _S.DELIVERING: {_E.FINISHED: _S.IDLE, _E.END: _S.CLOSING},
    _S.CLOSING: {
        # A connection that was dropped is lost a turn of the loop later; its application may end until then.
        _E.BODY_LEFT: _S.CLOSING,
        _E.CLIENT_IS_SLOW: _S.CLOSING,
        _E.FINISHED: _S.CLOSING,
        _E.END: _S.CLOSING,
    },
    _S.UPGRADED: {},
}


def next_state(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """Return the state behind `event`. Raise AssertionError where the table has no entry."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise AssertionError(f"the state {state.name} has no entry for {event.name}")
    return following
