"""Choose the session that reads and writes the frames of a WebSocket: the built-in one, or one that uses wsproto.

Both enforce the same limits, compress with the same code and can be handed over to each other. The built-in session
is the default and needs no library; the other is for users who trust wsproto more.

The two classes have no common base class. A connection calls its session for every message, and in compiled code a
call of the built-in session costs only one comparison of the session's type more.
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
    """Return the name of the session for the option `ws`, and import its modules. "auto" means the built-in
    session.

    Raise ImportError when wsproto is chosen and not installed.
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
    """Return a new session for one connection; see `WebSocketSession`."""
    if name == "wsproto":
        # wsproto is an optional dependency, imported only when chosen.
        from asgireload.websocket._wsproto import WsprotoSession

        return WsprotoSession(limits, deflate, state, is_movable=is_movable)
    return WebSocketSession(limits, deflate, state, is_movable=is_movable)
