"""WebSockets in plain ASGI: /echo sends back what comes, /broadcast sends it to everybody there."""

from plain import hello, lifespan

everybody = {}
"""Connections of /broadcast, by the identity of their scope, with their send."""


async def echo(receive, send):
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def broadcast(scope, receive, send):
    everybody[id(scope)] = send
    try:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            announcement = {"type": "websocket.send", "text": message["text"]}
            for deliver in list(everybody.values()):
                await deliver(announcement)
    finally:
        del everybody[id(scope)]


async def app(scope, receive, send):
    kind = scope["type"]
    if kind == "lifespan":
        await lifespan(receive, send)
    elif kind == "http":
        await hello(scope, receive, send)
    else:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/broadcast":
            await broadcast(scope, receive, send)
        else:
            await echo(receive, send)
