"""What a client may ask for and how long it may take: each limit has its answer and its counter."""

import asyncio
import socket
from typing import Any

import pytest

from asgireload.errors import ClientDisconnectedError
from asgireload.http import live
from asgireload.http.request import RequestLimits
from asgireload.ipc.scoreboard import Field, Limit
from tests.http.server import Server, serving
from tests.http.test_exchange import GET, OK, hello, read_body

SMALL = RequestLimits(line=100, head=1000, fields=5, body=10)


def hits(server: Server) -> dict[Limit, int]:
    """Return the counters of the limits that were hit."""
    counts = {limit: server.count(Field.LIMIT_0 + limit) for limit in Limit}  # type: ignore[arg-type]
    return {limit: count for limit, count in counts.items() if count}


async def untouchable(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the application must not be called")


@pytest.mark.parametrize(
    ("request_bytes", "status", "limit"),
    [
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, Limit.REQUEST_LINE),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x: y\r\n" * 5 + b"\r\n", 431, Limit.HEAD),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 1000 + b"\r\n\r\n", 431, Limit.HEAD),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413, Limit.BODY),
    ],
)
def test_a_request_that_is_too_large_is_refused_before_the_application_is_called(
    run: Any, parser: str, request_bytes: bytes, status: int, limit: Limit
) -> None:
    async def main() -> None:
        async with serving(untouchable, parser, request_limits=SMALL) as server:
            reply = await server.exchange(request_bytes)
            assert reply.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nconnection: close\r\n" in reply
            assert hits(server) == {limit: 1}
            assert server.count(Field.PEER_ERRORS_TOTAL) == 0

    run(main())


def test_a_body_that_grows_too_large_is_refused_and_never_looks_complete(
    run: Any, parser: str
) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] == "http.request":
            assert message["more_body"]
            seen.append(message["body"])
        seen.append("gone")

    async def main() -> None:
        async with serving(app, parser, request_limits=SMALL) as server:
            client = await server.connect()
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n"
            )
            await server.wait_until(lambda: seen)
            client.send(b"5\r\n")
            assert (await client.read_all()).startswith(b"HTTP/1.1 413 ")
            await server.wait_until(lambda: len(seen) == 2)
            assert seen == [b"abcdef", "gone"]
            assert hits(server) == {Limit.BODY: 1}

    run(main())


def test_a_body_that_pauses_is_cut(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(await receive())
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser, body_timeout=0.1) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            assert (await client.read_all()).startswith(b"HTTP/1.1 408 ")
            await server.wait_until(lambda: len(seen) == 2)
            assert seen[1] == {"type": "http.disconnect"}
            assert hits(server) == {Limit.BODY_TIMEOUT: 1}
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_response_that_was_begun_breaks_off_when_the_body_pauses(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(OK)
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    async def main() -> None:
        async with serving(app, parser, body_timeout=0.1) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            reply = await client.read_all()
            assert reply.endswith(b"4\r\npart\r\n")  # and no last chunk
            assert hits(server) == {Limit.BODY_TIMEOUT: 1}

    run(main())


def test_a_body_in_pieces_is_not_cut_while_it_makes_progress(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(echo, parser, body_timeout=0.3) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
            for _ in range(8):
                await asyncio.sleep(0.08)
                client.send(b"x")
            assert (await client.read_response())[2] == b"x" * 8
            assert hits(server) == {}

    run(main())


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_body(receive)
    await send(OK)
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("waits_for_continue", [True, False])
def test_a_client_is_not_blamed_for_an_application_that_does_not_read(
    run: Any, parser: str, waits_for_continue: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)
        await echo(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser, body_timeout=0.1) as server:
            client = await server.connect()
            if waits_for_continue:
                body = b"abc"
                client.send(
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                    b"Expect: 100-continue\r\n\r\n"
                )
                assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                client.send(body)
            else:
                body = b"y" * 3_000_000
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + body)
            assert (await client.read_response())[2] == body
            assert hits(server) == {}

    run(main())


@pytest.mark.parametrize("first", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\nx: "])
def test_dribbled_heads_are_cut_at_the_deadline(run: Any, parser: str, first: bytes) -> None:
    """A byte now and then is no progress: the deadline is for the whole head."""

    async def main() -> None:
        async with serving(hello, parser, head_timeout=0.4) as server:
            client = await server.connect()
            started = asyncio.get_running_loop().time()
            if first:
                client.send(first)

                async def dribble() -> None:
                    while True:
                        await asyncio.sleep(0.02)
                        client.send(b"a")

                task = asyncio.create_task(dribble())
                reply = await client.read_all()
                task.cancel()
                assert reply.startswith(b"HTTP/1.1 408 ")
            else:
                assert await client.read_all() == b""
            assert asyncio.get_running_loop().time() - started < 10
            assert hits(server) == {Limit.HEAD_TIMEOUT: 1}

    run(main())


def test_a_dribbled_second_head_is_cut_at_its_own_deadline(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser, head_timeout=0.2, keep_alive_timeout=30) as server:
            client = await server.connect()
            client.send(GET)
            assert (await client.read_response())[0] == 200
            client.send(b"GET / HTT")
            assert (await client.read_all()).startswith(b"HTTP/1.1 408 ")
            assert hits(server) == {Limit.HEAD_TIMEOUT: 1}

    run(main())


def test_an_idle_connection_is_closed_and_counted(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser, keep_alive_timeout=0.1) as server:
            client = await server.connect()
            client.send(GET)
            assert (await client.read_response())[0] == 200
            assert await client.read_all() == b""
            assert hits(server) == {Limit.KEEP_ALIVE_TIMEOUT: 1}

    run(main())


@pytest.mark.parametrize("path", ["body", "file"])
def test_a_client_that_does_not_read_is_dropped(
    run: Any, parser: str, path: str, tmp_path: Any
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 20_000_000)
    ended: list[type | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        if path == "file":
            await send({"type": "http.response.pathsend", "path": str(large)})
            ended.append(None)
        try:
            while path == "body":
                await send(
                    {"type": "http.response.body", "body": b"x" * 100_000, "more_body": True}
                )
        except OSError as error:
            ended.append(type(error))
            raise

    async def main() -> None:
        async with serving(app, parser, write_timeout=0.2) as server:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await loop.sock_connect(client, ("127.0.0.1", server.port))
                await loop.sock_sendall(client, GET)
                await server.wait_until(lambda: ended)
            assert ended == [None if path == "file" else ClientDisconnectedError]
            await server.wait_until(lambda: not server.live.connections)
            assert hits(server) == {Limit.WRITE_TIMEOUT: 1}
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_slow_reader_that_makes_progress_is_served(run: Any, parser: str) -> None:
    body = b"x" * 6_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": body})

    async def main() -> None:
        async with serving(app, parser, write_timeout=0.5) as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"\r\n\r\n")
            received = 0
            while received < len(body):
                received += len(await client.reader.read(400_000))
                await asyncio.sleep(0.05)
            assert hits(server) == {}

    run(main())


def test_an_application_that_takes_too_long_is_cancelled_and_answered_for(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/quick":
            await hello(scope, receive, send)
            return
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        async with serving(app, parser, request_timeout=0.15) as server:
            client = await server.connect()
            client.send(GET)
            status, headers, _ = await client.read_response()
            assert status == 504
            assert "connection" not in headers
            await server.wait_until(lambda: cancelled)
            assert hits(server) == {Limit.REQUEST_TIMEOUT: 1}
            client.send(GET.replace(b" / ", b" /quick "))
            assert (await client.read_response())[0] == 200
            assert server.count(Field.APP_ERRORS_TOTAL) == 0
        lines = [record.getMessage() for record in caplog.records]
        assert lines == [
            "GET / took longer than 0.15 s (timeout_request): the application was cancelled"
        ]

    run(main())


def test_a_stream_that_takes_too_long_breaks_off(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0.02)

    async def main() -> None:
        async with serving(app, parser, request_timeout=0.15) as server:
            reply = await server.exchange(GET)
            assert reply.endswith(b"4\r\ntick\r\n")
            assert hits(server) == {Limit.REQUEST_TIMEOUT: 1}
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_an_overload_is_answered_with_a_time_to_come_back(
    run: Any, parser: str, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser, limit_concurrency=1) as server:
            first = await server.connect()
            first.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 1)
            second = await server.connect()
            for _ in range(3):
                second.send(GET)
                status, headers, _ = await second.read_response()
                assert status == 503
                assert headers["retry-after"] == "1"
            release.set()
            assert (await first.read_response())[0] == 200
            assert hits(server) == {Limit.CONCURRENCY: 3}
        assert len([record for record in caplog.records if "concurrency" in record.message]) == 1

    run(main())


def test_idle_connections_count_against_the_concurrency_limit(run: Any, parser: str) -> None:
    """As uvicorn's do: whoever holds so many and says nothing has everybody else refused."""

    async def main() -> None:
        async with serving(hello, parser, limit_concurrency=2) as server:
            for _ in range(2):
                await server.connect()
            await server.wait_connected(2)
            client = await server.connect()
            client.send(GET)
            assert (await client.read_response())[0] == 503
            assert hits(server) == {Limit.CONCURRENCY: 1}

    run(main())


def test_the_longest_idle_connections_make_way_for_new_ones(
    run: Any, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "ROOM_IDLE_SECONDS", 0.0)

    async def main() -> None:
        async with serving(hello, parser, limit_connections=4) as server:
            clients = [await server.connect() for _ in range(4)]
            for client in clients:
                client.send(GET)
                assert (await client.read_response())[0] == 200
                await asyncio.sleep(0.01)
            assert server.live.has_room()
            assert await clients[0].read_all() == b""
            assert hits(server) == {Limit.CONNECTIONS: 1}
            for client in clients[1:]:
                client.send(GET)
                assert (await client.read_response())[0] == 200

    run(main())


def test_busy_connections_do_not_make_way(run: Any, parser: str) -> None:
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await release.wait()
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser, limit_connections=2) as server:
            clients = [await server.connect() for _ in range(2)]
            for client in clients:
                client.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 2)
            assert not server.live.has_room()
            rooms: list[bool] = []
            server.live.on_room = lambda: rooms.append(server.live.has_room())
            release.set()
            for client in clients:
                assert (await client.read_response())[0] == 200
            await clients[0].close()
            await server.wait_until(lambda: rooms)
            assert rooms == [True]

    run(main())


def test_pipelined_requests_stay_bytes_until_their_turn(run: Any, parser: str) -> None:
    """A quarter of a megabyte of tiny requests must not become thousands of objects."""
    release = asyncio.Event()
    called: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        called.append(scope["path"])
        await release.wait()
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET * 5000)
            await server.wait_until(lambda: called)
            await asyncio.sleep(0.05)
            assert called == ["/"]
            assert server.count(Field.EXCHANGES) == 1
            assert server.count(Field.BYTES_RECEIVED_TOTAL) <= 2 * 256 * 1024
            release.set()
            for _ in range(5000):
                assert (await client.read_response())[0] == 200

    run(main())
