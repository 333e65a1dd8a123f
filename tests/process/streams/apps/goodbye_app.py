"""Streams that listen to the drain notice and say goodbye, as docs/howto/frameworks.md shows it."""

import asyncio

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from asgireload import draining

VERSION = 1


async def numbers(number, has_ids):
    drain = draining()
    while not drain:
        number += 1
        event = f"data: {number} {VERSION}\n\n"
        yield f"id: {number}\n{event}" if has_ids else event
        try:
            async with asyncio.timeout(0.02):
                await drain.wait()
        except TimeoutError:
            pass
    yield f"retry: 100\nevent: goodbye\ndata: {number} {VERSION}\n\n"


async def ids(request):
    number = int(request.headers.get("last-event-id", 0))
    return StreamingResponse(numbers(number, has_ids=True), media_type="text/event-stream")


async def plain(request):
    number = int(request.query_params.get("after", 0))
    return StreamingResponse(numbers(number, has_ids=False), media_type="text/event-stream")


async def version(request):
    return PlainTextResponse(str(VERSION))


app = Starlette(routes=[Route("/", version), Route("/ids", ids), Route("/plain", plain)])
