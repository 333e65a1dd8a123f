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

What later versions add is spoken, too. But from 2.4 on, in which `send` raises for a client that has left,
Starlette does not listen for its going any more: a generator that waits would live until it sends again. And it
takes each OSError of a generator for a client that has left.
"""
LIFESPAN_SPEC_VERSION = "2.0"
