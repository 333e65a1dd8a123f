"""Numbered events with FastAPI's own EventSourceResponse, and with an endpoint that is no coroutine."""

import asyncio
import time
from collections.abc import AsyncIterable, Iterable
from typing import Annotated

from fastapi import FastAPI, Header
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

VERSION = 1
app = FastAPI()


@app.get("/")
async def version():
    return PlainTextResponse(str(VERSION))


@app.get("/ids", response_class=EventSourceResponse)
async def ids(last_event_id: Annotated[int, Header()] = 0) -> AsyncIterable[ServerSentEvent]:
    number = last_event_id
    while True:
        number += 1
        yield ServerSentEvent(raw_data=f"{number} {VERSION}", id=str(number))
        await asyncio.sleep(0.02)


@app.get("/plain", response_class=EventSourceResponse)
async def plain(after: int = 0) -> AsyncIterable[ServerSentEvent]:
    number = after
    while True:
        number += 1
        yield ServerSentEvent(raw_data=f"{number} {VERSION}")
        await asyncio.sleep(0.02)


@app.get("/threads", response_class=EventSourceResponse)
def threads(last_event_id: Annotated[int, Header()] = 0) -> Iterable[ServerSentEvent]:
    number = last_event_id
    while True:
        number += 1
        yield ServerSentEvent(raw_data=f"{number} {VERSION}", id=str(number))
        time.sleep(0.02)
