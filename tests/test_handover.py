"""The application's side of a handover: the middleware for frameworks that do not know its messages."""

import asyncio
import contextlib

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute

from asgireload.handover import EXTENSION, KeepWebSockets, kept
from tests.websocket.client_frames import frame
from tests.websocket.test_connection import read_close
from tests.worker.test_websocket_handover import TEXT, read_text, row

WEBSOCKET = {"type": "websocket", "extensions": {EXTENSION: {"max_state": 100}}}


class Server:
    """Gives messages and keeps what is sent."""

    def __init__(self, *messages):
        self.messages = [{"type": f"websocket.{message}"} for message in messages]
        self.sent = []

    async def receive(self):
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)


def play(app, scope, *messages):
    server = Server(*messages)
    asyncio.run(KeepWebSockets(app)(scope, server.receive, server.send))
    return server.sent


def test_the_application_sees_a_disconnect_and_its_state_is_sent():
    async def app(scope, receive, send):
        keep = kept(scope)
        assert (keep.state, keep.is_continued) == (b"", False)
        keep.save = lambda: b"saved"
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        for _ in range(2):
            message = await receive()
            assert message["type"] == "websocket.disconnect"
            assert message["code"] == 1012
        await send({"type": "websocket.close"})  # as frameworks do

    assert play(app, WEBSOCKET, "connect", "handover") == [
        {"type": "websocket.accept", "handover": True},
        {"type": "websocket.handover", "state": b"saved"},
    ]


def test_one_that_has_nothing_to_save_does_not_take_part():
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    assert play(app, WEBSOCKET) == [{"type": "websocket.accept"}, {"type": "websocket.close"}]


def test_what_was_saved_is_there_in_the_next_worker():
    async def app(scope, receive, send):
        assert kept(scope).state == b"saved"
        assert kept(scope).is_continued

    extension = {"max_state": 100, "state": b"saved"}
    assert play(app, {"type": "websocket", "extensions": {EXTENSION: extension}}) == []


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "http"},
        {"type": "lifespan"},
        {"type": "websocket"},
        {"type": "websocket", "extensions": {}},
    ],
)
def test_everything_else_passes_through_untouched(scope):
    async def app(inner, receive, send):
        assert inner is scope
        assert receive.__self__ is send.__self__
        assert kept(inner).state == b""

    play(app, scope)


def test_a_fault_of_the_application_is_not_hidden():
    async def app(scope, receive, send):
        kept(scope).save = lambda: b""
        await receive()
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        play(app, WEBSOCKET, "handover")


def make_app(name):
    app = FastAPI()
    app.add_middleware(KeepWebSockets)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        keep = kept(websocket.scope)
        words = keep.state.decode().split()
        keep.save = lambda: " ".join(words).encode()
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                words.append(await websocket.receive_text())
                await websocket.send_text(f"{name}: {' '.join(words)}")

    return app


class Listener(WebSocketEndpoint):
    encoding = "text"

    async def on_connect(self, websocket):
        self.keep = kept(websocket.scope)
        self.words = self.keep.state.decode().split()
        self.keep.save = lambda: " ".join(self.words).encode()
        await websocket.accept()

    async def on_receive(self, websocket, data):
        self.words.append(data)
        await websocket.send_text(f"{websocket.app.state.name}: {' '.join(self.words)}")


def make_app_of_an_endpoint(name):
    app = FastAPI(routes=[WebSocketRoute("/ws", Listener)])
    app.state.name = name
    app.add_middleware(KeepWebSockets)
    return app


@pytest.mark.parametrize("make", [make_app, make_app_of_an_endpoint])
def test_a_framework_goes_on_in_the_next_worker(run, make):
    async def main():
        async with row() as (here, *_):
            for worker in here.workers:
                worker.served.app = make(worker.name)
            client = await here.open()
            client.send(frame(TEXT, b"one"))
            assert await read_text(client) == "a: one"
            here.leave()
            client.send(frame(TEXT, b"two"))
            assert await read_text(client) == "b: one two"
            here.leave(1)
            client.send(frame(TEXT, b"three"))
            assert await read_text(client) == "c: one two three"
            here.workers[2].begin_drain()
            assert (await read_close(client))[0] == 1012

    run(main())
