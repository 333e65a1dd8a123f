"""Numbered events with Starlette's StreamingResponse, below a middleware that wraps it."""

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

VERSION = 1


async def numbers(number, has_ids):
    while True:
        number += 1
        event = f"data: {number} {VERSION}\n\n"
        yield f"id: {number}\n{event}" if has_ids else event
        await asyncio.sleep(0.02)


async def ids(request):
    number = int(request.headers.get("last-event-id", 0))
    return StreamingResponse(numbers(number, has_ids=True), media_type="text/event-stream")


async def plain(request):
    number = int(request.query_params.get("after", 0))
    return StreamingResponse(numbers(number, has_ids=False), media_type="text/event-stream")


async def version(request):
    return PlainTextResponse(str(VERSION))


async def add_header(request, call_next):
    response = await call_next(request)
    response.headers["x-seen"] = "1"
    return response


app = Starlette(
    routes=[Route("/", version), Route("/ids", ids), Route("/plain", plain)],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=add_header)],
)
