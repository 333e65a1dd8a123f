"""One server in one event loop: its application and settings, and the values that its connections share.

A `Server` is made once per event loop, by the worker or by the supervisor for its admin application. What changes
while it serves is in its parts: `Clock`, `Live` and `DrainState`.
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
    """What every connection and exchange of one server reads. Use it on its own event loop only.

    `state` is the lifespan state; each scope gets a shallow copy, and none at all when it is None (the application
    has no lifespan). `live` and `drain` are made anew where they are not given.
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
        """What tasks that run applications begin with."""
        self.raw_root_path = settings.root_path.encode()
        """What a path is put behind in scopes: it includes the root path, as the specification asks."""
        self.asgi = {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION}
        self.http_extensions: dict[str, Any] = {
            "asgireload.drain": self.drain.notice,
            "http.response.early_hint": {},
        }
        """What every scope of HTTP/1.1 offers; each gets a copy."""
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
        """What `http_scope` makes scopes of."""
