"""ASGI middleware that makes pages reload themselves, for development with --reload-browser."""

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
    # The script is small, and changes with the version of the server.
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
]
_FILE_EXTENSIONS = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


def refreshing(app: ASGIApp, bulletin: Bulletin) -> ASGIApp:
    """Return `app` wrapped so that its pages have a script that follows the event stream of `bulletin`.

    The paths of the stream and of the script are answered here. Whole HTML pages are requested without compression
    and lose their cache validators; all other responses are unchanged. A `FailureApp`, whose pages follow its own
    stream, is returned unchanged.
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
    """Return a scope without Accept-Encoding and file extensions, so that the body of the response can be
    changed."""
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
    extensions = {
        name: value
        for name, value in (scope.get("extensions") or {}).items()
        if name not in _FILE_EXTENSIONS
    }
    return {**scope, "headers": headers, "extensions": extensions}


class _Page:
    """Sends one response on, with the script inserted if it is a whole page."""

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
