"""The application whose code is replaced. Each answer tells its version and the process that gave it.

The driver writes this file anew for each reload, with another number in the line below.
"""

import asyncio
import os
import time

VERSION = 0

CHUNK = b"x" * 8192


def head(status=200, length=None, *more):
    headers = [(b"x-who", b"%d %d" % (VERSION, os.getpid())), *more]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    return {"type": "http.response.start", "status": status, "headers": headers}


async def answer(send, body, status=200):
    await send(head(status, len(body)))
    await send({"type": "http.response.body", "body": body})


async def upload(receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"%d" % size)


async def download(send, chunks, interval):
    await send(head())
    for _ in range(chunks):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await asyncio.sleep(interval)
    await send({"type": "http.response.body", "body": b""})


EVENT_STREAM = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


async def events(scope, receive, send, interval, *, has_ids=False, hears_drain=False):
    """Send an event each interval until the client leaves, or the worker says that it will.

    With ids the numbers go on where the client had them last, as it says in Last-Event-ID.
    """
    number = 0
    if has_ids:
        number = int(dict(scope["headers"]).get(b"last-event-id", b"0"))
    notice = (scope.get("extensions") or {}).get("asgireload.drain") if hears_drain else None
    leaving = [asyncio.ensure_future(client_left(receive))]
    if notice is not None:
        leaving.append(asyncio.ensure_future(notice.wait()))
    try:
        await send(head(200, None, *EVENT_STREAM))
        while True:
            number += 1
            event = b"data: %d %d %d\n\n" % (number, VERSION, os.getpid())
            if has_ids:
                event = b"id: %d\n" % number + event
            await send({"type": "http.response.body", "body": event, "more_body": True})
            done, _ = await asyncio.wait(
                leaving, timeout=interval, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                break
        await send({"type": "http.response.body", "body": b""})
    finally:
        for task in leaving:
            task.cancel()


async def completion(receive, send, count, interval):
    """Answer a request with so many events and a last one, as the APIs of language models do."""
    while (message := await receive()).get("more_body", False):
        pass
    if message["type"] == "http.disconnect":
        return
    await send(head(200, None, *EVENT_STREAM))
    for number in range(1, count + 1):
        event = b"data: %d %d %d\n\n" % (number, VERSION, os.getpid())
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(interval)
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def client_left(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


async def echo(scope, receive, send, *, may_move):
    """Answer each message with itself, the version and the count so far.

    Where the server offers it and the path allows it, the count travels to the next worker.
    """
    offer = (scope.get("extensions") or {}).get("asgireload.handover")
    count = 0
    if may_move and offer and offer.get("state"):
        count = int(offer["state"])
    await receive()
    if may_move and offer is None:
        await send({"type": "websocket.close", "code": 4404})
        return
    accept = {"type": "websocket.accept"}
    await send({**accept, "handover": True} if may_move else accept)
    while True:
        message = await receive()
        if message["type"] == "websocket.handover":
            await send({"type": "websocket.handover", "state": b"%d" % count})
            return
        if message["type"] == "websocket.disconnect":
            return
        count += 1
        text = message.get("text") or message["bytes"].decode()
        answer = f"{text} {VERSION} {os.getpid()} {count}"
        await send({"type": "websocket.send", "text": answer})


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    words = scope["path"].strip("/").split("/")
    number = int(words[1]) / 1000 if len(words) > 1 else 0.0
    if scope["type"] == "websocket":
        await echo(scope, receive, send, may_move=words[0] == "moving")
    elif words[0] == "pause":
        await asyncio.sleep(number)
        await answer(send, b"ok")
    elif words[0] == "burn":
        # Microseconds of the CPU, which two workers on one CPU share.
        until = time.thread_time() + number / 1000
        while time.thread_time() < until:
            pass
        await answer(send, b"ok")
    elif words[0] == "upload":
        await upload(receive, send)
    elif words[0] == "download":
        await download(send, int(words[2]), number)
    elif words[0] == "events":
        await events(scope, receive, send, number, hears_drain=True)
    elif words[0] == "without-ids":
        await events(scope, receive, send, number)
    elif words[0] == "with-ids":
        await events(scope, receive, send, number, has_ids=True)
    elif words[0] == "completion":
        await completion(receive, send, int(words[2]), number)
    elif words[0] == "":
        await answer(send, b"ok")
    else:
        await answer(send, b"no such path", 404)
