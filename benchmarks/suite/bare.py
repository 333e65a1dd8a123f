"""What the application itself costs: called in a loop, without a server.

    python -m benchmarks.suite.bare MODULE PATH SECONDS CONNECTIONS

As many tasks as there would be connections call the application with an equal scope, receive and send
that do nothing, on uvloop. Prints calls and CPU seconds as JSON. The application takes turns with the
loop as it would in a server, so that the difference is the server's own share.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from .cases import BROWSER_HEADERS

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def scope_for(path: str) -> dict[str, Any]:
    """Return the scope of a GET with seven headers, as a server would build it."""
    named = [(name.lower().encode(), value.encode()) for name, value in BROWSER_HEADERS.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), *named],
        "state": {},
    }


async def receive() -> dict[str, Any]:
    """Give an empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    """Take a message and do nothing with it."""


async def call_for(app: App, path: str, seconds: float, tasks: int) -> tuple[int, float]:
    """Return calls done and CPU seconds spent."""
    count = 0
    end = time.monotonic() + seconds

    async def caller() -> None:
        nonlocal count
        while time.monotonic() < end:
            # A server runs each request as a task of its own, or at least lets others in between.
            for _ in range(8):
                await app(scope_for(path), receive, send)
                count += 1
            await asyncio.sleep(0)

    await app(scope_for(path), receive, send)
    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(tasks)))
    return count, time.process_time() - before


def main() -> None:
    module, path, seconds, tasks = sys.argv[1:]
    app = importlib.import_module(module).app
    count, spent = uvloop.run(call_for(app, path, float(seconds), int(tasks)))
    print(json.dumps({"units": count, "cpu": spent}))


if __name__ == "__main__":
    main()
