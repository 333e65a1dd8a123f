"""Sanic as an ASGI application."""

from sanic import Sanic, json

app = Sanic("applications")


@app.get("/items/<number:int>")
async def item(request, number):
    return json({"id": number})


@app.get("/stream")
async def stream(request):
    response = await request.respond(content_type="text/plain")
    for number in range(3):
        await response.send(f"part {number}\n")
    await response.eof()


@app.websocket("/ws")
async def echo(request, ws):
    await ws.send(f"echo {await ws.recv()}")
