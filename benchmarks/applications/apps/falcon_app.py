"""Falcon's ASGI side: media, server-sent events and a WebSocket."""

import falcon.asgi


class Item:
    async def on_get(self, req, resp, number):
        resp.media = {"id": number}


class Events:
    async def on_get(self, req, resp):
        async def emit():
            for number in range(3):
                yield falcon.asgi.SSEvent(text=str(number))

        resp.sse = emit()


class Echo:
    async def on_websocket(self, req, ws):
        await ws.accept()
        await ws.send_text(f"echo {await ws.receive_text()}")


app = falcon.asgi.App()
app.add_route("/items/{number:int}", Item())
app.add_route("/events", Events())
app.add_route("/ws", Echo())
