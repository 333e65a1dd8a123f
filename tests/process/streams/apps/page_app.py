"""A page whose EventSource counts, and the numbered events for it."""

import asyncio

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, StreamingResponse
from starlette.routing import Route

VERSION = 1
PAGE = """<!doctype html>
<title>numbers</title>
<script>
  const seen = [], versions = new Set();
  let opened = 0, errors = 0;
  const source = new EventSource(location.search === "?plain" ? "/plain" : "/ids");
  source.onopen = () => opened++;
  source.onerror = () => errors++;
  source.onmessage = (event) => {
    const [number, version] = event.data.split(" ").map(Number);
    seen.push(number);
    versions.add(version);
  };
</script>
"""


async def numbers(number, has_ids):
    yield "retry: 100\n\n"
    while True:
        number += 1
        event = f"data: {number} {VERSION}\n\n"
        yield f"id: {number}\n{event}" if has_ids else event
        await asyncio.sleep(0.02)


async def ids(request):
    number = int(request.headers.get("last-event-id", 0))
    return StreamingResponse(numbers(number, has_ids=True), media_type="text/event-stream")


async def plain(request):
    return StreamingResponse(numbers(0, has_ids=False), media_type="text/event-stream")


async def page(request):
    return HTMLResponse(PAGE)


app = Starlette(routes=[Route("/", page), Route("/ids", ids), Route("/plain", plain)])
