"""For applications: WebSockets that stay open when their worker drains.

This module has types for the messages of the handover extension (docs/reference/handover.md). Applications of
frameworks whose WebSocket classes do not support these messages are wrapped in `KeepWebSockets`, and use
`kept(scope)`:

    app = KeepWebSockets(FastAPI())

    async def chat(websocket: WebSocket):
        keep = kept(websocket.scope)
        name = keep.state.decode() or "guest"      # b"" in a new connection
        keep.save = lambda: name.encode()
        await websocket.accept()
        …

With another server, or when a connection cannot be handed over, `save` is never called.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NotRequired, Required, TypedDict

from asgireload.asgi import ASGIApp, Message, Receive, Scope, Send

EXTENSION = "asgireload.handover"
"""The key in `scope["extensions"]` of a WebSocket that can be handed over; its value is a `HandoverExtension`."""
_KEPT = "asgireload.kept"


class HandoverExtension(TypedDict):
    """The value of the extension in a WebSocket scope."""

    max_state: int
    """Largest accepted state, in bytes."""
    state: NotRequired[bytes]
    """The state that the application has saved in the former worker. Absent in a new connection."""


class WebSocketAccept(TypedDict):
    """The message that accepts a WebSocket, in every worker; `handover` true allows handovers of the connection."""

    type: Required[Literal["websocket.accept"]]
    subprotocol: NotRequired[str | None]
    headers: NotRequired[Iterable[tuple[bytes, bytes]]]
    handover: NotRequired[bool]


class HandoverRequest(TypedDict):
    """The message that the application receives once, when the worker drains. Only `websocket.disconnect` may
    follow."""

    type: Literal["websocket.handover"]


class HandoverState(TypedDict):
    """The answer to `HandoverRequest`: the last message that the application sends before it returns."""

    type: Literal["websocket.handover"]
    state: bytes


class Kept:
    """The saved state of one WebSocket. `state` is b"" in a new connection."""

    __slots__ = ("is_continued", "save", "state")

    def __init__(self, extension: HandoverExtension | None) -> None:
        state = None if extension is None else extension.get("state")
        self.state = b"" if state is None else state
        self.is_continued = state is not None
        """True when the connection was handed over from another worker."""
        self.save: Callable[[], bytes] | None = None
        """Set to a function that returns the state, before accepting, to allow handovers. For a handover the
        application receives a disconnect with code 1012, and `save` is called when it has returned."""


def kept(scope: Scope) -> Kept:
    """Return the `Kept` of this WebSocket; without `KeepWebSockets`, one whose `save` is never called."""
    found = scope.get(_KEPT)
    return found if isinstance(found, Kept) else Kept(None)


class KeepWebSockets:
    """ASGI middleware that answers handover requests with `Kept.save`; it must be the outermost middleware.

    Scopes other than WebSockets pass through unchanged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        extension = scope.get("extensions", {}).get(EXTENSION)
        if scope["type"] != "websocket" or extension is None:
            await self._app(scope, receive, send)
            return
        keep = Kept(extension)
        is_leaving = False

        async def receive_or_leave() -> Message:
            nonlocal is_leaving
            if not is_leaving:
                message = await receive()
                if message["type"] != "websocket.handover":
                    return message
                is_leaving = True
            return {"type": "websocket.disconnect", "code": 1012, "reason": "service restart"}

        async def send_until_left(message: Message) -> None:
            if message["type"] == "websocket.accept" and keep.save is not None:
                message = {**message, "handover": True}
            elif message["type"] == "websocket.close" and is_leaving:
                return  # the framework closes after the disconnect that it has received
            await send(message)

        inner: dict[str, Any] = {**scope, _KEPT: keep}
        await self._app(inner, receive_or_leave, send_until_left)
        if is_leaving and keep.save is not None:
            await send({"type": "websocket.handover", "state": keep.save()})
