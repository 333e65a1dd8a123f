"""The ASGI 3 interface as types. Source: https://asgi.readthedocs.io/en/latest/specs/main.html"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

ASGI_VERSION = "3.0"
HTTP_SPEC_VERSION = "2.3"
"""Version of the HTTP and WebSocket message format, as in `scope["asgi"]["spec_version"]`.

Additions of later versions are supported, too. But with 2.4 or later, where `send` raises when the client has
disconnected, Starlette does not wait for `http.disconnect`: a generator that waits would run until it sends again.
Starlette also treats each OSError of a generator as a disconnect then.
"""
LIFESPAN_SPEC_VERSION = "2.0"
