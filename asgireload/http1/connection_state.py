"""The states of an HTTP/1.1 connection, their events, and the table of transitions. Pure.

    SILENT, IDLE ──a part of a head──▶ HEAD
    SILENT, IDLE, HEAD ──a request──▶ EXCHANGE ──response──▶ IDLE
    EXCHANGE ──response before the end of the request body──▶ DISCARDING ──rest of the body──▶ IDLE
    EXCHANGE ──response that the client has yet to read──▶ DELIVERING ──read──▶ IDLE
    SILENT, IDLE, HEAD ──a WebSocket handshake──▶ UPGRADED
    any ──last response, fault, deadline, loss──▶ CLOSING

`connection.py` acts on the states and events. A connection that waits for its turn to leave, or is offered to
another worker, remains in SILENT, IDLE or HEAD (`idle_handover.py`). An event for which a state has no entry is a
bug in the server, and raises AssertionError.
"""

from enum import IntEnum
from typing import Final


class ConnectionState(IntEnum):
    """The states of a connection; see the table `TRANSITIONS`."""

    # An IntEnum, because hashing a plain Enum member calls Python code at each look into the table.
    SILENT = 0
    """The connection was accepted; nothing was received."""
    IDLE = 1
    """Between two requests."""
    HEAD = 2
    """Part of a request head was received."""
    EXCHANGE = 3
    """A request is being answered."""
    DISCARDING = 4
    """The response is complete; the rest of the request body is received and dropped."""
    DELIVERING = 5
    """The response is complete; the client has yet to read enough of it."""
    CLOSING = 6
    """The last byte was written; received bytes are dropped."""
    UPGRADED = 7
    """A WebSocket connection has taken over the socket."""


class ConnectionEvent(IntEnum):
    """The events that change the state of a connection."""

    PART_OF_HEAD = 0
    """A request head has begun."""
    REQUEST = 1
    """A request head is complete."""
    HANDSHAKE = 2
    """The head of a WebSocket handshake is complete; a WebSocket connection takes over the socket."""
    HANDSHAKE_PUT_BACK = 3
    """The head of a WebSocket handshake is complete, and is parsed again later, here or in another worker."""
    BODY_LEFT = 4
    """The response is complete, and the rest of the request body has yet to come."""
    CLIENT_IS_SLOW = 5
    """The response is complete, and the client has yet to read enough of it."""
    FINISHED = 6
    """Request and response are complete."""
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
        # `connection_lost` follows a drop one turn of the loop later; the application may end before that.
        _E.BODY_LEFT: _S.CLOSING,
        _E.CLIENT_IS_SLOW: _S.CLOSING,
        _E.FINISHED: _S.CLOSING,
        _E.END: _S.CLOSING,
    },
    # The socket is lost before the WebSocket connection has it: the handshake could not be taken over.
    _S.UPGRADED: {_E.END: _S.CLOSING},
}


def next_state(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """Return the state after `event`. Raise AssertionError when the table has no entry for both."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise AssertionError(f"the state {state.name} has no entry for {event.name}")
    return following
