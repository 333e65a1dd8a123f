"""The views; plain ones and asynchronous ones side by side."""

import asyncio
import os
from collections.abc import AsyncIterator

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_POST

from asgireload import draining

VERSION = "1"
PIECE_BYTES = 65536


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello from Django, version {VERSION}\n", content_type="text/plain")


def version(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"version": VERSION, "pid": os.getpid()})


@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    size = 0
    while piece := request.read(PIECE_BYTES):
        size += len(piece)
    return JsonResponse({"bytes": size})


async def slow(request: HttpRequest) -> HttpResponse:
    seconds = float(request.GET.get("seconds", 1))
    await asyncio.sleep(seconds)
    return HttpResponse(f"slept {seconds:g} s\n", content_type="text/plain")


async def events(request: HttpRequest) -> StreamingHttpResponse:
    headers = {"cache-control": "no-cache"}
    return StreamingHttpResponse(ticks(), content_type="text/event-stream", headers=headers)


async def ticks() -> AsyncIterator[str]:
    """Send an event each second until the client or this worker leaves."""
    drain = draining()
    count = 0
    while not drain:
        count += 1
        yield f"event: tick\ndata: {count}\n\n"
        try:
            async with asyncio.timeout(1):
                await drain.wait()
        except TimeoutError:
            pass  # no drain within this second: the next tick is due
    # The browser comes back after 100 ms and meets the new code.
    yield "retry: 100\nevent: goodbye\ndata: reload\n\n"
