"""Who reads and writes the frames of an open WebSocket: our own session, or one over wsproto.

Both keep the same limits, compress with the same code and can be handed over to each other. Ours is the default and
needs nothing installed; the other is there for who trusts the library more.

A connection calls its session for every message. Compiled, a call of ours is preceded by one comparison of the
session's type, and not slower otherwise: there is no class above both.
"""

from typing import TYPE_CHECKING, TypeAlias

from asgireload.websocket.deflate import DeflateParameters
from asgireload.websocket.handover import SessionState
from asgireload.websocket.session import SessionLimits, WebSocketSession
from asgireload.websocket.settings import SessionName

if TYPE_CHECKING:
    from asgireload.websocket._wsproto import WsprotoSession

Session: TypeAlias = "WebSocketSession | WsprotoSession"


def choose_session(ws: str) -> SessionName:
    """Return the session that the option `ws` means; auto takes ours. Load what it needs, once for all connections.

    Raise ImportError when the library is not installed.
    """
    if ws != "wsproto":
        return "builtin"
    import asgireload.websocket._wsproto  # noqa: F401

    return "wsproto"


def new_session(
    name: SessionName,
    limits: SessionLimits,
    deflate: DeflateParameters | None,
    state: SessionState | None,
    *,
    is_movable: bool,
) -> Session:
    """Return the session of one connection; see `WebSocketSession`."""
    if name == "wsproto":
        # The library is an extra: loaded only when chosen.
        from asgireload.websocket._wsproto import WsprotoSession

        return WsprotoSession(limits, deflate, state, is_movable=is_movable)
    return WebSocketSession(limits, deflate, state, is_movable=is_movable)
