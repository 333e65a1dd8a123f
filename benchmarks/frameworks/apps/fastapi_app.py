"""FastAPI: routes, dependencies with yield and its own events; the middleware is Starlette's."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterable
from contextlib import asynccontextmanager
from typing import Annotated

import common
from fastapi import BackgroundTasks, Depends, FastAPI, Request, UploadFile, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.websockets import WebSocketDisconnect

router = APIRouter()


@router.get("/plain")
def plain():
    return PlainTextResponse("hello")


@router.get("/json")
async def json():
    return common.JSON


@router.get("/file")
async def file(how: str = "absolute"):
    return FileResponse(
        common.FILE if how == "relative" else os.path.join(common.DATA, common.FILE)
    )


@router.get("/stream")
@router.head("/stream")
async def stream():
    return StreamingResponse(common.pieces(), media_type="text/plain")


@router.get("/busy")
async def busy(key: str):
    return StreamingResponse(common.busy(key), media_type="text/plain")


@router.get("/busy-sync")
def busy_sync(key: str):
    return StreamingResponse(common.busy_sync(key), media_type="text/plain")


@router.get("/waiting")
async def waiting(key: str):
    return StreamingResponse(common.waiting(key), media_type="text/plain")


@router.get("/ticking")
async def ticking(key: str):
    return StreamingResponse(common.ticking(key), media_type="text/plain")


@router.get("/failing")
async def failing(key: str):
    return StreamingResponse(common.failing(key), media_type="text/plain")


@router.get("/events", response_class=EventSourceResponse)
async def events(key: str) -> AsyncIterable[ServerSentEvent]:
    try:
        for number in range(80):
            yield ServerSentEvent(event="number", data=number)
            await asyncio.sleep(0.05)
    finally:
        common.note(key, "ended")


@router.get("/fault")
async def fault():
    raise RuntimeError("a fault of the endpoint")


@router.get("/late-fault")
async def late_fault(key: str):
    await common.slow(key)
    raise RuntimeError("a late fault")


@router.get("/slow")
async def slow(key: str = "none"):
    await common.slow(key)
    return PlainTextResponse("slow")


@router.post("/upload")
async def upload(request: Request, key: str = "none"):
    try:
        body = await request.body()
    except Exception as error:
        common.note(key, common.name_of(error))
        raise
    return {"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]}


@router.post("/form")
async def form(upload: UploadFile):
    body = await upload.read()
    return {"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]}


@router.post("/refuse")
async def refuse():
    return PlainTextResponse("refused", status_code=401)


@router.get("/background")
async def background(tasks: BackgroundTasks, key: str = "none"):
    async def block():
        common.block(key)

    tasks.add_task(block)
    return {"soon": True}


async def _kept(key: str = "none"):
    try:
        yield "kept"
    finally:
        common.note(key, "dependency")


@router.get("/dependency")
async def dependency(kept: Annotated[str, Depends(_kept)], key: str = "none"):
    return StreamingResponse(common.ticking(key), media_type="text/plain")


@router.get("/context")
async def context(value: str):
    return PlainTextResponse(common.swap_seen(value))


@router.get("/disconnected")
async def disconnected(request: Request, key: str):
    until = time.monotonic() + common.LONG_SECONDS
    while time.monotonic() < until:
        if await request.is_disconnected():
            common.note(key, "noticed")
            return "gone"
        await asyncio.sleep(0.05)
    common.note(key, "unnoticed")
    return "still there"


@router.get("/state")
async def state(request: Request):
    return {"state": getattr(request.state, "made", None)}


@router.websocket("/echo")
async def echo(websocket: WebSocket, key: str = "none"):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as error:
        common.note(key, f"code={error.code}")


@router.websocket("/deny")
async def deny(websocket: WebSocket):
    await websocket.send_denial_response(PlainTextResponse("denied", status_code=403))


@router.websocket("/reject")
async def reject(websocket: WebSocket):
    await websocket.close(4003)


@router.websocket("/push")
async def push(websocket: WebSocket, key: str = "none"):
    await websocket.accept()
    until = time.monotonic() + common.LONG_SECONDS
    try:
        while time.monotonic() < until:
            await websocket.send_text("x" * 1000)
            await asyncio.sleep(0.02)
    except Exception as error:
        common.note(key, common.name_of(error))
        raise
    common.note(key, "unnoticed")


@asynccontextmanager
async def lifespan(app):
    yield {"made": "at startup"}


def make(*middleware):
    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=common.DATA))
    for kind, options in reversed(middleware):
        app.add_middleware(kind, **options)
    return app


async def pass_on(request, call_next):
    """As `@app.middleware("http")` is in the documentation of FastAPI."""
    began = time.perf_counter()
    response = await call_next(request)
    response.headers["x-process-time"] = "short" if time.perf_counter() - began < 60 else "long"
    return response


def make_instrumentator():
    from prometheus_fastapi_instrumentator import Instrumentator

    app = make()
    Instrumentator().instrument(app)
    return app


STACKS = {
    "none": make(),
    "GZip": make((GZipMiddleware, {})),
    "@app.middleware": make((BaseHTTPMiddleware, {"dispatch": pass_on})),
    "GZip, @app.middleware": make(
        (GZipMiddleware, {}), (BaseHTTPMiddleware, {"dispatch": pass_on})
    ),
    "CORS": make((CORSMiddleware, {"allow_origins": ["*"]})),
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in common.packaged().items()
        if name in ("brotli-asgi", "starlette-compress", "sentry-sdk")
    },
    "prometheus-fastapi-instrumentator": common.optional(make_instrumentator),
}
app = common.all_of(STACKS)
