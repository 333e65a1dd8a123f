"""For applications: WebSockets that stay open when their worker leaves.

The messages are typed here as an application writes them itself (docs/reference/handover.md). Frameworks whose
WebSocket classes do not know them are wrapped with `KeepWebSockets`, and the code finds its side of it with
`kept(scope)`:

    app = KeepWebSockets(FastAPI())

    async def chat(websocket: WebSocket):
        keep = kept(websocket.scope)
        name = keep.state.decode() or "guest"      # b"" in a new connection
        keep.save = lambda: name.encode()
        await websocket.accept()
        …

Under another server, or where a connection cannot be handed over, `save` is never called.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NotRequired, Required, TypedDict

from asgireload.asgi import ASGIApp, Message, Receive, Scope, Send

EXTENSION = "asgireload.handover"
"""Key in `scope["extensions"]` of a WebSocket that can be handed over; its value is a `HandoverExtension`."""
_KEPT = "asgireload.kept"


class HandoverExtension(TypedDict):
    max_state: int
    """Bytes of state that are taken."""
    state: NotRequired[bytes]
    """What the application gave in the worker before. Absent in a connection that begins."""


class WebSocketAccept(TypedDict):
    """What an application that takes part sends to accept, in every worker."""

    type: Required[Literal["websocket.accept"]]
    subprotocol: NotRequired[str | None]
    headers: NotRequired[Iterable[tuple[bytes, bytes]]]
    handover: NotRequired[bool]


class HandoverRequest(TypedDict):
    """Received when the worker leaves, once. No other message but `websocket.disconnect` follows."""

    type: Literal["websocket.handover"]


class HandoverState(TypedDict):
    """The answer, and the last message that is sent; the application returns then."""

    type: Literal["websocket.handover"]
    state: bytes


class Kept:
    """What is kept of one WebSocket. `state` is b"" where it begins."""

    __slots__ = ("is_continued", "save", "state")

    def __init__(self, extension: HandoverExtension | None) -> None:
        state = None if extension is None else extension.get("state")
        self.state = b"" if state is None else state
        self.is_continued = state is not None
        """The client was connected before, to another worker."""
        self.save: Callable[[], bytes] | None = None
        """Set this before accepting, to take part. It is called when the application has returned, which the
        disconnect (code 1012) that it is shown makes it do."""


def kept(scope: Scope) -> Kept:
    """Return what `KeepWebSockets` keeps of this WebSocket; without it, something that is never asked."""
    found = scope.get(_KEPT)
    return found if isinstance(found, Kept) else Kept(None)


class KeepWebSockets:
    """ASGI middleware; put it outermost. All but WebSockets passes through untouched."""

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
                return  # the framework tidies up after the disconnect that it saw
            await send(message)

        inner: dict[str, Any] = {**scope, _KEPT: keep}
        await self._app(inner, receive_or_leave, send_until_left)
        if is_leaving and keep.save is not None:
            await send({"type": "websocket.handover", "state": keep.save()})
