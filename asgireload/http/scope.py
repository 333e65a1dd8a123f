"""ASGI scopes from request heads. Source: the ASGI HTTP and WebSocket message format."""

from urllib.parse import unquote

from asgireload.asgi import ASGI_VERSION, HTTP_SPEC_VERSION, Scope
from asgireload.http.context import ServingContext
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarded, read_forwarded, replace_host
from asgireload.http.parser import RequestHead


def http_scope(head: RequestHead, context: ServingContext, endpoints: Endpoints) -> Scope:
    # Written out in one piece because it runs for every request.
    root_path = context.settings.root_path
    extensions = context.http_extensions.copy()
    if head.http_version == "1.1":
        extensions["http.response.early_hint"] = {}
        if head.takes_trailers:
            extensions["http.response.trailers"] = {}
    scope: Scope = {
        "type": "http",
        "asgi": {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION},
        "http_version": head.http_version,
        "method": head.method,
        "scheme": "https" if endpoints.is_secure else "http",
        "path": root_path + head.path,
        "raw_path": context.raw_root_path + head.raw_path,
        "query_string": head.query_string,
        "root_path": root_path,
        "headers": head.headers.copy(),
        "client": endpoints.client,
        "server": endpoints.server,
        "extensions": extensions,
    }
    _add_rest(scope, head, context, endpoints)
    return scope


def websocket_scope(
    head: RequestHead, context: ServingContext, endpoints: Endpoints, subprotocols: list[str]
) -> Scope:
    root_path = context.settings.root_path
    scope: Scope = {
        "type": "websocket",
        "asgi": {"version": ASGI_VERSION, "spec_version": HTTP_SPEC_VERSION},
        "http_version": head.http_version,
        "scheme": "wss" if endpoints.is_secure else "ws",
        "path": root_path + head.path,
        "raw_path": context.raw_root_path + head.raw_path,
        "query_string": head.query_string,
        "root_path": root_path,
        "headers": head.headers.copy(),
        "client": endpoints.client,
        "server": endpoints.server,
        "subprotocols": subprotocols,
        "extensions": {"asgireload.drain": context.drain, "websocket.http.response": {}},
    }
    _add_rest(scope, head, context, endpoints)
    return scope


def _add_rest(
    scope: Scope, head: RequestHead, context: ServingContext, endpoints: Endpoints
) -> None:
    if context.state is not None:
        scope["state"] = context.state.copy()
    if endpoints.ssl_object is not None:
        scope["extensions"]["tls"] = endpoints.tls
    if head.is_forwarded and endpoints.is_trusted_proxy is not False:
        said = read_forwarded(head, endpoints, context.settings.forwarding)
        if said is not None:
            _believe(scope, head, endpoints, said)


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
        scope["path"] = root_path + head.path
        scope["raw_path"] = said.prefix + head.raw_path
        scope["root_path"] = root_path


def full_path(head: RequestHead, context: ServingContext) -> str:
    """Return path and query as the client sent them, percent-encoded, for the logs."""
    path = context.settings.root_path + head.raw_path.decode("ascii")
    return f"{path}?{head.query_string.decode('ascii')}" if head.query_string else path
