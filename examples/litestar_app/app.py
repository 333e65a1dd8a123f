"""A Litestar application.

asgireload app:app --app-dir examples/litestar_app
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, WebSocket, get, post, websocket
from litestar.datastructures import State
from litestar.logging import LoggingConfig
from litestar.response import ServerSentEvent, ServerSentEventMessage

from asgireload import draining

VERSION = "1"


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncGenerator[None]:
    # Open pools here, in the worker, and not at import: the import is shared by all workers.
    app.state.greeting = "Hello from Litestar"
    yield


@get("/", media_type=MediaType.TEXT)
async def index(state: State) -> str:
    return f"{state.greeting}, version {VERSION}\n"


@get("/version")
async def version() -> dict[str, str | int]:
    return {"version": VERSION, "pid": os.getpid()}


@post("/upload", status_code=200, request_max_body_size=None)
async def upload(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.stream()])}


@get("/slow", media_type=MediaType.TEXT)
async def slow(seconds: float = 1) -> str:
    await asyncio.sleep(seconds)
    return f"slept {seconds:g} s\n"


@get("/events")
async def events() -> ServerSentEvent:
    return ServerSentEvent(ticks())


async def ticks() -> AsyncGenerator[ServerSentEventMessage]:
    """Send an event each second until the client or this worker leaves."""
    drain = draining()
    count = 0
    while not drain:
        count += 1
        yield ServerSentEventMessage(event="tick", data=count)
        try:
            async with asyncio.timeout(1):
                await drain.wait()
        except TimeoutError:
            pass  # no drain within this second: the next tick is due
    # The browser comes back after 100 ms and meets the new code.
    yield ServerSentEventMessage(event="goodbye", data="reload", retry=100)


@websocket("/ws")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if (text := message.get("text")) is not None:
            await socket.send_text(text)
        else:
            await socket.send_bytes(message["bytes"] or b"")


# Litestar's default handler starts a thread where the application is made, and a process with a thread
# cannot be forked safely: each worker would import everything by itself. A plain handler starts none.
logging_config = LoggingConfig(
    handlers={"queue_listener": {"class": "logging.StreamHandler", "formatter": "standard"}}
)

app = Litestar(
    [index, version, upload, slow, events, echo],
    lifespan=[lifespan],
    logging_config=logging_config,
)
