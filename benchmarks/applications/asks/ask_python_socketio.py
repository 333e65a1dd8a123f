import asyncio

import socketio
from common import HTTP


async def ask() -> None:
    # Long polling goes from worker to worker; python-socketio asks for sticky sessions there.
    async with socketio.AsyncSimpleClient() as client:
        await client.connect(HTTP, transports=["websocket"])
        answer = await client.call("greet", "client")
        assert answer == "hello client", answer


asyncio.run(ask())
