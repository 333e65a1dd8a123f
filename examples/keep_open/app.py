"""WebSockets that stay open across reloads: a chat with rooms, and a counter. Plain ASGI.

asgireload app:app --app-dir examples/keep_open

One worker, because a room is in its memory; with more, a broker such as Redis would carry what is said.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

VERSION = "1"

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

rooms: dict[str, set[Send]] = {}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()  # websocket.connect, in every worker anew
        await send({"type": "websocket.accept", "handover": True})
        await (count if scope["path"] == "/count" else chat)(scope, receive, send)
    elif scope["type"] == "http":
        body = f"version {VERSION}\n".encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
    else:
        await run_lifespan(receive, send)


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell everybody in the room what one of them says. `/name` gives a guest another name."""
    guest = restore(scope, {"v": 1, "name": "guest"})
    room = rooms.setdefault(scope["path"], set())
    room.add(send)
    try:
        while True:
            message = await receive()
            if message["type"] == "websocket.handover":
                await send({"type": "websocket.handover", "state": json.dumps(guest).encode()})
                return
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text") or ""
            if text.startswith("/name "):
                guest["name"] = text.removeprefix("/name ")
            else:
                await asyncio.gather(
                    *(say(tell, f"{guest['name']}: {text}") for tell in room),
                    return_exceptions=True,  # one who is just leaving must not silence the others
                )
    finally:
        room.discard(send)


async def count(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 1, 2, 3 … without a gap, however many workers take turns."""
    counter = restore(scope, {"v": 1, "next": 1})

    async def tick() -> None:
        while True:
            number = counter["next"]
            counter["next"] += (
                1  # first: cancelled while it waits to send, the number is out already
            )
            await say(send, str(number))
            await asyncio.sleep(0.1)

    ticking = asyncio.ensure_future(tick())
    message = await receive()
    while message["type"] == "websocket.receive":
        message = await receive()
    ticking.cancel()
    with suppress(asyncio.CancelledError, OSError):
        await ticking  # nothing may be sent behind the state
    if message["type"] == "websocket.handover":
        await send({"type": "websocket.handover", "state": json.dumps(counter).encode()})


def restore(scope: Scope, fresh: dict[str, Any]) -> dict[str, Any]:
    """Return what the worker before gave, unless it is of a version that this code does not know."""
    state = scope.get("extensions", {}).get("asgireload.handover", {}).get("state")
    kept = fresh if state is None else json.loads(state)
    return kept if kept.get("v") == fresh["v"] else fresh


async def say(send: Send, text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def run_lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
