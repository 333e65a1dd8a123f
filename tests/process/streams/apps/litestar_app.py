"""Numbered events with Litestar's ServerSentEvent."""

import asyncio
from typing import Any

from litestar import Litestar, Request, get
from litestar.response import ServerSentEvent, ServerSentEventMessage

VERSION = 1


async def numbers(number, has_ids):
    while True:
        number += 1
        yield ServerSentEventMessage(f"{number} {VERSION}", id=number if has_ids else None)
        await asyncio.sleep(0.02)


@get("/")
async def version() -> int:
    return VERSION


@get("/ids")
async def ids(request: Request[Any, Any, Any]) -> ServerSentEvent:
    return ServerSentEvent(numbers(int(request.headers.get("last-event-id", 0)), has_ids=True))


@get("/plain")
async def plain(after: int = 0) -> ServerSentEvent:
    return ServerSentEvent(numbers(after, has_ids=False))


app = Litestar([version, ids, plain], logging_config=None)
