"""A plain ASGI application with every kind of exchange; copied by tests, which change VERSION."""

import asyncio
import os

VERSION = 1


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        await PATHS.get(scope["path"], version)(scope, receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(send, body, *headers):
    headers = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def version(scope, receive, send):
    await answer(send, b"%d %d" % (VERSION, os.getpid()))


async def slow(scope, receive, send):
    await asyncio.sleep(0.5)
    await version(scope, receive, send)


async def upload(scope, receive, send):
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    await answer(send, b"%d" % size)


async def stream(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(20):
        body = b"%02d" % number
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0.04)
    await send({"type": "http.response.body", "body": b""})


async def events(scope, receive, send):
    """Server-sent events until the worker drains; then a last event, and a proper end."""
    notice = scope["extensions"]["asgireload.drain"]
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while not notice:
        body = b"data: %d\n\n" % VERSION
        await send({"type": "http.response.body", "body": body, "more_body": True})
        try:
            await asyncio.wait_for(notice.wait(), 0.1)
        except TimeoutError:
            continue
    await send({"type": "http.response.body", "body": b"retry: 50\n\n"})


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


PATHS = {"/slow": slow, "/upload": upload, "/stream": stream, "/events": events}
