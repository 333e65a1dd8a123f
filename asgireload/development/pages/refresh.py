"""An application whose pages renew themselves: wrapped around the user's in development, if that is asked for."""

from importlib.resources import files
from typing import Any

from asgireload.asgi import ASGIApp, Message, Receive, Scope, Send
from asgireload.development.pages.failure import FailureApp
from asgireload.development.pages.injection import (
    Injector,
    adapted,
    is_navigation,
    script_tag,
    takes_script,
)
from asgireload.development.pages.stream import Bulletin, is_at, is_stream, stream_address

SCRIPT_PATH = "/.asgireload/refresh.js"
_SCRIPT = files(__package__).joinpath("refresh.js").read_bytes()
_SCRIPT_HEADERS = [
    (b"content-type", b"text/javascript; charset=utf-8"),
    (b"content-length", str(len(_SCRIPT)).encode()),
    # It belongs to the version of the server, and is small.
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
]
_FILE_EXTENSIONS = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


def refreshing(app: ASGIApp, bulletin: Bulletin) -> ASGIApp:
    """Return `app`, with a script in its pages that follows the stream of `bulletin`.

    Two paths are answered here: the stream and the script. All else passes as it is, but for whole HTML
    pages, which are asked for without compression and lose the validators of caches. A failure follows a
    stream of its own, which says which failure it is: it is returned as it is.
    """
    if isinstance(app, FailureApp):
        return app

    async def refreshing_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif is_stream(scope):
            await bulletin.stream(receive, send)
        elif is_at(scope, SCRIPT_PATH):
            await _send_script(send)
        elif is_navigation(scope["method"], scope["headers"]):
            page = _Page(scope.get("root_path", ""), stream_address(scope), bulletin.state, send)
            await app(_readable(scope), receive, page.send)
        else:
            await app(scope, receive, send)

    return refreshing_app


async def _send_script(send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(_SCRIPT_HEADERS)})
    await send({"type": "http.response.body", "body": _SCRIPT})


def _readable(scope: Scope) -> dict[str, Any]:
    """Return the scope of a request whose response can be read: neither compressed nor sent as a file."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    extensions = {
        name: value
        for name, value in (scope.get("extensions") or {}).items()
        if name not in _FILE_EXTENSIONS
    }
    return {**scope, "headers": headers, "extensions": extensions}


class _Page:
    """Passes one response on, with the script in it if it is a page."""

    def __init__(self, root_path: str, stream: str, state: str, send: Send) -> None:
        self._address = root_path.rstrip("/") + SCRIPT_PATH
        self._stream = stream
        self._state = state
        self._send = send
        self._injector: Injector | None = None

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self._begin(message)
        elif kind == "http.response.body" and self._injector is not None:
            more_body = bool(message.get("more_body", False))
            body = self._injector.feed(bytes(message.get("body", b"")))
            if not more_body:
                body += self._injector.finish()
            message = {**message, "body": body}
        await self._send(message)

    def _begin(self, message: Message) -> Message:
        headers = list(message.get("headers", ()))
        if not takes_script(int(message["status"]), headers):
            return message
        tag = script_tag(self._address, self._stream, self._state, headers)
        self._injector = Injector(tag)
        return {**message, "headers": adapted(headers, len(tag))}
