"""Ask the application for its health path before the worker takes traffic.

The request is a direct call of the application, not sent over a socket: so it cannot be mistaken for a client's
request, and needs no address.
"""

from typing import Any

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, ASGIApp, Message
from asgireload.errors import StartupError


async def check_health(app: ASGIApp, path: str, state: dict[str, Any] | None) -> None:
    """Return when the application answers GET `path` with a status below 400.

    Raise StartupError, with the status if there is one, otherwise. An exception of the application propagates. The
    caller sets the time limit. `state` is the lifespan state, or None.
    """
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"user-agent", b"asgireload-health")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "extensions": {},
    }
    if state is not None:
        scope["state"] = state.copy()
    status: int | None = None
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    if status is None:
        raise StartupError(f"the health path {path} was not answered")
    if status >= 400:
        raise StartupError(f"the health path {path} was answered with {status}")
