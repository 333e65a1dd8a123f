"""ASGI scopes from request heads. Source: the ASGI HTTP and WebSocket message format."""

from urllib.parse import unquote

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, Scope
from asgireload.http.context import ServingContext
from asgireload.http.endpoints import Endpoints
from asgireload.http.parser import RequestHead


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
    if endpoints.ssl_object is not None:
        scope["extensions"]["tls"] = endpoints.tls
    if context.state is not None:
        scope["state"] = context.state.copy()


def full_path(head: RequestHead, context: ServingContext) -> str:
    """Return path and query as the client sent them, percent-encoded, for the logs."""
    path = context.settings.root_path + head.raw_path.decode("ascii")
    return f"{path}?{head.query_string.decode('ascii')}" if head.query_string else path
