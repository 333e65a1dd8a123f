"""Connections that change their worker: two servers in one process, over a real socket pair and both loops."""

import asyncio
import os
import socket
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest

from asgireload.draining import DrainReason
from asgireload.http1.connection import http_protocol
from asgireload.ipc.parcels import Facts, HttpParcel, Settled, encode_parcel
from asgireload.ipc.passage import Passage
from asgireload.ipc.scoreboard import Field
from asgireload.net.proxy_protocol import Origin
from asgireload.worker import sender as sender_module
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.drain import drain
from asgireload.worker.handover import Handover
from asgireload.worker.protocols import resumed_protocol
from asgireload.worker.receiver import HandoverReceiver
from asgireload.worker.sender import HandoverSender
from tests.http.server import Client
from tests.wired import Wired, make_wire


@pytest.fixture(params=["builtin", "httptools", "h11"])
def parser(request):
    return request.param


class Worker(Wired):
    """What `worker/main.py` joins, without a process of its own."""

    def __init__(self, name, parser="builtin", gate=None, **options):
        self.name = name
        self.gate = gate
        self.scopes = []
        self.wire = make_wire(self.app, websocket=True, parser=parser, **options)
        self.handover = Handover(self.served, partial(resumed_protocol, self.wire))

    async def app(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": self.name})
            await receive()
            return
        if scope["path"] == "/early":
            await self.gate.wait()
            await respond(send, f"{self.name} early")
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        if scope["path"] == "/wait":
            await self.gate.wait()
        await respond(send, f"{self.name} {scope['path']} {len(body)}")

    def count(self, field):
        return self.live.record.values[field]

    def begin_drain(self, timeout=10.0):
        self.served.drain.notice.begin(DrainReason.RELOAD, time.monotonic() + timeout)
        self.handover.begin_drain()


async def respond(send, text):
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


class Pair:
    """Two workers, clients of the first, and a passage between them once `leave` was called."""

    def __init__(self, old, new, listener, address):
        self.old = old
        self.new = new
        self.listener = listener
        self.address = address
        self.clients = []

    async def connect(self):
        if isinstance(self.address, str):
            streams = await asyncio.open_unix_connection(self.address)
        else:
            streams = await asyncio.open_connection("127.0.0.1", self.address)
        client = Client(*streams)
        self.clients.append(client)
        before = self.old.count(Field.CONNECTIONS_TOTAL)
        await wait_until(lambda: self.old.count(Field.CONNECTIONS_TOTAL) >= max(before, 1))
        return client

    def leave(self):
        """The old worker drains, and its connections may go to the new one."""
        self.link()
        self.old.begin_drain()

    def link(self):
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.old.handover.hand_to(one)
        self.new.handover.receive(other)

    async def wait_moved(self, count=1):
        await wait_until(lambda: self.new.count(Field.TAKEN_OVER_TOTAL) == count)
        await wait_until(lambda: self.old.count(Field.HANDED_OVER_TOTAL) == count)


async def wait_until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event to wait for
            await asyncio.sleep(0.001)


@asynccontextmanager
async def workers(parser="builtin", *, unix=None, origin=None, new=None, old=None, **options):
    """Serve with two workers; check at the end that each connection was counted once and none is left."""
    gate = asyncio.Event()
    first = Worker("old", parser, gate, **{**options, **(old or {})})
    second = Worker("new", parser, gate, **{**options, **(new or {})})
    loop = asyncio.get_running_loop()

    def make():
        return http_protocol(first.wire, origin)

    if unix is not None:
        listener = await loop.create_unix_server(make, unix)
        address = unix
    else:
        listener = await loop.create_server(make, "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()[1]
    pair = Pair(first, second, listener, address)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        yield pair
    finally:
        gate.set()
        for client in pair.clients:
            await client.close()
        for worker in (first, second):
            worker.handover.withdraw()
            worker.live.cancel_background()
            for connection in tuple(worker.live.connections):
                connection.abort()
            async with asyncio.timeout(5):
                await worker.handover.wait_idle()
        listener.close()
    for worker in (first, second):
        assert worker.count(Field.CONNECTIONS) == 0
        assert worker.count(Field.EXCHANGES) == 0
    await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


GET = b"GET /%b HTTP/1.1\r\nhost: test\r\n\r\n"


async def ask(client, path=b"a"):
    client.send(GET % path)
    status, headers, body = await client.read_response()
    assert status == 200
    return body.decode(), headers


def test_idle_connection_goes_on_at_the_successor(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            assert (await ask(client))[0] == "old /a 0"
            pair.leave()
            await pair.wait_moved()
            body, headers = await ask(client)
            assert body == "new /a 0"
            assert "connection" not in headers
            assert (await ask(client, b"b"))[0] == "new /b 0"
            assert not pair.old.live.connections
            assert pair.new.count(Field.CONNECTIONS_TOTAL) == 0
            assert pair.new.count(Field.CONNECTIONS) == 1

    run(scenario())


def test_connection_over_a_unix_socket_moves(run, parser, tmp_path):
    async def scenario():
        async with workers(parser, unix=str(tmp_path / "http.sock")) as pair:
            client = await pair.connect()
            assert (await ask(client))[0] == "old /a 0"
            pair.leave()
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"
            assert pair.new.scopes[0]["client"] is None
            assert pair.new.scopes[0]["server"] == pair.old.scopes[0]["server"]

    run(scenario())


def test_silent_connection_moves(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            pair.leave()
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"

    run(scenario())


def test_half_a_head_moves_at_every_split(run, parser):
    request = (
        b"POST /half?x=1 HTTP/1.1\r\nHost: test\r\nX-Long: abc\r\nContent-Length: 3\r\n\r\nabc"
    )
    head = request.index(b"\r\n\r\n") + 4

    async def scenario():
        async with workers(parser) as pair:
            clients = []
            for split in range(1, head):
                client = await pair.connect()
                client.send(request[:split])
                clients.append((split, client))
            expected = sum(split for split, _ in clients)
            await wait_until(lambda: pair.old.count(Field.BYTES_RECEIVED_TOTAL) == expected)
            pair.leave()
            await pair.wait_moved(len(clients))
            for split, client in clients:
                client.send(request[split:])
                status, _, body = await client.read_response()
                assert (status, body) == (200, b"new /half 3"), split
            assert pair.old.scopes == []

    run(scenario())


def test_bytes_that_arrive_while_a_connection_moves_are_read_by_one_worker_only(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            clients = [await pair.connect() for _ in range(40)]
            for client in clients:
                assert (await ask(client))[0] == "old /a 0"
            pair.leave()
            for client in clients:
                client.send(b"GET /m HTTP/1.1\r\nho")
            await asyncio.sleep(0)
            for client in clients:
                client.send(b"st: test\r\n\r\n")
            for client in clients:
                assert (await client.read_response())[2] in (b"old /m 0", b"new /m 0")
            served = len(pair.old.scopes) + len(pair.new.scopes)
            assert served == 80

    run(scenario())


def test_exchange_in_flight_ends_and_its_connection_moves_then(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            client.send(GET % b"wait")
            await wait_until(lambda: pair.old.scopes)
            pair.leave()
            pair.old.gate.set()
            status, headers, body = await client.read_response()
            assert (status, body) == (200, b"old /wait 0")
            assert "connection" not in headers
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"

    run(scenario())


def test_pipelined_requests_that_were_not_begun_move_along(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            client.send(GET % b"wait" + GET % b"b" + GET % b"c" + b"GET /d HTTP/1.1\r\nho")
            await wait_until(lambda: pair.old.scopes)
            pair.leave()
            pair.old.gate.set()
            answers = [(await client.read_response())[2] for _ in range(3)]
            assert answers == [b"old /wait 0", b"new /b 0", b"new /c 0"]
            client.send(b"st: test\r\n\r\n")
            assert (await client.read_response())[2] == b"new /d 0"

    run(scenario())


def test_many_unread_bytes_move_along(run):
    """More than a message of the passage may hold."""
    count = 3000

    async def scenario():
        async with workers() as pair:
            client = await pair.connect()
            client.send(GET % b"wait")
            await wait_until(lambda: pair.old.scopes)
            client.send(GET % b"b" * count)
            await client.writer.drain()
            await wait_until(lambda: pair.old.count(Field.BYTES_RECEIVED_TOTAL) > 60_000)
            pair.leave()
            pair.old.gate.set()
            answers = [(await client.read_response())[2] for _ in range(count + 1)]
            assert answers == [b"old /wait 0"] + [b"new /b 0"] * count

    run(scenario())


def test_upload_under_way_ends_at_the_old_worker(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            client.send(b"POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\nabc")
            await wait_until(lambda: pair.old.scopes)
            pair.leave()
            client.send(b"def")
            assert (await client.read_response())[2] == b"old /up 6"
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"

    run(scenario())


@pytest.mark.parametrize("answered", ["before the drain", "in the drain"])
def test_rest_of_a_body_that_nobody_reads_holds_a_drain_up_for_its_grace_only(run, answered):
    async def scenario():
        async with workers(keep_alive_timeout=60.0, drain_grace=0.1) as pair:
            client = await pair.connect()
            client.send(b"POST /early HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhalf")
            if answered == "before the drain":
                pair.old.gate.set()
                assert (await client.read_response())[2] == b"old early"
            else:
                await wait_until(lambda: pair.old.scopes)
            pair.leave()
            if answered == "in the drain":
                pair.old.gate.set()
                assert (await client.read_response())[2] == b"old early"
            async with asyncio.timeout(10):
                assert await client.read_all() == b""

    run(scenario())


def test_websocket_handshake_in_the_drain_begins_at_the_successor(run, parser):
    handshake = (
        b"GET /chat?a=b HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            client.send(GET % b"wait" + handshake)
            await wait_until(lambda: pair.old.scopes)
            direct = await pair.connect()
            pair.leave()
            direct.send(handshake)
            pair.old.gate.set()
            assert (await client.read_response())[2] == b"old /wait 0"
            for each in (client, direct):
                head = await each.read_until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 101 ")
                assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
                assert await each.reader.readexactly(5) == b"\x81\x03new"
            assert [scope["query_string"] for scope in pair.new.scopes] == [b"a=b", b"a=b"]

    run(scenario())


def test_websocket_handshake_that_no_successor_takes_is_answered_with_503(run, parser):
    handshake = (
        b"GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    async def scenario():
        async with workers(parser, new={"limit_connections": 1}) as pair:
            first, second = await pair.connect(), await pair.connect()
            for client in (first, second):
                client.send(GET % b"wait" + handshake)
            await wait_until(lambda: len(pair.old.scopes) == 2)
            pair.leave()
            pair.old.gate.set()
            heads = []
            for client in (first, second):
                assert (await client.read_response())[2] == b"old /wait 0"
                heads.append((await client.read_until(b"\r\n\r\n"))[:12])
            assert sorted(heads) == [b"HTTP/1.1 101", b"HTTP/1.1 503"]

    run(scenario())


@pytest.mark.parametrize("what", ["both take", "one is full", "one is gone", "one goes", "both go"])
def test_connections_are_shared_by_those_that_follow(run, what):
    """In equal parts where both take; what one does not take is the other's."""

    async def scenario():
        full = {"limit_connections": 5} if what == "one is full" else {}
        async with workers(new=full, drain_grace=5.0) as pair:
            third = Worker("third")
            spent = []
            pair.old.handover._on_spent = spent.append
            clients = [await pair.connect() for _ in range(200)]
            for client in clients:
                await ask(client)
            ends = []
            for number in (1, 2):
                one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                pair.old.handover.hand_to(one, number, beside=number == 2)
                ends.append(other)
            third.handover.receive(ends[1])
            if what in ("both take", "one is full"):
                pair.new.handover.receive(ends[0])
            elif what == "one is gone":
                ends[0].close()
            pair.old.begin_drain()
            if what in ("one goes", "both go"):
                first = pair.old.served.drain.successor.senders[0]
                await wait_until(lambda: first._offers.unsettled)
                ends[0].close()
            if what == "both go":
                third.handover.withdraw()
                await wait_until(lambda: pair.old.served.drain.successor is None)
                one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                pair.old.handover.hand_to(one, 3)
                pair.new.handover.receive(other)
            await wait_until(lambda: pair.old.live.is_idle)
            both = (pair.new, third)
            await wait_until(
                lambda: sum(each.count(Field.TAKEN_OVER_TOTAL) for each in both) == 200
            )
            counts = [each.count(Field.TAKEN_OVER_TOTAL) for each in both]
            expected = {
                "both take": ([100, 100], []),
                "one is full": ([5, 195], [1]),
                "one is gone": ([0, 200], [1]),
                "one goes": ([0, 200], [1]),
            }
            if what == "both go":
                assert sorted(spent) == [1, 2]
            else:
                assert (counts, spent) == expected[what]
            for client in clients:
                body, headers = await ask(client)
                assert body in ("new /a 0", "third /a 0")
                assert "connection" not in headers
            for client in clients:
                await client.close()
            await wait_until(lambda: third.live.is_idle)
            third.handover.withdraw()

    run(scenario())


def test_what_a_full_successor_refuses_is_offered_to_the_next_one(run, parser):
    """Nothing is refused twice, and nothing closed."""

    async def scenario():
        async with workers(parser, new={"limit_connections": 2}, drain_grace=5.0) as pair:
            third = Worker("third", parser, limit_connections=2)
            spent = []
            pair.old.handover._on_spent = spent.append
            clients = [await pair.connect() for _ in range(5)]
            for client in clients:
                await ask(client)
            pair.leave()
            await wait_until(lambda: spent)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one, 3)
            third.handover.receive(other)
            await wait_until(lambda: len(spent) == 2)
            await wait_until(lambda: pair.old.handover.came_back == 4)
            assert spent == [0, 3]
            assert len(pair.old.live.connections) == 1
            answers = [(await ask(client)) for client in clients]
            assert (
                sorted(body for body, _ in answers)
                == ["new /a 0"] * 2 + ["old /a 0"] + ["third /a 0"] * 2
            )
            for body, headers in answers:
                assert ("connection" in headers) == body.startswith("old")
            third.handover.withdraw()
            for connection in tuple(third.live.connections):
                connection.abort()
            async with asyncio.timeout(5):
                await third.handover.wait_idle()

    run(scenario())


def test_keep_alive_that_was_promised_ends_after_its_grace_when_the_successor_vanishes(run, parser):
    async def scenario():
        async with workers(parser, drain_grace=0.05) as pair:
            client = await pair.connect()
            client.send(GET % b"wait")
            await wait_until(lambda: pair.old.scopes)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            pair.old.gate.set()
            _, headers, _ = await client.read_response()
            assert "connection" not in headers
            other.close()
            assert await client.read_all() == b""

    run(scenario())


def test_request_crosses_the_end_of_the_successor_and_is_answered(run, parser):
    async def scenario():
        async with workers(parser, drain_grace=1.0) as pair:
            client = await pair.connect()
            await ask(client)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            await wait_until(lambda: pair.old.served.drain.successor.senders[0]._offers.unsettled)
            # It lies in the socket, which nobody reads while the offer is open.
            client.send(GET % b"late")
            await client.writer.drain()
            other.close()
            status, headers, body = await client.read_response()
            assert (status, body, headers["connection"]) == (200, b"old /late 0", "close")

    run(scenario())


def test_drain_deadline_withdraws_what_is_on_its_way(run):
    """The successor never answers; at the deadline what was offered ends here, and cannot be served there."""

    async def scenario():
        async with workers() as pair:
            client = await pair.connect()
            loop = asyncio.get_running_loop()
            acceptor = Acceptor(
                loop, [], http_protocol, record=pair.old.live.record, handshake_timeout=1.0
            )
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            result = await drain(
                pair.old.served, acceptor, pair.old.handover, DrainReason.RELOAD, 0.1
            )
            assert (result.handed_over, result.came_back) == (0, 1)
            assert await client.read_all() == b""
            pair.new.handover.receive(other)
            await wait_until(lambda: not pair.new.handover._receivers)
            assert pair.new.count(Field.TAKEN_OVER_TOTAL) == 0

    run(scenario())


def test_origin_from_a_proxy_header_moves_along(run):
    origin = Origin(("192.0.2.7", 4711), ("198.51.100.1", 443), is_secure=True)

    async def scenario():
        async with workers(origin=origin) as pair:
            client = await pair.connect()
            pair.leave()
            await pair.wait_moved()
            await ask(client)
            scope = pair.new.scopes[0]
            assert scope["client"] == ("192.0.2.7", 4711)
            assert scope["server"] == ("198.51.100.1", 443)
            assert scope["scheme"] == "https"

    run(scenario())


def test_deadlines_go_on_running(run):
    """Two thirds of the keep-alive time at the old worker leave one third at the new one."""

    async def scenario():
        async with workers(keep_alive_timeout=60.0) as pair:
            client = await pair.connect()
            await ask(client)
            (before,) = pair.old.live.connections
            since = before.idle_since
            pair.leave()
            await pair.wait_moved()
            (after,) = pair.new.live.connections
            assert after.idle_since == pytest.approx(since, abs=0.005)

    run(scenario())


def test_deadline_is_never_later_than_the_successor_grants(run):
    async def scenario():
        async with workers(
            old={"keep_alive_timeout": 600.0}, new={"keep_alive_timeout": 0.05}
        ) as pair:
            client = await pair.connect()
            await ask(client)
            pair.leave()
            await pair.wait_moved()
            assert await client.read_all() == b""

    run(scenario())


def test_successor_without_room_sends_connections_back_and_they_end_politely(run, parser):
    async def scenario():
        async with workers(parser, new={"limit_connections": 2}, drain_grace=0.2) as pair:
            clients = [await pair.connect() for _ in range(5)]
            for client in clients:
                await ask(client)
            pair.leave()
            await wait_until(lambda: pair.old.handover.came_back == 3)
            assert pair.old.handover.handed_over == 2
            await wait_until(lambda: len(pair.new.live.connections) == 2)
            answers = [await ask(client) for client in clients]
            assert sorted(body for body, _ in answers) == ["new /a 0"] * 2 + ["old /a 0"] * 3
            for body, headers in answers:
                assert (headers.get("connection") == "close") == body.startswith("old")

    run(scenario())


def test_without_a_successor_connections_end_politely(run, parser):
    async def scenario():
        async with workers(parser, drain_grace=0.05) as pair:
            client = await pair.connect()
            asked = await pair.connect()
            await ask(client)
            pair.old.begin_drain()
            _, headers = await ask(asked)
            assert headers["connection"] == "close"
            assert await client.read_all() == b""

    run(scenario())


def test_successor_that_ends_at_once_costs_nothing(run, parser):
    """It has read nothing of its passage: everything that was offered comes back."""

    async def scenario():
        async with workers(parser, drain_grace=1.0) as pair:
            clients = [await pair.connect() for _ in range(100)]
            for client in clients:
                await ask(client)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            await wait_until(lambda: pair.old.served.drain.successor.senders[0]._offers.unsettled)
            other.close()
            await wait_until(lambda: pair.old.served.drain.successor is None)
            for client in clients:
                body, headers = await ask(client)
                assert body == "old /a 0"
                assert headers["connection"] == "close"

    run(scenario())


def test_successor_that_hangs_gets_a_deadline_and_cannot_serve_afterwards(run, monkeypatch):
    monkeypatch.setattr(sender_module, "SETTLE_TIMEOUT", 0.05)

    async def scenario():
        async with workers(drain_grace=1.0) as pair:
            clients = [await pair.connect() for _ in range(10)]
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            # The successor wakes up only when the old one has given up.
            await wait_until(lambda: pair.old.served.drain.successor is None)
            pair.new.handover.receive(other)
            for client in clients:
                assert (await ask(client))[0] == "old /a 0"
            await wait_until(lambda: not pair.new.handover._receivers)
            assert not pair.new.scopes
            assert pair.new.count(Field.TAKEN_OVER_TOTAL) == 0

    run(scenario())


def test_what_a_killed_worker_had_offered_is_taken(run):
    """It ends without having withdrawn, so it served nothing of it."""

    async def scenario():
        async with workers() as pair:
            ours, theirs = socket.socketpair()
            one, other = Passage.pair()
            parcel = HttpParcel(Facts(("192.0.2.1", 1), ("192.0.2.2", 80)), "silent", 1e12)
            one.offer(1, encode_parcel(parcel), theirs.fileno())
            theirs.close()
            one.close()
            receivers = []
            receiver = HandoverReceiver(
                asyncio.get_running_loop(),
                other,
                partial(resumed_protocol, pair.new.wire),
                lambda: True,
                lambda arrived: None,
                receivers.append,
            )
            client = Client(*await asyncio.open_connection(sock=ours))
            pair.clients.append(client)
            assert (await ask(client))[0] == "new /a 0"
            assert receivers == [receiver]

    run(scenario())


def test_successor_that_drains_without_one_of_its_own_sends_back(run):
    async def scenario():
        async with workers(drain_grace=1.0) as pair:
            client = await pair.connect()
            await ask(client)
            pair.link()
            pair.new.begin_drain()
            pair.old.begin_drain()
            await wait_until(lambda: pair.old.served.drain.successor is None)
            body, headers = await ask(client)
            assert (body, headers["connection"]) == ("old /a 0", "close")

    run(scenario())


def test_successor_that_drains_passes_on(run):
    async def scenario():
        async with workers() as pair:
            third = Worker("third", gate=pair.old.gate)
            client = await pair.connect()
            await ask(client)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.new.handover.hand_to(one)
            third.handover.receive(other)
            pair.new.begin_drain()
            pair.leave()
            await wait_until(lambda: third.count(Field.TAKEN_OVER_TOTAL) == 1)
            assert (await ask(client))[0] == "third /a 0"
            await client.close()
            await third.handover.wait_idle()
            third.handover.withdraw()

    run(scenario())


def test_another_successor_takes_the_place_of_one_that_is_gone(run):
    async def scenario():
        async with workers(drain_grace=5.0) as pair:
            client = await pair.connect()
            busy = await pair.connect()
            busy.send(GET % b"wait")
            await wait_until(lambda: pair.old.scopes)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            other.close()
            await wait_until(lambda: pair.old.served.drain.successor is None)
            pair.link()
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"
            pair.old.gate.set()
            assert (await busy.read_response())[2] == b"old /wait 0"
            assert (await ask(busy))[0] == "new /a 0"

    run(scenario())


@pytest.mark.parametrize("begun", [b"", b"GET /half HTTP/1.1\r\nho"])
def test_deadline_of_a_drain_without_successor_does_not_go_along_to_the_next_one(run, begun):
    """The grace was for a worker that nobody follows; the next one grants what the first had granted."""

    async def scenario():
        async with workers(keep_alive_timeout=60.0, head_timeout=30.0, drain_grace=0.2) as pair:
            silent = await pair.connect()
            client = await pair.connect()
            await ask(client)
            client.send(begun)
            states = ["HEAD" if begun else "IDLE", "SILENT"]
            await wait_until(
                lambda: sorted(c.state.name for c in pair.old.live.connections) == states
            )
            before = sorted(c.idle_since for c in pair.old.live.connections)
            pair.old.begin_drain()
            pair.link()
            await pair.wait_moved(2)
            after = sorted(c.idle_since for c in pair.new.live.connections)
            assert after == pytest.approx(before, abs=0.005)
            silent.send(GET % b"a")
            assert (await silent.read_response())[2] == b"new /a 0"

    run(scenario())


def test_request_that_came_before_the_deadline_is_answered_by_the_successor_after_it(run, parser):
    """It waits in the socket while its connection is on its way, and the keep-alive time ends meanwhile."""

    async def scenario():
        async with workers(parser, keep_alive_timeout=0.3) as pair:
            client = await pair.connect()
            await ask(client)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            await wait_until(lambda: pair.old.served.drain.successor.senders[0]._offers.unsettled)
            client.send(GET % b"late")
            await client.writer.drain()
            (connection,) = pair.old.live.connections
            loop = asyncio.get_running_loop()
            await wait_until(lambda: loop.time() > connection._timer.wait)
            pair.new.handover.receive(other)
            assert (await client.read_response())[2] == b"new /late 0"

    run(scenario())


def test_request_that_came_before_the_deadline_is_answered_after_a_refusal(run, parser):
    async def scenario():
        async with workers(parser, keep_alive_timeout=0.3) as pair:
            client = await pair.connect()
            await ask(client)
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain()
            await wait_until(lambda: pair.old.served.drain.successor.senders[0]._offers.unsettled)
            client.send(GET % b"late")
            await client.writer.drain()
            (connection,) = pair.old.live.connections
            loop = asyncio.get_running_loop()
            await wait_until(lambda: loop.time() > connection._timer.wait)
            pair.link()
            other.close()
            assert (await client.read_response())[2] == b"new /late 0"

    run(scenario())


def test_successor_that_answers_promptly_after_a_pause_is_not_taken_for_stuck(run, monkeypatch):
    """Its time begins with an offer, not with the last word that it said before."""
    monkeypatch.setattr(sender_module, "SETTLE_TIMEOUT", 0.3)

    async def scenario():
        async with workers():
            loop = asyncio.get_running_loop()
            one, other = Passage.pair()
            sender = HandoverSender(loop, one, lambda gone: None, lambda: None, lambda full: None)
            parcel = HttpParcel(Facts(("192.0.2.1", 1), ("192.0.2.2", 80)), "silent", 1e12)
            settled = []
            with socket.socket() as offered:
                assert sender.take(offered.fileno(), parcel, settled.append)
                first = sender._deadline
                other.say(Settled((1,)))
                await wait_until(lambda: settled == [True])
                await wait_until(lambda: loop.time() > first.when() - 0.05)
                assert sender.take(offered.fileno(), parcel, settled.append)
                await wait_until(lambda: sender._deadline is not first or not sender.is_open)
                assert sender.is_open
                other.say(Settled((2,)))
                await wait_until(lambda: settled == [True, True])
            sender.close()
            while (received := other.receive()) is not None:
                for descriptor in received[1]:
                    os.close(descriptor)
            other.close()

    run(scenario())


def test_another_successor_takes_the_place_of_one_that_lives(run):
    async def scenario():
        async with workers() as pair:
            clients = [await pair.connect() for _ in range(200)]
            for client in clients:
                await ask(client)
            third = Worker("third", gate=pair.old.gate)
            pair.leave()
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            third.handover.receive(other)
            await wait_until(
                lambda: (
                    third.count(Field.TAKEN_OVER_TOTAL) + pair.new.count(Field.TAKEN_OVER_TOTAL)
                    == 200
                )
            )
            for client in clients:
                assert (await ask(client))[0] in ("new /a 0", "third /a 0")
                await client.close()
            await third.handover.wait_idle()
            third.handover.withdraw()

    run(scenario())


def test_response_that_the_client_reads_slowly_is_out_before_its_connection_moves(run):
    size = 4_000_000

    async def scenario():
        async with workers() as pair:

            async def large(scope, receive, send):
                headers = [(b"content-length", b"%d" % size)]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"x" * size})

            pair.old.served.app = large
            client = await pair.connect()
            client.send(GET % b"large")
            await client.reader.readuntil(b"\r\n\r\n")
            pair.leave()
            assert len(await client.reader.readexactly(size)) == size
            await pair.wait_moved()
            assert (await ask(client))[0] == "new /a 0"

    run(scenario())


def test_client_that_leaves_while_its_connection_moves_is_forgotten_by_both(run):
    async def scenario():
        async with workers() as pair:
            clients = [await pair.connect() for _ in range(50)]
            for client in clients:
                await ask(client)
            pair.leave()
            for client in clients:
                client.writer.transport.abort()
            await wait_until(
                lambda: not pair.old.live.connections and not pair.new.live.connections
            )

    run(scenario())


def test_client_that_has_closed_its_sending_side_gets_all_its_answers(run, parser):
    async def scenario():
        async with workers(parser) as pair:
            client = await pair.connect()
            client.send(GET % b"wait" + GET % b"b")
            client.writer.write_eof()
            await wait_until(lambda: pair.old.scopes)
            pair.leave()
            pair.old.gate.set()
            answer = await client.read_all()
            assert answer.count(b"HTTP/1.1 200") == 2

    run(scenario())


def test_a_thousand_connections_move_in_slices(run):
    async def scenario():
        async with workers(keep_alive_timeout=60.0) as pair:
            clients = [await pair.connect() for _ in range(300)]
            for client in clients:
                await ask(client)
            offers = []
            pair.link()
            (sender,) = pair.old.served.drain.successor.senders
            assert isinstance(sender, HandoverSender)
            pair.old.begin_drain()
            while pair.old.live.connections:
                offers.append(len(sender._offers.unsettled))
                await asyncio.sleep(0)
            assert max(offers) <= 64
            await pair.wait_moved(300)
            for client in clients:
                assert (await ask(client))[0] == "new /a 0"

    run(scenario())
