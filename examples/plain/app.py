"""A plain ASGI application: no framework, so every message of the protocol is in sight.

asgireload app:app --app-dir examples/plain
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

VERSION = "1"

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await run_lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        handler = ROUTES.get((scope["method"], scope["path"]), not_found)
        await handler(scope, receive, send)


async def run_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()  # lifespan.startup: open pools and the like here
    scope["state"]["greeting"] = "Hello from plain ASGI"
    await send({"type": "lifespan.startup.complete"})
    await receive()  # lifespan.shutdown: the last connection has been served
    await send({"type": "lifespan.shutdown.complete"})


async def index(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, f"{scope['state']['greeting']}, version {VERSION}\n")


async def version(scope: Scope, receive: Receive, send: Send) -> None:
    body = json.dumps({"version": VERSION, "pid": os.getpid()})
    await respond(send, body, content_type=b"application/json")


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    await respond(send, json.dumps({"bytes": size}), content_type=b"application/json")


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    query = parse_qs(scope["query_string"].decode())
    seconds = float(query.get("seconds", ["1"])[0])
    await asyncio.sleep(seconds)
    await respond(send, f"slept {seconds:g} s\n")


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event each second until the client or this worker leaves."""
    # Other servers do not have the extension; there the stream ends with the client.
    drain = scope.get("extensions", {}).get("asgireload.drain")
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    count = 0
    try:
        while not drain:
            count += 1
            await send_piece(send, f"event: tick\ndata: {count}\n\n")
            try:
                async with asyncio.timeout(1):
                    await (drain.wait() if drain is not None else asyncio.sleep(1))
            except TimeoutError:
                pass  # no drain within this second: the next tick is due
        # The browser comes back after 100 ms and meets the new code.
        await send_piece(send, "retry: 100\nevent: goodbye\ndata: reload\n\n")
        await send({"type": "http.response.body"})
    except OSError:
        pass  # the client has left


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    await respond(send, "not found\n", status=404)


async def echo(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        match message["type"]:
            case "websocket.connect":
                await send({"type": "websocket.accept"})
            case "websocket.receive":
                text, data = message.get("text"), message.get("bytes")
                await send({"type": "websocket.send", "text": text, "bytes": data})
            case "websocket.disconnect":
                return  # message["code"] is 1012 when a reload has ended the connection


async def respond(
    send: Send, body: str, *, status: int = 200, content_type: bytes = b"text/plain"
) -> None:
    data = body.encode()
    headers = [(b"content-type", content_type), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def send_piece(send: Send, text: str) -> None:
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})


ROUTES = {
    ("GET", "/"): index,
    ("GET", "/version"): version,
    ("POST", "/upload"): upload,
    ("GET", "/slow"): slow,
    ("GET", "/events"): events,
}
