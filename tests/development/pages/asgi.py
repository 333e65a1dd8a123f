"""A client of ASGI applications, without bytes."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Response:
    status: int = 0
    headers: dict = field(default_factory=dict)
    pieces: list = field(default_factory=list)
    is_complete: bool = False

    @property
    def body(self):
        return b"".join(self.pieces)


def scope_of(*, kind="http", method="GET", path="/", root_path="", headers=()):
    return {
        "type": kind,
        "method": method,
        "path": root_path + path,
        "root_path": root_path,
        "headers": list(headers),
        "extensions": {},
    }


async def ask(app, *, leave_after=None, **facts):
    """Return the response. With `leave_after`, the client leaves when it has that many pieces."""
    response, left = Response(), asyncio.Event()
    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if requests:
            return requests.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            response.status = message["status"]
            response.headers = dict(message["headers"])
        elif message["type"] == "http.response.body":
            response.pieces.append(message.get("body", b""))
            response.is_complete = not message.get("more_body", False)
            if len(response.pieces) == leave_after:
                left.set()
        else:
            raise AssertionError(message)

    await asyncio.wait_for(app(scope_of(**facts), receive, send), 10)
    return response
