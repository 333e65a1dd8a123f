"""ASGI scopes from request heads. Source: the ASGI HTTP and WebSocket message format."""

import asyncio
from urllib.parse import unquote

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, Scope
from asgireload.http.context import ServingContext
from asgireload.http.parser import RequestHead


class Endpoints:
    """Both ends of a connection and its scheme, read from the transport once.

    `client` is None for a Unix socket; `server` is then (path, None). `client_label` is "ip:port" for
    the logs.
    """

    __slots__ = ("client", "client_label", "is_secure", "server")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        own = transport.get_extra_info("sockname")
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int | None] | None = None
        # A Unix socket has a path, str or bytes for an abstract one; the peer's is empty.
        if isinstance(peer, (tuple, list)) and len(peer) >= 2:
            self.client = (str(peer[0]), int(peer[1]))
        if isinstance(own, (tuple, list)) and len(own) >= 2:
            self.server = (str(own[0]), int(own[1]))
        elif own:
            self.server = (
                own.decode(errors="replace") if isinstance(own, bytes) else str(own),
                None,
            )
        self.is_secure = transport.get_extra_info("sslcontext") is not None
        self.client_label = f"{self.client[0]}:{self.client[1]}" if self.client else ""


def http_scope(head: RequestHead, context: ServingContext, endpoints: Endpoints) -> Scope:
    scope: Scope = {
        "type": "http",
        "http_version": head.http_version,
        "method": head.method,
        "scheme": "https" if endpoints.is_secure else "http",
        "extensions": {"asgireload.drain": context.drain},
    }
    _add_common(scope, head, context, endpoints)
    return scope


def websocket_scope(
    head: RequestHead, context: ServingContext, endpoints: Endpoints, subprotocols: list[str]
) -> Scope:
    scope: Scope = {
        "type": "websocket",
        "http_version": head.http_version,
        "scheme": "wss" if endpoints.is_secure else "ws",
        "subprotocols": subprotocols,
        "extensions": {"asgireload.drain": context.drain, "websocket.http.response": {}},
    }
    _add_common(scope, head, context, endpoints)
    return scope


def _add_common(
    scope: Scope, head: RequestHead, context: ServingContext, endpoints: Endpoints
) -> None:
    raw_path = head.raw_path
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    root_path = context.settings.root_path
    if root_path:
        # The path includes the root path, as the specification asks since 2.3 and uvicorn does.
        path = root_path + path
        raw_path = root_path.encode() + raw_path
    scope["asgi"] = {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION}
    scope["path"] = path
    scope["raw_path"] = raw_path
    scope["query_string"] = head.query_string
    scope["root_path"] = root_path
    scope["headers"] = head.headers
    scope["client"] = endpoints.client
    scope["server"] = endpoints.server
    if context.state is not None:
        scope["state"] = context.state.copy()


def full_path(head: RequestHead, context: ServingContext) -> str:
    """Return path and query as the client sent them, percent-encoded, for the logs."""
    path = context.settings.root_path + head.raw_path.decode("ascii")
    return f"{path}?{head.query_string.decode('ascii')}" if head.query_string else path
