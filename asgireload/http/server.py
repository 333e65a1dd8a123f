"""One server in one event loop: its application and settings, and the values that its connections share.

A `Server` is made once per event loop, by the worker, or by the supervisor for its admin application. The state
that changes while the server runs is in `Clock`, `Live` and `DrainState`.
"""

import contextvars
from typing import Any

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, ASGIApp
from asgireload.http.access_log import AccessLog
from asgireload.http.clock import Clock
from asgireload.http.drain_state import DrainState
from asgireload.http.live import Live
from asgireload.http.request_id import RequestIds
from asgireload.http.settings import HttpSettings


class Server:
    """The application, settings and shared values of one server. Use it on the event loop of `clock` only.

    `state` is the lifespan state; each scope gets a shallow copy of it. Scopes have no state if it is None (the
    application has no lifespan). `live` and `drain` are made if they are None. `access_log` and `request_ids` are
    None when these are disabled. The server closes nothing.
    """

    __slots__ = (
        "access_log",
        "app",
        "asgi",
        "clock",
        "drain",
        "http_extensions",
        "http_scope",
        "live",
        "raw_root_path",
        "request_ids",
        "settings",
        "state",
        "variables",
    )

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        clock: Clock,
        *,
        live: Live | None = None,
        drain: DrainState | None = None,
        state: dict[str, Any] | None = None,
        access_log: AccessLog | None = None,
        request_ids: RequestIds | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.clock = clock
        self.live = live if live is not None else Live(clock.loop, settings)
        self.drain = drain if drain is not None else DrainState()
        self.state = state
        self.access_log = access_log
        self.request_ids = request_ids
        self.variables = contextvars.copy_context()
        """The context variables with which tasks that run applications begin; each task gets a copy."""
        self.raw_root_path = settings.root_path.encode()
        """The prefix of `raw_path` in scopes: the path includes the root path (ASGI HTTP connection scope)."""
        self.asgi = {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION}
        self.http_extensions: dict[str, Any] = {
            "asgireload.drain": self.drain.notice,
            "http.response.early_hint": {},
        }
        """The `extensions` of an HTTP/1.1 scope; each scope gets a copy."""
        if settings.sendfile:
            self.http_extensions["http.response.pathsend"] = {}
            self.http_extensions["http.response.zerocopysend"] = {}
        if settings.debug_extension:
            self.http_extensions["http.response.debug"] = {}
        self.http_scope: dict[str, Any] = {
            "type": "http",
            "asgi": self.asgi,
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "root_path": settings.root_path,
            "headers": [],
            "client": None,
            "server": None,
            "extensions": self.http_extensions,
        }
        """The template that the function `http_scope` copies for each scope."""
