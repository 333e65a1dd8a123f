"""Options of uvicorn that asgireload does not have, and what to do instead."""

from collections.abc import Mapping

_TLS = "asgireload does not terminate TLS; put a proxy that does in front of it"

ABSENT: Mapping[str, str] = {
    "ssl_keyfile": _TLS,
    "ssl_certfile": _TLS,
    "ssl_keyfile_password": _TLS,
    "ssl_version": _TLS,
    "ssl_cert_reqs": _TLS,
    "ssl_ca_certs": _TLS,
    "ssl_ciphers": _TLS,
    "ssl_context_factory": _TLS,
    "http2": "asgireload speaks HTTP/1.1; a proxy can speak HTTP/2 to clients",
    "reset_contextvars": "each exchange has a context of its own already",
}
"""By uvicorn's keyword."""
