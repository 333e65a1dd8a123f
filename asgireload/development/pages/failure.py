"""An ASGI application that serves a failure report in place of an application that cannot be imported or started,
or that crashes."""

import msgspec

from asgireload.asgi import ASGIApp, Message, Receive, Scope, Send
from asgireload.development.pages.negotiation import Form, choose_form
from asgireload.development.pages.page import CONTENT_SECURITY_POLICY, render_page, state_of
from asgireload.development.pages.report import FailureReport
from asgireload.development.pages.stream import Bulletin, is_stream, stream_address

STATUS = 500
_TYPES: dict[Form, bytes] = {
    "html": b"text/html; charset=utf-8",
    "json": b"application/json",
    "text": b"text/plain; charset=utf-8",
}


def make_failure_app(report: FailureReport) -> ASGIApp:
    """Return an ASGI application that answers every request with the report, with status 500.

    Browsers get a page, which reloads itself when another generation or failure is served. Clients that ask for
    JSON get JSON, and all others get text. WebSockets are refused, and lifespan startup succeeds.
    """
    return FailureApp(report)


def html_messages(report: FailureReport, stream: str, state: str = "") -> list[Message]:
    """Return the messages of a response with the report as a page; for `stream` and `state` see `render_page`."""
    body = render_page(report, stream, state).encode("utf-8", "backslashreplace")
    headers = _headers("html", body)
    return [
        {"type": "http.response.start", "status": STATUS, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


class FailureApp:
    """The application that `make_failure_app` returns. It answers the event stream of its pages itself."""

    def __init__(self, report: FailureReport) -> None:
        self._report = report
        self._bulletin = Bulletin(state_of(report))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http" if is_stream(scope):
                await self._bulletin.stream(receive, send)
            case "http" if _asks_for_events(scope):
                await _wait_silently(receive, send)
            case "http":
                await self._answer(scope, send)
            case "websocket":
                await self._refuse(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case other:
                raise ValueError(f"no scope of type {other!r} can be answered")

    async def _answer(self, scope: Scope, send: Send) -> None:
        form = choose_form(scope["headers"])
        body = _body(self._report, form, stream_address(scope))
        headers = _headers(form, body)
        await send({"type": "http.response.start", "status": STATUS, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a handshake, with a response if the server has the ASGI WebSocket Denial Response extension."""
        if (await receive())["type"] != "websocket.connect":
            return
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1011, "reason": "failure"})
            return
        body = _body(self._report, "text", "")
        headers = _headers("text", body)
        await send({"type": "websocket.http.response.start", "status": STATUS, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})


def _headers(form: Form, body: bytes) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"content-type", _TYPES[form]),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"vary", b"accept"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if form == "html":
        headers += [
            (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
            (b"referrer-policy", b"no-referrer"),
        ]
    return headers


def _body(report: FailureReport, form: Form, stream: str) -> bytes:
    match form:
        case "html":
            return render_page(report, stream).encode("utf-8", "backslashreplace")
        case "json":
            return msgspec.json.encode({"error": report}) + b"\n"
        case "text":
            text = f"{report.summary}\n\n{report.text}" if report.text else report.summary
            return (text.rstrip() + "\n").encode("utf-8", "backslashreplace")


def _asks_for_events(scope: Scope) -> bool:
    """Return whether the request comes from an EventSource, which does not reconnect after another status than 200
    (WHATWG HTML 9.2.3)."""
    return scope["method"] == "GET" and any(
        name == b"accept" and value.strip().lower() == b"text/event-stream"
        for name, value in scope["headers"]
    )


async def _wait_silently(receive: Receive, send: Send) -> None:
    """Answer with an event stream without events, so that the client reconnects when new code is served."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    body = b": the application cannot be loaded; the log says why\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
