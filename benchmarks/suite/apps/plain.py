"""The application in plain ASGI: one path for each kind of work, chosen by a dictionary.

BENCH_PEER names the port of the socket peer that /pool talks to, BENCH_FILE the file of /file.
"""

import asyncio
import json
import os

PEER_PORT = int(os.environ.get("BENCH_PEER", "0"))
FILE = os.environ.get("BENCH_FILE", "")
FILE_SIZE = os.path.getsize(FILE) if FILE else 0
FILE_PIECE = 64 * 1024
POOL_SIZE = 16
SIZES = (1024, 10 * 1024, 100 * 1024, 1024 * 1024, 10 * 1024 * 1024)
PIECES = 64

HELLO = b"Hello, world!"
DOCUMENT = {"items": [{"number": n, "name": f"item {n}", "price": n / 8} for n in range(200)]}
JSON = json.dumps(DOCUMENT).encode().ljust(10 * 1024)[: 10 * 1024]


def head(length, kind=b"text/plain"):
    """Return the message that starts a response of this length."""
    headers = [(b"content-type", kind), (b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def fixed(body, kind=b"text/plain"):
    """Return a handler that sends `body` in one piece."""

    async def answer(scope, receive, send):
        await send(head(len(body), kind))
        await send({"type": "http.response.body", "body": body})

    return answer


hello = fixed(HELLO)


def streamed(size, pieces):
    """Return a handler that sends `size` bytes in so many equal pieces."""
    piece = b"x" * (size // pieces)

    async def answer(scope, receive, send):
        await send(head(size))
        for number in range(pieces):
            more = number < pieces - 1
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    return answer


async def upload(scope, receive, send):
    """Read the whole body and answer with its length."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = b"%d" % length
    await send(head(len(body)))
    await send({"type": "http.response.body", "body": body})


async def file(scope, receive, send):
    """Send a file by path where the server offers that, else in pieces of 64 KB."""
    await send(head(FILE_SIZE, b"application/octet-stream"))
    if "http.response.pathsend" in (scope.get("extensions") or {}):
        await send({"type": "http.response.pathsend", "path": FILE})
        return
    # In pieces this small the page cache answers at once; a thread would cost more than the read.
    with open(FILE, "rb") as source:  # noqa: ASYNC230
        while piece := source.read(FILE_PIECE):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def sleep(scope, receive, send):
    """Give the loop one turn before the answer."""
    await asyncio.sleep(0)
    await hello(scope, receive, send)


class Ticket:
    """A queue and the task that serves it, made by the first request."""

    def __init__(self):
        self.orders = asyncio.Queue()
        self.task = asyncio.create_task(self.serve())

    async def serve(self):
        while True:
            order = await self.orders.get()
            if not order.done():
                order.set_result(HELLO)


ticket = None


async def queue(scope, receive, send):
    """Let another task make the answer: a queue there, a future back."""
    global ticket
    if ticket is None:
        ticket = Ticket()
    order = asyncio.get_running_loop().create_future()
    ticket.orders.put_nowait(order)
    body = await order
    await send(head(len(body)))
    await send({"type": "http.response.body", "body": body})


class Pool:
    """A few connections to the socket peer, handed out one at a time; opened when first needed."""

    def __init__(self):
        self.free = asyncio.LifoQueue()
        for _ in range(POOL_SIZE):
            self.free.put_nowait(None)

    async def ask(self, question):
        connection = await self.free.get()
        try:
            if connection is None:
                connection = await asyncio.open_connection("127.0.0.1", PEER_PORT)
            reader, writer = connection
            writer.write(question)
            return await reader.readexactly(len(question))
        finally:
            self.free.put_nowait(connection)


pool = None


async def pooled(scope, receive, send):
    """Ask the socket peer over a pooled connection, as with a database or a cache."""
    global pool
    if pool is None:
        pool = Pool()
    body = await pool.ask(HELLO)
    await send(head(len(body)))
    await send({"type": "http.response.body", "body": body})


ROUTES = {
    "/": hello,
    "/json": fixed(JSON, b"application/json"),
    "/upload": upload,
    "/file": file,
    "/sleep": sleep,
    "/queue": queue,
    "/pool": pooled,
    f"/stream/{SIZES[3]}": streamed(SIZES[3], PIECES),
    **{f"/bytes/{size}": fixed(b"x" * size) for size in SIZES},
}


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await ROUTES[scope["path"]](scope, receive, send)
