"""The most that one client can make a worker hold for it: what docs/explanation/security.md promises.

A client pushes as much as goes. What was taken from it and is not counted as received lies in
the kernel, whose buffers are made small here, or below TLS.
"""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager

import pytest

from asgireload.http.exchange import BODY_HIGH_WATER_BYTES
from asgireload.http1.connection import HttpConnection
from asgireload.http1.write_scheduling import PIECES_LEAST_BYTES, PIECES_MOST_BYTES
from asgireload.ipc.scoreboard import Field
from asgireload.websocket.connection import EARLY_BYTES
from asgireload.websocket.settings import WebSocketSettings
from tests.websocket.client_frames import frame
from tests.worker import test_acceptor_tls as over_tls
from tests.worker.test_acceptor import GET, Served

READ_BYTES = 256 * 1024
"""The most that either event loop takes from a socket, or out of TLS, at once."""
TLS_HIGH_WATER_BYTES = 256 * 1024
"""Undecrypted bytes, beyond which both loops read no more from a socket; one read comes on top."""
WRITE_HIGH_WATER_BYTES = 64 * 1024
TLS_WRITE_HIGH_WATER_BYTES = 512 * 1024
PIECE = 32 * 1024
KERNEL_BYTES = 128 * 1024
"""Room for what the kernel holds, both ends together, where small buffers are asked for."""
SMALL_BYTES = 8 * 1024
HEAD_BYTES = 1024
FLOOD_BYTES = 4 * 1024 * 1024
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(params=["plain", "tls"])
def kind(request):
    return request.param


@asynccontextmanager
async def serving(app, kind, directory, *, kernel_bytes=SMALL_BYTES):
    """Serve `app`; give the server and a function that connects; the kernel may hold `kernel_bytes`."""
    clients = []
    if kind == "plain":
        served = Served(app, websocket=True)
        try:
            yield served.served, _connector(served.listener, None, kernel_bytes, clients)
        finally:
            _close(clients)
            await served.close()
    else:
        async with over_tls.serving(app, directory) as server:
            client = over_tls.AUTHORITY.client_context()
            try:
                yield (
                    server.served,
                    _connector(server.entrance.socket, client, kernel_bytes, clients),
                )
            finally:
                _close(clients)


def _bound_kernel(sock, size):
    # Accepted sockets inherit it from the listening one; the kernel doubles it (socket(7)).
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)


def _close(clients):
    for client in clients:
        client.close()


def _connector(listener, tls, kernel_bytes, clients):
    _bound_kernel(listener, kernel_bytes)

    def connect():
        sock = socket.socket()
        _bound_kernel(sock, kernel_bytes)
        sock.settimeout(over_tls.PATIENCE)
        sock.connect(listener.getsockname())
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname="localhost")
        sock.setblocking(False)
        clients.append(sock)
        return sock

    return lambda: asyncio.to_thread(connect)


async def settled(measure):
    """Return what `measure()` gives once it has stayed the same for a while."""
    async with asyncio.timeout(10):
        before = None
        unchanged = 0
        while unchanged < 3:
            await asyncio.sleep(0.02)
            now = measure()
            unchanged = unchanged + 1 if now == before else 0
            before = now
        return before


async def push(sock, data):
    """Send until nothing moves any more; return how many bytes the kernel or the worker has taken."""
    view = memoryview(data)

    def send():
        nonlocal view
        try:
            while view:
                # OpenSSL wants to be asked for the same piece again.
                view = view[sock.send(view[:PIECE]) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        return len(view)

    return len(data) - await settled(send)


def read_much(sock):
    """Read as fast as it comes; return how many bytes that were."""
    sock.settimeout(over_tls.PATIENCE)
    size = 0
    while size < 2 * FLOOD_BYTES:
        size += len(sock.recv(READ_BYTES))
    return size


@pytest.mark.parametrize("what", ["body", "requests", "body-and-requests"])
def test_a_client_whose_application_does_not_read_is_held_up(run, kind, what, tmp_path):
    """A body, pipelined requests, or both: together a high water and one read."""
    over_tls.AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    data = {
        "body": POST % FLOOD_BYTES + bytes(FLOOD_BYTES),
        "requests": GET * (FLOOD_BYTES // len(GET)),
        "body-and-requests": POST % 60_000 + bytes(60_000) + GET * (FLOOD_BYTES // len(GET)),
    }[what]

    async def main():
        release = asyncio.Event()
        called = []

        async def app(scope, receive, send):
            called.append(scope)
            await release.wait()

        async with serving(app, kind, tmp_path) as (server, connect):
            client = await connect()
            taken = await push(client, data)
            received = server.live.record.values[Field.BYTES_RECEIVED_TOTAL]
            assert len(called) == 1
            assert received <= BODY_HIGH_WATER_BYTES + READ_BYTES + HEAD_BYTES
            below = TLS_HIGH_WATER_BYTES + READ_BYTES if kind == "tls" else 0
            assert taken - received <= below + KERNEL_BYTES
            release.set()

    run(main())


def test_an_application_that_reads_slowly_finds_no_more_than_that(run, kind, tmp_path):
    """Over TLS, what was left undecrypted comes at once when reading goes on."""
    over_tls.AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    flood = POST % FLOOD_BYTES + bytes(FLOOD_BYTES)
    largest = READ_BYTES + (TLS_HIGH_WATER_BYTES if kind == "tls" else 0)

    async def main():
        turns = asyncio.Semaphore(0)
        consumed = 0
        data = flood

        async def app(scope, receive, send):
            nonlocal consumed
            while True:
                await turns.acquire()
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                consumed += len(message["body"])

        async with serving(app, kind, tmp_path, kernel_bytes=READ_BYTES) as (server, connect):
            client = await connect()
            for _ in range(3):
                data = data[await push(client, data) :]
                received = server.live.record.values[Field.BYTES_RECEIVED_TOTAL]
                assert received - consumed <= BODY_HIGH_WATER_BYTES + largest + HEAD_BYTES
                assert data, "the flood outlasts the test"
                before = consumed
                turns.release()
                await settled(lambda: consumed)
                assert before < consumed
            for _ in range(3):
                turns.release()

    run(main())


@pytest.mark.parametrize("reads_first", [False, True])
def test_an_application_whose_client_does_not_read_is_held_up(
    run, kind, reads_first, tmp_path, monkeypatch
):
    """It may write what is put off, and a piece, beyond the high water; TLS holds more than a plain socket.

    For a client that has read much before, more is put off.
    """
    over_tls.AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    transports = []
    connection_made = HttpConnection.connection_made

    def note(self, transport):
        transports.append(transport)
        connection_made(self, transport)

    monkeypatch.setattr(HttpConnection, "connection_made", note)

    async def main():
        transports.clear()

        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            while True:
                message = {"type": "http.response.body", "body": bytes(PIECE), "more_body": True}
                await send(message)

        # A client that takes much at once needs a kernel that does.
        asked, kernel_bytes = (
            (READ_BYTES, 8 * READ_BYTES) if reads_first else (SMALL_BYTES, KERNEL_BYTES)
        )
        async with serving(app, kind, tmp_path, kernel_bytes=asked) as (server, connect):
            client = await connect()
            client.send(GET)
            read = await asyncio.to_thread(read_much, client) if reads_first else 0
            sent = await settled(lambda: server.live.record.values[Field.BYTES_SENT_TOTAL])
            high = TLS_WRITE_HIGH_WATER_BYTES if kind == "tls" else WRITE_HIGH_WATER_BYTES
            held = transports[0].get_write_buffer_size()
            # Below a quarter of it the application would have been let go on.
            most = (
                high + PIECES_LEAST_BYTES
                if kind == "tls"
                else PIECES_MOST_BYTES
                if reads_first
                else high
            )
            assert high // 4 < held <= most + 2 * PIECE
            below = WRITE_HIGH_WATER_BYTES + PIECE if kind == "tls" else 0
            assert sent - held - read <= below + kernel_bytes

    run(main())


@pytest.mark.parametrize("is_accepted", [False, True])
def test_frames_that_no_application_receives_are_held_up(run, kind, is_accepted, tmp_path):
    """Before the accept a bound in bytes, and one read; behind it the queue, a message, and one read."""
    over_tls.AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    message = 10_000
    data = HANDSHAKE + frame(0x82, bytes(message)) * (FLOOD_BYTES // message)

    async def main():
        release = asyncio.Event()

        async def app(scope, receive, send):
            await receive()
            if is_accepted:
                await send({"type": "websocket.accept"})
            await release.wait()

        async with serving(app, kind, tmp_path, kernel_bytes=READ_BYTES) as (server, connect):
            client = await connect()
            await push(client, data)
            received = server.live.record.values[Field.BYTES_RECEIVED_TOTAL]
            queue = (WebSocketSettings().max_queue + 1) * (message + 14)
            most = max(EARLY_BYTES, queue) if is_accepted else EARLY_BYTES
            largest = READ_BYTES + (TLS_HIGH_WATER_BYTES if kind == "tls" else 0)
            assert received <= most + largest + HEAD_BYTES
            release.set()

    run(main())
