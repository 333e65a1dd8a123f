"""baize, whose files use the path sending and zero copy extensions where a server offers them."""

import asyncio
import hashlib
import time

import common
from baize.asgi import (
    FileResponse,
    Files,
    JSONResponse,
    PlainTextResponse,
    Router,
    SendEventResponse,
    StreamResponse,
    Subpaths,
    WebSocketDisconnect,
    request_response,
    websocket_session,
)


def key_of(request):
    return request.query_params.get("key", "none")


@request_response
async def plain(request):
    return PlainTextResponse("hello")


@request_response
async def json(request):
    return JSONResponse(common.JSON)


@request_response
async def file(request):
    how = request.query_params.get("how")
    return FileResponse(common.FILE if how == "relative" else f"{common.DATA}/{common.FILE}")


def streaming(make):
    @request_response
    async def view(request):
        return StreamResponse(make(key_of(request)), headers={"content-type": "text/plain"})

    return view


@request_response
async def events(request):
    key = key_of(request)

    async def numbers():
        try:
            for number in range(80):
                yield {"event": "number", "data": str(number)}
                await asyncio.sleep(0.05)
        finally:
            common.note(key, "ended")

    return SendEventResponse(numbers())


@request_response
async def fault(request):
    raise RuntimeError("a fault of the endpoint")


@request_response
async def late_fault(request):
    await common.slow(key_of(request))
    raise RuntimeError("a late fault")


@request_response
async def slow(request):
    await common.slow(key_of(request))
    return PlainTextResponse("slow")


@request_response
async def upload(request):
    body = await request.body
    return JSONResponse({"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]})


@request_response
async def refuse(request):
    return PlainTextResponse("refused", 401)


@request_response
async def context(request):
    return PlainTextResponse(common.swap_seen(request.query_params["value"]))


@request_response
async def disconnected(request):
    until = time.monotonic() + common.LONG_SECONDS
    while time.monotonic() < until:
        if await request.is_disconnected():
            common.note(key_of(request), "noticed")
            return PlainTextResponse("gone")
        await asyncio.sleep(0.05)
    common.note(key_of(request), "unnoticed")
    return PlainTextResponse("still there")


@websocket_session
async def echo(websocket):
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as error:
        common.note(key_of(websocket), f"code={error.code}")


def make():
    return Subpaths(
        ("/static", Files(common.DATA)),
        (
            "",
            Router(
                ("/plain", plain),
                ("/json", json),
                ("/file", file),
                ("/stream", streaming(lambda key: common.pieces())),
                ("/busy", streaming(common.busy)),
                ("/waiting", streaming(common.waiting)),
                ("/ticking", streaming(common.ticking)),
                ("/failing", streaming(common.failing)),
                ("/events", events),
                ("/fault", fault),
                ("/late-fault", late_fault),
                ("/slow", slow),
                ("/upload", upload),
                ("/refuse", refuse),
                ("/context", context),
                ("/disconnected", disconnected),
                ("/echo", echo),
            ),
        ),
    )


STACKS = {
    "none": make(),
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in {**common.BY_HAND, **common.packaged()}.items()
        if name in ("brotli-asgi", "asgi-gzip", "hold-start", "count-bytes", "buffer-response")
    },
}
app = common.all_of(STACKS)
