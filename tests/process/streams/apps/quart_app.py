"""Numbered events as Quart's documentation shows them."""

import asyncio

from quart import Quart, abort, make_response, request

VERSION = 1
app = Quart(__name__)


@app.get("/")
async def version():
    return str(VERSION)


async def respond(number, has_ids):
    if "text/event-stream" not in request.accept_mimetypes:
        abort(400)

    async def numbers():
        at = number
        while True:
            at += 1
            event = f"data: {at} {VERSION}\r\n\r\n"
            yield (f"id: {at}\r\n{event}" if has_ids else event).encode()
            await asyncio.sleep(0.02)

    response = await make_response(
        numbers(),
        {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            "Transfer-Encoding": "chunked",
        },
    )
    response.timeout = None
    return response


@app.get("/ids")
async def ids():
    return await respond(int(request.headers.get("Last-Event-ID", 0)), has_ids=True)


@app.get("/plain")
async def plain():
    return await respond(int(request.args.get("after", 0)), has_ids=False)
