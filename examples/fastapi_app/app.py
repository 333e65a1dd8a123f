"""A FastAPI application with server-sent events and a WebSocket chat.

asgireload app:app --app-dir examples/fastapi_app
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse

from asgireload import draining

VERSION = "1"


class State(TypedDict):
    greeting: str
    guests: set[WebSocket]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    # Open pools here, in the worker, and not at import: the import is shared by all workers.
    yield {"greeting": "Hello from FastAPI", "guests": set()}


app = FastAPI(title="asgireload with FastAPI", lifespan=lifespan)


@app.get("/", response_class=PlainTextResponse)
async def index(request: Request) -> str:
    return f"{request.state.greeting}, version {VERSION}\n"


@app.get("/version")
async def version() -> dict[str, str | int]:
    return {"version": VERSION, "pid": os.getpid()}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.stream()])}


@app.get("/slow", response_class=PlainTextResponse)
async def slow(seconds: float = 1) -> str:
    await asyncio.sleep(seconds)
    return f"slept {seconds:g} s\n"


@app.get("/events")
async def events() -> StreamingResponse:
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


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        if message.get("text") is not None:
            await websocket.send_text(message["text"])
        else:
            await websocket.send_bytes(message["bytes"])


@app.websocket("/chat")
async def chat(websocket: WebSocket, name: str = "guest") -> None:
    """Tell everyone on the same worker what is said; between workers a broker would carry it."""
    guests: set[WebSocket] = websocket.state.guests
    await websocket.accept()
    guests.add(websocket)
    try:
        async for text in websocket.iter_text():
            await asyncio.gather(
                *(guest.send_text(f"{name}: {text}") for guest in guests),
                return_exceptions=True,  # a guest who is just leaving must not silence the others
            )
    except WebSocketDisconnect:
        pass
    finally:
        guests.discard(websocket)
