"""Options of uvicorn that asgireload does not have, and what to do instead."""

from collections.abc import Mapping

ABSENT: Mapping[str, str] = {
    "http2": "asgireload speaks HTTP/1.1; a proxy can speak HTTP/2 to clients",
    "reset_contextvars": "each exchange has a context of its own already",
}
"""By uvicorn's keyword."""
