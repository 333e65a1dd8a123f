"""Requests that wait for newer code: kept and new connections of one worker, and their way to the next."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from asgireload.development.worker.request_hold import RequestHold
from asgireload.draining import DrainReason
from asgireload.http.settings import HttpSettings
from asgireload.http1.connection import http_protocol
from asgireload.ipc.scoreboard import Record
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.handover import Handover
from asgireload.worker.protocols import resumed_protocol
from tests.wired import Wired, make_wire

REQUEST = b"GET /%b HTTP/1.1\r\nhost: test\r\n\r\n"


class Worker(Wired):
    """What `worker/main.py` joins, with a listening socket that workers share."""

    def __init__(self, name, listener, parser="builtin"):
        loop = asyncio.get_running_loop()
        self.name = name
        self.asked = []
        self.begun = asyncio.Event()
        # Both workers run on one loop, which knows one reader for each descriptor.
        self.listener = listener.dup()
        self.gate = asyncio.Event()
        self.wire = make_wire(self.app, parser=parser)
        self.handover = Handover(self.served, partial(resumed_protocol, self.wire))
        self.acceptor = Acceptor(
            loop,
            [Entrance(self.listener)],
            lambda origin: http_protocol(self.wire, origin),
            record=Record.detached(),
            handshake_timeout=5.0,
        )
        self.held = RequestHold(self.wire, self.acceptor)
        self.acceptor.start()

    async def app(self, scope, receive, send):
        self.asked.append(scope["path"])
        self.begun.set()
        if scope["path"] == "/slow":
            await self.gate.wait()
        body = f"{self.name} {scope['path']}".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def leave_to(self, successor):
        """Drain as a reload does, towards a worker with newer code."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.handover.hand_to(one)
        successor.handover.receive(other)
        self.acceptor.stop()
        self.held.end(is_stale=True)
        self.served.drain.notice.begin(DrainReason.RELOAD, time.monotonic() + 10)
        self.handover.begin_drain()


class Client:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def ask(self, path):
        self.writer.write(REQUEST % path.encode())

    async def answer(self):
        """Return the body, behind STALE where the response says so."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ")[1].split("\r\n")[0])
        body = (await self.reader.readexactly(length)).decode()
        return f"STALE {body}" if "asgireload-stale: 1" in head else body

    async def get(self, path):
        self.ask(path)
        return await self.answer()

    async def is_silent(self):
        """Whether nothing comes, after everything that was sent has had its chance."""
        for _ in range(50):
            await asyncio.sleep(0.001)
        return not self.reader._buffer


@asynccontextmanager
async def serving(parser="builtin"):
    """Yield a listener's first worker, a function that makes another, and one that connects."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    workers, clients = [], []

    def make(name):
        workers.append(Worker(name, listener, parser))
        return workers[-1]

    async def connect():
        clients.append(Client(*await asyncio.open_connection(*listener.getsockname())))
        return clients[-1]

    try:
        yield make("old"), make, connect
    finally:
        for client in clients:
            client.writer.close()
        for worker in workers:
            worker.acceptor.stop()
            worker.handover.withdraw()
            worker.listener.close()
            for connection in list(worker.live.connections):
                connection.abort()
        await asyncio.sleep(0.01)
        listener.close()


@pytest.fixture(params=["builtin", "httptools", "h11"])
def parser(request):
    return request.param


def test_kept_and_new_connections_wait_and_are_answered_by_the_new_worker(run, parser):
    async def scenario():
        async with serving(parser) as (old, make, connect):
            kept = await connect()
            assert await kept.get("1") == "old /1"
            silent = await connect()
            half = await connect()
            half.writer.write(b"GET /half HTTP/1.1\r\nho")
            assert await silent.is_silent()
            old.held.hold(10)
            new = await connect()
            for client, path in ((kept, "kept"), (silent, "silent"), (new, "new")):
                client.ask(path)
            half.writer.write(b"st: test\r\n\r\n")
            for client in (kept, silent, new, half):
                assert await client.is_silent()
            assert old.asked == ["/1"]
            old.leave_to(make("new"))
            assert await kept.answer() == "new /kept"
            assert await silent.answer() == "new /silent"
            assert await new.answer() == "new /new"
            assert await half.answer() == "new /half"
            assert old.asked == ["/1"]

    run(scenario())


def test_a_request_that_runs_is_answered_and_what_was_sent_behind_it_waits(run, parser):
    async def scenario():
        async with serving(parser) as (old, make, connect):
            client = await connect()
            client.ask("slow")
            client.ask("behind")
            await old.begun.wait()
            old.held.hold(10)
            old.gate.set()
            assert await client.answer() == "old /slow"
            assert await client.is_silent()
            old.leave_to(make("new"))
            assert await client.answer() == "new /behind"
            assert old.asked == ["/slow"]

    run(scenario())


def test_after_the_time_the_old_code_answers_and_says_that_it_is_stale(run, parser):
    async def scenario():
        async with serving(parser) as (old, _, connect):
            kept = await connect()
            assert await kept.get("1") == "old /1"
            old.held.hold(0.05)
            new = await connect()
            kept.ask("2")
            new.ask("3")
            assert await kept.answer() == "STALE old /2"
            assert await new.answer() == "STALE old /3"
            assert await kept.get("4") == "STALE old /4"
            old.held.hold(10)
            kept.ask("5")
            assert await kept.is_silent()
            old.held.release()
            assert await kept.answer() == "STALE old /5"

    run(scenario())


def test_a_wait_longer_than_the_keep_alive_time_loses_nothing(run):
    async def scenario():
        async with serving() as (old, make, connect):
            kept = await connect()
            assert await kept.get("1") == "old /1"
            for connection in old.live.connections:
                connection.server.settings = HttpSettings(keep_alive_timeout=0.01)
            old.held.hold(10)
            kept.ask("2")
            await asyncio.sleep(0.1)
            old.leave_to(make("new"))
            assert await kept.answer() == "new /2"

    run(scenario())


def test_what_cannot_move_is_answered_as_stale_when_the_worker_leaves(run):
    async def scenario():
        async with serving() as (old, _, connect):
            kept = await connect()
            assert await kept.get("1") == "old /1"
            old.held.hold(10)
            kept.ask("2")
            assert await kept.is_silent()
            old.acceptor.stop()
            old.held.end(is_stale=True)
            old.served.drain.notice.begin(DrainReason.RELOAD, time.monotonic() + 10)
            old.handover.begin_drain()
            assert await kept.answer() == "STALE old /2"

    run(scenario())


def test_a_worker_that_stops_answers_what_was_held(run):
    async def scenario():
        async with serving() as (old, _, connect):
            kept = await connect()
            assert await kept.get("1") == "old /1"
            old.held.hold(10)
            kept.ask("2")
            assert await kept.is_silent()
            old.held.end(is_stale=False)
            assert await kept.answer() == "old /2"

    run(scenario())
