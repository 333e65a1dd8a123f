"""ASGI scopes from request heads. Source: the ASGI HTTP and WebSocket message format."""

from urllib.parse import unquote

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, Scope
from asgireload.http.context import ServingContext
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarded, read_forwarded, replace_host
from asgireload.http.parser import RequestHead


def http_scope(head: RequestHead, context: ServingContext, endpoints: Endpoints) -> Scope:
    scope: Scope = {
        "type": "http",
        "http_version": head.http_version,
        "method": head.method,
        "scheme": "https" if endpoints.is_secure else "http",
        "extensions": _http_extensions(head, context),
    }
    _add_common(scope, head, context, endpoints)
    if endpoints.is_trusted_proxy is not False:
        said = read_forwarded(head, endpoints, context.settings.forwarding)
        if said is not None:
            _believe(scope, head, endpoints, said)
    return scope


def _http_extensions(head: RequestHead, context: ServingContext) -> Scope:
    extensions = context.http_extensions.copy()
    if head.http_version == "1.1":
        extensions["http.response.early_hint"] = {}
        if head.takes_trailers:
            extensions["http.response.trailers"] = {}
    return extensions


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
    if endpoints.is_trusted_proxy is not False:
        said = read_forwarded(head, endpoints, context.settings.forwarding)
        if said is not None:
            _believe(scope, head, endpoints, said)
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


def _believe(scope: Scope, head: RequestHead, endpoints: Endpoints, said: Forwarded) -> None:
    """Replace the facts of the connection by those of the request that a trusted proxy forwarded."""
    if said.client is not None:
        scope["client"] = said.client
    is_secure = endpoints.is_secure if said.scheme is None else said.scheme == "https"
    if said.scheme is not None:
        plain = "http" if scope["type"] == "http" else "ws"
        scope["scheme"] = plain + "s" if is_secure else plain
    if said.host is not None or said.port is not None:
        scope["headers"] = replace_host(head.headers, said, is_secure=is_secure)
    if said.prefix is not None:
        root_path = unquote(said.prefix.decode("ascii"))
        scope["path"] = root_path + unquote(head.raw_path.decode("ascii"))
        scope["raw_path"] = said.prefix + head.raw_path
        scope["root_path"] = root_path


def full_path(head: RequestHead, context: ServingContext) -> str:
    """Return path and query as the client sent them, percent-encoded, for the logs."""
    path = context.settings.root_path + head.raw_path.decode("ascii")
    return f"{path}?{head.query_string.decode('ascii')}" if head.query_string else path
