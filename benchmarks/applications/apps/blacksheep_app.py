"""BlackSheep: JSON and a WebSocket."""

from blacksheep import Application, WebSocket, get, json, ws

app = Application()


@get("/items/{number}")
async def item(number: int):
    return json({"id": number})


@ws("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    await socket.send_text(f"echo {await socket.receive_text()}")
    await socket.close()
