"""A Quart application.

asgireload app:app --app-dir examples/quart_app
"""

import asyncio
import os
from collections.abc import AsyncIterator

from quart import Quart, Response, request, websocket

from asgireload import draining

VERSION = "1"

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1 << 30


@app.while_serving
async def lifespan() -> AsyncIterator[None]:
    # Open pools here, in the worker, and not at import: the import is shared by all workers.
    app.extensions["greeting"] = "Hello from Quart"
    yield


@app.get("/")
async def index() -> Response:
    greeting = app.extensions["greeting"]
    return Response(f"{greeting}, version {VERSION}\n", mimetype="text/plain")


@app.get("/version")
async def version() -> dict[str, str | int]:
    return {"version": VERSION, "pid": os.getpid()}


@app.post("/upload")
async def upload() -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.body])}


@app.get("/slow")
async def slow() -> Response:
    seconds = request.args.get("seconds", 1, type=float)
    await asyncio.sleep(seconds)
    return Response(f"slept {seconds:g} s\n", mimetype="text/plain")


@app.get("/events")
async def events() -> Response:
    response = Response(ticks(), mimetype="text/event-stream")
    response.cache_control.no_cache = True
    response.timeout = None  # Quart would cut the stream after RESPONSE_TIMEOUT, a minute
    return response


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
async def echo() -> None:
    # Quart cancels the handler when the connection ends.
    while True:
        await websocket.send(await websocket.receive())
