"""Numbered events from an application without a framework."""

import asyncio

VERSION = 1
EVENTS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx passes each piece on at once
]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})
        return
    await receive()
    if scope["path"] not in ("/ids", "/plain"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % VERSION})
        return
    sending = asyncio.ensure_future(stream(scope, send))
    leaving = asyncio.ensure_future(receive())
    await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sending, leaving):
        task.cancel()
    await asyncio.wait({sending, leaving})


async def stream(scope, send):
    has_ids = scope["path"] == "/ids"
    if has_ids:
        number = int(dict(scope["headers"]).get(b"last-event-id", b"0"))
    else:
        number = int(scope["query_string"].removeprefix(b"after=") or 0)
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    while True:
        number += 1
        event = b"data: %d %d\n\n" % (number, VERSION)
        if has_ids:
            event = b"id: %d\n" % number + event
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0.02)
