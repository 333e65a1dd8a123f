"""Make the settings of a worker's connections from its configuration. Pure."""

import msgspec

from asgireload.config import Config
from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.request import RequestLimits
from asgireload.http.settings import HttpSettings
from asgireload.http1.parsers import choose_parser
from asgireload.websocket.sessions import choose_session
from asgireload.websocket.settings import WebSocketSettings


class ConnectionSettings(msgspec.Struct, frozen=True):
    """The settings that a worker's connections use."""

    http: HttpSettings
    websocket: WebSocketSettings | None
    """None if WebSockets are switched off: a WebSocket handshake is then an ordinary request."""


def connection_settings(config: Config, file_limit: int) -> ConnectionSettings:
    """Return the settings of connections, for a process that may have `file_limit` files open."""
    return ConnectionSettings(http_settings(config, file_limit), websocket_settings(config))


def connections_for_files(limit: int) -> int:
    """Return how many connections a worker may hold if it may have `limit` files open.

    An eighth of the files, but at least 64, is left to the application for databases, logs and temporary files.
    """
    return max(limit - max(limit // 8, 64), 1)


def http_settings(config: Config, file_limit: int) -> HttpSettings:
    """Return the settings of HTTP connections, for a process that may have `file_limit` files open."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in config.header
    ]
    if config.server_header and not any(name == b"server" for name, _ in headers):
        headers.insert(0, (b"server", b"asgireload"))
    return HttpSettings(
        parser=choose_parser(config.http),
        root_path=config.root_path,
        default_headers=tuple(headers),
        date_header=config.date_header,
        keep_alive_timeout=config.timeout_keep_alive,
        head_timeout=config.timeout_request_head,
        body_timeout=config.timeout_request_body,
        write_timeout=config.timeout_write,
        request_timeout=config.timeout_request,
        request_limits=RequestLimits(
            line=config.limit_request_line,
            head=config.limit_request_head,
            fields=config.limit_request_fields,
            body=config.limit_request_body,
        ),
        forwarding=Forwarding.of(config),
        host_rules=HostRules.of(config),
        limit_concurrency=config.limit_concurrency,
        limit_connections=config.limit_connections or connections_for_files(file_limit),
        sendfile=config.sendfile,
        debug_extension=config.debug_extension,
        drain_grace=min(config.drain_grace, config.drain_timeout),
        close_window=config.ws_close_window,
        event_stream_handover=config.event_stream_handover,
        event_stream_notice=config.event_stream_notice,
    )


def websocket_settings(config: Config) -> WebSocketSettings | None:
    """Return the settings of WebSocket connections; None when WebSockets are switched off."""
    if config.ws == "none":
        return None
    return WebSocketSettings(
        session=choose_session(config.ws),
        max_size=config.ws_max_size,
        max_frame_size=config.ws_max_frame_size,
        max_fragments=config.ws_max_fragments,
        max_inflation_ratio=config.ws_max_inflation_ratio,
        max_queue=config.ws_max_queue,
        ping_interval=config.ws_ping_interval,
        ping_timeout=config.ws_ping_timeout,
        per_message_deflate=config.ws_per_message_deflate,
        close_timeout=config.ws_close_timeout,
        handover_timeout=config.ws_handover_timeout,
        handover_max_state=config.ws_handover_max_state,
    )
