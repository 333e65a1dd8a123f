"""What the connections of one server share, made for a test as a worker makes it."""

import asyncio
from typing import Any

from asgireload.http.access_log import AccessLog
from asgireload.http.clock import Clock
from asgireload.http.live import Live
from asgireload.http.request_id import RequestIds
from asgireload.http.server import Server
from asgireload.http.settings import HttpSettings
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.scoreboard import Record
from asgireload.websocket.settings import WebSocketSettings
from asgireload.websocket.upgrade import WebSocketUpgrade


class Wired:
    """Has a wire, and with it a server and what is open there."""

    wire: Http1Wire

    @property
    def served(self) -> Server:
        return self.wire.server

    @property
    def live(self) -> Live:
        return self.wire.server.live


def make_wire(
    app: Any,
    settings: HttpSettings | None = None,
    *,
    websocket: bool = False,
    record: Record | None = None,
    state: dict[str, Any] | None = None,
    access_log: AccessLog | None = None,
    request_ids: RequestIds | None = None,
    **options: Any,
) -> Http1Wire:
    """Return the wire of a server on the running loop; with WebSockets where `websocket` says so.

    `options` are of `HttpSettings`, where `settings` are not given, and those of `WebSocketSettings` behind `ws_`.
    """
    ws_options = {name: options.pop(name) for name in list(options) if name.startswith("ws_")}
    settings = settings or HttpSettings(**options)
    loop = asyncio.get_running_loop()
    server = Server(
        app,
        settings,
        Clock(loop, has_date=settings.date_header),
        live=Live(loop, settings, record),
        state=state,
        access_log=access_log,
        request_ids=request_ids,
    )
    if not websocket:
        return Http1Wire(server)
    ws_settings = WebSocketSettings(
        **{name.removeprefix("ws_"): value for name, value in ws_options.items()}
    )
    return Http1Wire(server, WebSocketUpgrade(ws_settings))
