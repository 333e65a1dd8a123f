"""Options of uvicorn that asgireload does not have, and what to do instead."""

from collections.abc import Mapping

_PROXY = (
    "asgireload does not read X-Forwarded-* headers; use a middleware of your framework for them"
)

ABSENT: Mapping[str, str] = {
    "proxy_headers": _PROXY,
    "forwarded_allow_ips": _PROXY,
    "http2": "asgireload speaks HTTP/1.1; a proxy can speak HTTP/2 to clients",
    "log_config": "configure logging in the application: handlers that it gives the loggers asgireload"
    " and asgireload.access are kept",
    "h11_max_incomplete_event_size": "the limits of request heads are fixed",
    "reset_contextvars": "each exchange has a context of its own already",
}
"""By uvicorn's keyword."""
