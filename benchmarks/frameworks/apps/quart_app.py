"""Quart, bare and with ASGI middleware around it."""

import asyncio
import hashlib
import time

import common
from quart import Quart, Response, request, send_file, send_from_directory, websocket


def key_of():
    return request.args.get("key", "none")


def streaming(make):
    async def view():
        response = Response(make(key_of()), mimetype="text/plain")
        response.timeout = None
        return response

    return view


async def plain():
    return Response("hello", mimetype="text/plain")


async def json():
    return common.JSON


async def file():
    how = request.args.get("how")
    name = common.FILE if how == "relative" else f"{common.DATA}/{common.FILE}"
    return await send_file(name, conditional=True)


async def static_file(name):
    return await send_from_directory(common.DATA, name)


async def events():
    key = key_of()

    async def numbers():
        try:
            for number in range(80):
                yield f"event: number\ndata: {number}\n\n".encode()
                await asyncio.sleep(0.05)
        finally:
            common.note(key, "ended")

    response = Response(numbers(), mimetype="text/event-stream")
    response.timeout = None
    return response


async def fault():
    raise RuntimeError("a fault of the endpoint")


async def late_fault():
    await common.slow(key_of())
    raise RuntimeError("a late fault")


async def slow():
    await common.slow(key_of())
    return Response("slow", mimetype="text/plain")


async def upload():
    body = await request.get_data()
    return {"bytes": len(body), "digest": hashlib.sha256(body).hexdigest()[:12]}


async def refuse():
    return Response("refused", 401, mimetype="text/plain")


async def context():
    return Response(common.swap_seen(request.args["value"]), mimetype="text/plain")


async def echo():
    key = websocket.args.get("key", "none")
    try:
        while True:
            await websocket.send(await websocket.receive())
    except asyncio.CancelledError:
        common.note(key, "cancelled")
        raise


async def deny():
    return Response("denied", 403, mimetype="text/plain")


async def push():
    key = websocket.args.get("key", "none")
    until = time.monotonic() + common.LONG_SECONDS
    try:
        while time.monotonic() < until:
            await websocket.send("x" * 1000)
            await asyncio.sleep(0.02)
    except BaseException as error:
        common.note(key, common.name_of(error))
        raise
    common.note(key, "unnoticed")


def make():
    app = Quart(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 64 * 1024 * 1024
    for rule, view in {
        "/plain": plain,
        "/json": json,
        "/file": file,
        "/static/<name>": static_file,
        "/stream": streaming(lambda key: common.pieces()),
        "/busy": streaming(common.busy),
        "/waiting": streaming(common.waiting),
        "/ticking": streaming(common.ticking),
        "/failing": streaming(common.failing),
        "/events": events,
        "/fault": fault,
        "/late-fault": late_fault,
        "/slow": slow,
        "/context": context,
    }.items():
        app.add_url_rule(rule, rule, view)
    app.add_url_rule("/upload", "/upload", upload, methods=["POST"])
    app.add_url_rule("/refuse", "/refuse", refuse, methods=["POST"])
    for rule, view in {"/echo": echo, "/deny": deny, "/push": push}.items():
        app.add_websocket(rule, rule, view)
    return app


STACKS = {
    "none": make(),
    **{
        name: common.optional(lambda layer=layer: common.wrap(make(), layer))
        for name, layer in {**common.BY_HAND, **common.packaged()}.items()
        if name
        in ("brotli-asgi", "asgi-gzip", "hold-start", "count-bytes", "sentry-sdk", "asgi-cors")
    },
}
app = common.all_of(STACKS)
