"""A page and a WebSocket of FastHTML."""

from fasthtml.common import P, Titled, fast_app

app, route = fast_app(exts="ws", secret_key="for this run only")


@route("/")
def get():
    return Titled("FastHTML", P("hello from fasthtml"))


@app.ws("/ws")
async def on_message(msg: str, send):
    await send(f"echo {msg}")
