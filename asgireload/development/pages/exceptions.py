"""ASGI middleware that shows exceptions of the application in the browser, for development.

Frameworks answer an exception with a bare "Internal Server Error" and raise it again for the server's log. This
middleware holds the bare response until the call of the application has ended, and replaces it by a page with the
exception.
"""

import asyncio
from collections.abc import Iterable

from asgireload.asgi import ASGIApp, Message, Receive, Scope, Send
from asgireload.development.pages.failure import FailureApp, html_messages
from asgireload.development.pages.injection import Header, is_navigation
from asgireload.development.pages.reading import report_of
from asgireload.development.pages.stream import Bulletin, is_stream, stream_address

BARE_BYTES = 256
"""Longest body of a bare response."""
HOLD_TIME = 0.25
"""Seconds for which a bare response is held: frameworks raise at once, and background tasks may take long."""


def showing_exceptions(app: ASGIApp, app_dir: str, bulletin: Bulletin) -> ASGIApp:
    """Return `app` wrapped so that browsers get a page when it raises an exception.

    The page reloads itself by the event stream of `bulletin`, which is answered here. Only requests for a whole
    page are changed. Of their responses the page replaces those that have not begun when `app` raises, and short
    plain ones with status 500. The exception is raised again for the server's log. A `FailureApp` is returned
    unchanged.
    """
    if isinstance(app, FailureApp):
        return app

    async def app_with_exceptions(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif is_stream(scope):
            await bulletin.stream(receive, send)
        elif is_navigation(scope["method"], scope["headers"]):
            response = _WatchedResponse(send)
            try:
                await app(scope, receive, response.send)
            except Exception as error:
                if response.is_withheld:
                    response.drop()
                    for message in _page(error, scope, app_dir, bulletin.state):
                        await send(message)
                raise
            finally:
                await response.release()
        else:
            await app(scope, receive, send)

    return app_with_exceptions


def is_bare(status: int, headers: Iterable[Header]) -> bool:
    """Return whether a response may be the default response of a framework to an exception."""
    kinds = [value for name, value in headers if name.lower() == b"content-type"]
    return status == 500 and all(kind.lower().startswith(b"text/plain") for kind in kinds)


def _page(error: Exception, scope: Scope, app_dir: str, state: str) -> list[Message]:
    stage = f"{scope['method']} {scope['path']}"
    report = report_of(error, app_dir, kind="request", stage=stage)
    # Browsers ask the user before they reload a page that answers a POST request.
    stream = stream_address(scope) if scope["method"] == "GET" else ""
    return html_messages(report, stream, state)


class _WatchedResponse:
    """Sends a response on. A bare response is held until it is released or dropped."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._has_passed = False
        self._timer: asyncio.TimerHandle | None = None
        self._releasing: asyncio.Task[None] | None = None

    @property
    def is_withheld(self) -> bool:
        """True while no message of the response has been sent."""
        return not self._has_passed

    async def send(self, message: Message) -> None:
        if self._has_passed:
            await self._await_release()
            await self._send(message)
        elif self._takes(message):
            self._held.append(message)
            if message["type"] == "http.response.body":
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(HOLD_TIME, self._release_late)
        else:
            await self.release()
            self._has_passed = True
            await self._send(message)

    def drop(self) -> None:
        self._held = []
        self._has_passed = True
        self._cancel_timer()

    async def release(self) -> None:
        """Send the held messages; further messages are sent at once."""
        self._cancel_timer()
        held, self._held = self._held, []
        if held:
            self._has_passed = True
            for message in held:
                await self._send(message)
        await self._await_release()

    def _takes(self, message: Message) -> bool:
        kind = message["type"]
        if kind == "http.response.start":
            return not self._held and is_bare(message["status"], message.get("headers", ()))
        return (
            kind == "http.response.body"
            and len(self._held) == 1
            and not message.get("more_body", False)
            and len(message.get("body", b"")) <= BARE_BYTES
        )

    def _release_late(self) -> None:
        self._timer = None
        self._has_passed = True
        held, self._held = self._held, []
        self._releasing = asyncio.get_running_loop().create_task(self._send_all(held))

    async def _send_all(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)

    async def _await_release(self) -> None:
        if self._releasing is not None:
            await self._releasing

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
