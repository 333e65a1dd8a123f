"""The application of `make demo`: a page on which a reload can be watched.

    .venv/bin/asgireload app:app --app-dir examples/demo --workers 4 --admin-port 9000 --access-log-exclude /version

Change VERSION, say `.venv/bin/asgireload reload --wait`, and look at the page: the stream ends with a word of
farewell and is back at once, the WebSocket is closed with 1012 and opened again, no request fails.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, StreamingResponse

from asgireload import draining

VERSION = "1"

# Read at import: the page belongs to the generation as the code does.
PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

app = FastAPI(title="asgireload demo")


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return PAGE.replace("{version}", VERSION).replace("{pid}", str(os.getpid()))


@app.get("/version")
async def version() -> dict[str, str | int]:
    return {"version": VERSION, "pid": os.getpid()}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.stream()])}


@app.get("/slow")
async def slow(seconds: float = 1) -> dict[str, str | int | float]:
    await asyncio.sleep(seconds)
    return {"slept": seconds, "version": VERSION, "pid": os.getpid()}


@app.get("/events")
async def events() -> StreamingResponse:
    headers = {"cache-control": "no-cache"}
    return StreamingResponse(clock(), media_type="text/event-stream", headers=headers)


async def clock() -> AsyncIterator[str]:
    """Tell the time each second until the browser or this worker leaves."""
    drain = draining()
    while not drain:
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        tick = json.dumps({"time": time, "version": VERSION, "pid": os.getpid()})
        yield f"event: tick\ndata: {tick}\n\n"
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
