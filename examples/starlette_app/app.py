"""A Starlette application.

asgireload app:app --app-dir examples/starlette_app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgireload import draining

VERSION = "1"


class State(TypedDict):
    greeting: str


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    # Open pools here, in the worker, and not at import: the import is shared by all workers.
    yield {"greeting": "Hello from Starlette"}


async def index(request: Request) -> Response:
    return PlainTextResponse(f"{request.state.greeting}, version {VERSION}\n")


async def version(request: Request) -> Response:
    return JSONResponse({"version": VERSION, "pid": os.getpid()})


async def upload(request: Request) -> Response:
    return JSONResponse({"bytes": sum([len(piece) async for piece in request.stream()])})


async def slow(request: Request) -> Response:
    seconds = float(request.query_params.get("seconds", 1))
    await asyncio.sleep(seconds)
    return PlainTextResponse(f"slept {seconds:g} s\n")


async def events(request: Request) -> Response:
    headers = {"cache-control": "no-cache"}
    return StreamingResponse(ticks(), media_type="text/event-stream", headers=headers)


async def ticks() -> AsyncIterator[str]:
    """Send an event each second until the client or this worker leaves."""
    drain = draining()
    count = 0
    while not drain:
        count += 1
        yield f"event: tick\ndata: {count}\n\n"
        try:
            async with asyncio.timeout(1):
                await drain.wait()
        except TimeoutError:
            pass  # no drain within this second: the next tick is due
    # The browser comes back after 100 ms and meets the new code.
    yield "retry: 100\nevent: goodbye\ndata: reload\n\n"


class Echo(WebSocketEndpoint):
    async def on_receive(self, websocket: WebSocket, data: str | bytes) -> None:
        if isinstance(data, str):
            await websocket.send_text(data)
        else:
            await websocket.send_bytes(data)


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", index),
        Route("/version", version),
        Route("/upload", upload, methods=["POST"]),
        Route("/slow", slow),
        Route("/events", events),
        WebSocketRoute("/ws", Echo),
    ],
)
