"""Numbered events with sse-starlette, which pings by itself, listens for the client and tells when it has left."""

import asyncio

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

VERSION = 1


async def numbers(number, has_ids):
    while True:
        number += 1
        yield ServerSentEvent(f"{number} {VERSION}", id=str(number) if has_ids else None)
        await asyncio.sleep(0.02)


async def say_left(message):
    # In one piece: other processes write to the same place.
    print(f"client left: {message['type']}", flush=True)


async def ids(request):
    number = int(request.headers.get("last-event-id", 0))
    return EventSourceResponse(
        numbers(number, has_ids=True), ping=0.05, client_close_handler_callable=say_left
    )


async def plain(request):
    number = int(request.query_params.get("after", 0))
    return EventSourceResponse(
        numbers(number, has_ids=False), ping=0.05, client_close_handler_callable=say_left
    )


async def version(request):
    return PlainTextResponse(str(VERSION))


app = Starlette(routes=[Route("/", version), Route("/ids", ids), Route("/plain", plain)])
