"""The ASGI 3 interface as types. Source: https://asgi.readthedocs.io/en/latest/specs/main.html"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ASGI_VERSION = "3.0"
HTTP_SPEC_VERSION = "2.5"
"""Version of the HTTP and WebSocket message format we speak, as in `scope["asgi"]["spec_version"]`."""
LIFESPAN_SPEC_VERSION = "2.0"
