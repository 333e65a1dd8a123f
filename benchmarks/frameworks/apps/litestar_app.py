"""Litestar, with its own compression and a few others."""

import asyncio
import hashlib
import time
from contextlib import asynccontextmanager

import common
from litestar import Litestar, Request, Response, WebSocket, get, head, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.exceptions import WebSocketDisconnect
from litestar.logging import LoggingConfig
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.response import File, ServerSentEvent, ServerSentEventMessage, Stream
from litestar.static_files import create_static_files_router


@get("/plain", media_type="text/plain", sync_to_thread=False)
def plain() -> str:
    return "hello"


@get("/json")
async def json() -> dict:
    return common.JSON


@get("/file")
async def file(how: str = "absolute") -> File:
    return File(path=common.FILE if how == "relative" else f"{common.DATA}/{common.FILE}")


@get("/stream")
async def stream() -> Stream:
    return Stream(common.pieces(), media_type="text/plain")


@head("/stream", media_type="text/plain")
async def head_stream() -> None:
    return None


@get("/busy")
async def busy(key: str) -> Stream:
    return Stream(common.busy(key), media_type="text/plain")


@get("/busy-sync")
async def busy_sync(key: str) -> Stream:
    return Stream(common.busy_sync(key), media_type="text/plain")


@get("/waiting")
async def waiting(key: str) -> Stream:
    return Stream(common.waiting(key), media_type="text/plain")


@get("/ticking")
async def ticking(key: str) -> Stream:
    return Stream(common.ticking(key), media_type="text/plain")


@get("/failing")
async def failing(key: str) -> Stream:
    return Stream(common.failing(key), media_type="text/plain")


@get("/events")
async def events(key: str) -> ServerSentEvent:
    async def numbers():
        try:
            for number in range(80):
                yield ServerSentEventMessage(event="number", data=str(number))
                await asyncio.sleep(0.05)
        finally:
            common.note(key, "ended")

    return ServerSentEvent(numbers())


@get("/fault")
async def fault() -> None:
    raise RuntimeError("a fault of the endpoint")


@get("/late-fault")
async def late_fault(key: str) -> None:
    await common.slow(key)
    raise RuntimeError("a late fault")


@get("/slow", media_type="text/plain")
async def slow(key: str = "none") -> str:
    await common.slow(key)
    return "slow"


@post("/upload", request_max_body_size=64 * 1024 * 1024)
async def upload(request: Request, key: str = "none") -> dict:
    try:
        body = await request.body()
    except Exception as error:
        common.note(key, common.name_of(error))
        raise
    return {"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]}


@post("/refuse")
async def refuse() -> Response:
    return Response("refused", status_code=401, media_type="text/plain")


@get("/background", media_type="text/plain")
async def background(key: str = "none") -> Response:
    async def block():
        common.block(key)

    return Response("soon", background=BackgroundTask(block), media_type="text/plain")


@get("/context", media_type="text/plain")
async def context(value: str) -> str:
    return common.swap_seen(value)


@get("/state")
async def state(request: Request) -> dict:
    return {"state": getattr(request.app.state, "made", None)}


@websocket("/echo")
async def echo(socket: WebSocket, key: str = "none") -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as error:
        common.note(key, f"code={error.code}")


@websocket("/reject")
async def reject(socket: WebSocket) -> None:
    await socket.close(4003)


@websocket("/push")
async def push(socket: WebSocket, key: str = "none") -> None:
    await socket.accept()
    until = time.monotonic() + common.LONG_SECONDS
    try:
        while time.monotonic() < until:
            await socket.send_text("x" * 1000)
            await asyncio.sleep(0.02)
    except Exception as error:
        common.note(key, common.name_of(error))
        raise
    common.note(key, "unnoticed")


@asynccontextmanager
async def lifespan(app):
    app.state.made = "at startup"
    yield


def make(*middleware, **options):
    return Litestar(
        [
            *(plain, json, file, stream, head_stream, busy, busy_sync, waiting, ticking, failing),
            *(events, fault, late_fault, slow, upload, refuse, background, context, state),
            *(echo, reject, push),
            create_static_files_router(path="/static", directories=[common.DATA]),
        ],
        middleware=list(middleware),
        lifespan=[lifespan],
        # Its default handler starts a thread at import.
        logging_config=LoggingConfig(
            handlers={"console": {"class": "logging.StreamHandler"}},
            loggers={"litestar": {"level": "INFO", "handlers": ["console"]}},
            log_exceptions="always",
        ),
        **options,
    )


STACKS = {
    "none": make(),
    "gzip compression": make(compression_config=CompressionConfig(backend="gzip")),
    "brotli compression": common.optional(
        lambda: make(compression_config=CompressionConfig(backend="brotli"))
    ),
    "CORS": make(cors_config=CORSConfig(allow_origins=["*"])),
    "session": common.optional(lambda: make(CookieBackendConfig(secret=b"s" * 16).middleware)),
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in {**common.BY_HAND, **common.packaged()}.items()
        if name in ("brotli-asgi", "count-bytes", "hold-start", "sentry-sdk", "asgi-correlation-id")
    },
}
app = common.all_of(STACKS)
