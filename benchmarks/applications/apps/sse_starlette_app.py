"""Event streams of sse-starlette: a short one, and one that does not end."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route


async def count(limit: int | None) -> AsyncIterator[dict[str, str]]:
    number = 0
    while limit is None or number < limit:
        yield {"data": str(number)}
        number += 1
        await asyncio.sleep(0.01 if limit else 0.2)


async def short(request: Request) -> EventSourceResponse:
    return EventSourceResponse(count(3))


async def endless(request: Request) -> EventSourceResponse:
    return EventSourceResponse(count(None))


app = Starlette(routes=[Route("/short", short), Route("/endless", endless)])
