"""Makes ASGI scopes from request heads. Source: the ASGI HTTP and WebSocket message format."""

from typing import Any
from urllib.parse import unquote

from asgireload.asgi import Scope
from asgireload.http.endpoints import Endpoints
from asgireload.http.forwarded import Forwarded, read_forwarded, replace_host
from asgireload.http.request import RequestHead
from asgireload.http.server import Server


def http_scope(
    head: RequestHead,
    server: Server,
    endpoints: Endpoints,
    *,
    can_inform: bool,
    can_send_trailers: bool,
) -> Scope:
    """Return the scope of an HTTP request. The application may change it.

    `can_inform` and `can_send_trailers`: the attributes of the `ResponseStream`, for the extensions.
    """
    # To copy a template costs a third of building a dictionary.
    template = head.scope
    scope: dict[str, Any]
    if template is not None:
        scope = template.copy()
    else:
        scope = _scope_of_head(head, server)
        if head.is_repeated:
            head.scope = scope.copy()
    scope["asgi"] = server.asgi.copy()
    scope["headers"] = head.headers.copy()
    scope["client"] = endpoints.client
    scope["server"] = endpoints.server
    if endpoints.is_secure:
        scope["scheme"] = "https"
    extensions = server.http_extensions.copy()
    scope["extensions"] = extensions
    if not can_inform:
        del extensions["http.response.early_hint"]
    if can_send_trailers:
        extensions["http.response.trailers"] = {}
    _add_rest(scope, head, server, endpoints)
    return scope


def _scope_of_head(head: RequestHead, server: Server) -> dict[str, Any]:
    """Return the part of a scope that depends on the head only, and not on the connection."""
    scope: dict[str, Any] = server.http_scope.copy()
    root_path = server.settings.root_path
    if root_path:
        scope["path"] = root_path + head.path
        scope["raw_path"] = server.raw_root_path + head.raw_path
    else:
        scope["path"] = head.path
        scope["raw_path"] = head.raw_path
    scope["method"] = head.method
    scope["query_string"] = head.query_string
    scope["http_version"] = head.http_version
    return scope


def websocket_scope(
    head: RequestHead, server: Server, endpoints: Endpoints, subprotocols: list[str]
) -> Scope:
    """Return the scope of a WebSocket handshake. `subprotocols`: those that the client offers."""
    root_path = server.settings.root_path
    scope: Scope = {
        "type": "websocket",
        "asgi": server.asgi.copy(),
        "http_version": head.http_version,
        "scheme": "wss" if endpoints.is_secure else "ws",
        "path": root_path + head.path,
        "raw_path": server.raw_root_path + head.raw_path,
        "query_string": head.query_string,
        "root_path": root_path,
        "headers": head.headers.copy(),
        "client": endpoints.client,
        "server": endpoints.server,
        "subprotocols": subprotocols,
        "extensions": {"asgireload.drain": server.drain.notice, "websocket.http.response": {}},
    }
    _add_rest(scope, head, server, endpoints)
    return scope


def _add_rest(scope: Scope, head: RequestHead, server: Server, endpoints: Endpoints) -> None:
    if server.state is not None:
        scope["state"] = server.state.copy()
    if endpoints.ssl_object is not None:
        scope["extensions"]["tls"] = endpoints.tls
    if head.is_forwarded and endpoints.is_trusted_proxy is not False:
        said = read_forwarded(head, endpoints, server.settings.forwarding)
        if said is not None:
            _believe(scope, head, endpoints, said)


def _believe(scope: Scope, head: RequestHead, endpoints: Endpoints, said: Forwarded) -> None:
    """Replace facts of the connection in `scope` by those that a trusted proxy has forwarded."""
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


def full_path(head: RequestHead, server: Server) -> str:
    """Return path and query as the client sent them, percent-encoded, for the logs."""
    path = server.settings.root_path + head.raw_path.decode("ascii")
    return f"{path}?{head.query_string.decode('ascii')}" if head.query_string else path
