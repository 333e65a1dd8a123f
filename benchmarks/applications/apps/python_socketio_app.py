"""python-socketio around a page of plain ASGI."""

import socketio

server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def greet(sid, name):
    return f"hello {name}"


async def page(scope, receive, send):
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello from socketio"})


app = socketio.ASGIApp(server, page)
