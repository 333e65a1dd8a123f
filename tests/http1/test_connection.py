"""What a connection does between and around requests: order, limits, time, and the drain."""

import asyncio
import socket
from typing import Any

import pytest

from asgireload.draining import DrainReason
from asgireload.http.settings import HttpSettings
from asgireload.http1.connection import ConnectionState, HttpConnection, http_protocol
from asgireload.ipc.scoreboard import Field
from tests.http.server import Client, Server, serving
from tests.http.test_exchange import GET, GET_CLOSE, OK, hello, read_body
from tests.wired import make_wire


def drain(server: Server, seconds: float = 5.0) -> None:
    """Drain without a successor, as when the server stops; `worker/test_handover.py` has one."""
    loop = asyncio.get_running_loop()
    server.served.drain.notice.begin(DrainReason.RELOAD, loop.time() + seconds)
    for connection in tuple(server.live.connections):
        connection.begin_drain()


def cut(server: Server) -> None:
    for connection in tuple(server.live.connections):
        connection.cut()
    # As the drain does, a moment later.
    server.served.clock.loop.call_soon(server.live.cancel_background)


def states(server: Server) -> list[ConnectionState]:
    return [
        connection.state
        for connection in server.live.connections
        if isinstance(connection, HttpConnection)
    ]


class Gate:
    """An application that answers once it is let through."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()
        self.waiting = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.waiting += 1
        await self.is_open.wait()
        self.waiting -= 1
        await read_body(receive)
        await send(OK)
        await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_pipelined_requests_are_answered_in_order(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02 if scope["path"] == "/0" else 0)
        body = await read_body(receive)
        await send(OK)
        await send({"type": "http.response.body", "body": scope["path"].encode() + body})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            requests = b"".join(
                b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" % number
                for number in range(50)
            )
            client.send(requests)
            for number in range(50):
                assert (await client.read_response())[2] == b"/%dab" % number
            client.send(GET)
            assert (await client.read_response())[0] == 200

    run(main())


def test_nothing_behind_the_last_request_is_answered(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            reply = await server.exchange(GET + GET_CLOSE + GET + b"garbage")
            assert reply.count(b"HTTP/1.1 200 OK") == 2
            assert server.count(Field.REQUESTS_TOTAL) == 2

    run(main())


def test_malformed_bytes_behind_good_requests_are_answered_last(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            reply = await server.exchange(GET + GET + b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
            assert reply.count(b"HTTP/1.1 200 OK") == 2
            assert reply.index(b"HTTP/1.1 400 ") > reply.rindex(b"HTTP/1.1 200 ")
            assert b"connection: close" in reply
            assert server.count(Field.PEER_ERRORS_TOTAL) == 1

    run(main())


def test_a_broken_body_is_refused_and_told_to_the_application(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
            )
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 1)
            await asyncio.sleep(0.01)
            client.send(b"zz\r\n")
            assert (await client.read_all()).startswith(b"HTTP/1.1 400 ")
            await server.wait_until(lambda: seen)
            assert seen == [{"type": "http.disconnect"}]
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_an_idle_connection_is_closed_after_the_keep_alive_timeout(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            await server.wait_connected()
            (connection,) = server.live.connections
            loop = asyncio.get_running_loop()
            idle_since = 0.0
            for _ in range(3):
                client.send(GET)
                await client.read_response()
                assert connection.idle_since is not None
                assert connection.idle_since > idle_since, "each request begins the time anew"
                idle_since = connection.idle_since
                # The clock of uvloop has milliseconds.
                await server.wait_until(lambda since=idle_since: loop.time() > since)
            server.served.settings = HttpSettings(parser=parser, keep_alive_timeout=0.05)
            client.send(GET)
            await client.read_response()
            assert await client.read_all() == b""

    run(main())


def test_half_a_head_is_answered_with_408(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            await server.wait_connected()
            # Not before: where nothing was received in time there is no answer.
            server.served.settings = HttpSettings(parser=parser, head_timeout=0.05)
            client.send(b"GET / HT")
            assert (await client.read_all()).startswith(b"HTTP/1.1 408 ")
            assert await server.exchange(b"") == b""

    run(main())


@pytest.mark.parametrize("body_bytes", [30_000, 300_000])
def test_an_unread_body_costs_the_connection_only_when_it_is_large(
    run: Any, parser: str, body_bytes: int
) -> None:
    """The answer arrives in both cases, although the client is still sending."""

    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % body_bytes)
            await server.wait_until(lambda: server.count(Field.RESPONSES_2XX_TOTAL) == 1)
            status, headers, _ = await client.read_response()
            assert status == 200
            assert ("connection" in headers) is (body_bytes > 64 * 1024)
            client.send(bytes(body_bytes))
            if body_bytes <= 64 * 1024:
                client.send(GET)
                assert (await client.read_response())[0] == 200
            else:
                assert await client.read_all() == b""

    run(main())


def test_a_response_survives_input_that_nobody_reads(run: Any, parser: str) -> None:
    """A response that the client reads late is not destroyed by a reset."""

    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            client.writer.transport.pause_reading()
            client.send(GET + b"\x00malformed" + bytes(100_000))
            await asyncio.sleep(0.05)
            client.send(bytes(100_000))
            await asyncio.sleep(0.05)
            client.writer.transport.resume_reading()
            reply = await client.read_all()
            assert reply.startswith(b"HTTP/1.1 200 OK")
            assert b"HTTP/1.1 400 " in reply

    run(main())


def test_a_client_that_half_closes_gets_all_answers(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.02)
        await send(OK)
        for _ in range(100):
            await send({"type": "http.response.body", "body": bytes(50_000), "more_body": True})
        await send({"type": "http.response.body"})

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET + GET)
            client.writer.write_eof()
            for _ in range(2):
                assert len((await client.read_response())[2]) == 5_000_000
            assert await client.read_all() == b""

    run(main())


def test_a_client_that_half_closes_gets_its_whole_answer_from_an_application_that_asks(
    run: Any, parser: str
) -> None:
    """Starlette streams beside a `receive()` that waits for the disconnect, and stops at it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await asyncio.sleep(0.02)
        await send(OK)
        for _ in range(5):
            await asyncio.sleep(0.01)
            assert not gone.done()
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await send({"type": "http.response.body"})
        assert await gone == {"type": "http.disconnect"}

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES))
            client.writer.write_eof()
            reply = await client.read_all()
            assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
            assert reply.count(b"piece") == 5
            assert reply.endswith(b"0\r\n\r\n")

    run(main())


def test_an_application_that_asks_learns_that_its_client_has_left(run: Any, parser: str) -> None:
    """A client that closes both ways looks like one that half-closes until it is written to."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES))
            await client.close()
            await server.wait_until(lambda: seen)
            assert seen == [{"type": "http.disconnect"}]

    run(main())


def test_a_half_closed_client_is_not_asked_by_an_application_that_does_not_ask(
    run: Any, parser: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.03)
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(GET)
            client.writer.write_eof()
            reply = await client.read_all()
            assert reply.startswith(b"HTTP/1.1 200 OK")
            assert reply.endswith(b"hello")

    run(main())


def test_a_client_that_closes_within_its_body_is_gone(run: Any, parser: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(await receive())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab")
            await server.wait_until(lambda: server.count(Field.EXCHANGES))
            client.writer.write_eof()
            assert await client.read_all() == b""
            await server.wait_until(lambda: seen)
            assert seen == [{"type": "http.disconnect"}]

    run(main())


def test_a_unix_socket_has_a_path_and_no_client(run: Any, parser: str, tmp_path: Any) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await hello(scope, receive, send)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wire = make_wire(app, parser=parser)
        path = str(tmp_path / "socket")
        listener = await loop.create_unix_server(lambda: http_protocol(wire), path)
        client = Client(*await asyncio.open_unix_connection(path))
        client.send(GET_CLOSE)
        assert (await client.read_all()).startswith(b"HTTP/1.1 200 OK")
        await client.close()
        await wire.server.live.wait_idle()
        listener.close()
        assert scopes[0]["server"] == (path, None)
        assert scopes[0]["client"] is None
        assert "state" not in scopes[0]

    run(main())


def test_connections_without_a_complete_request_get_an_answer_at_the_drain(
    run: Any, parser: str
) -> None:
    """Silent, idle, and half a head: each request that is still sent is answered, with a close."""

    async def main() -> None:
        async with serving(hello, parser, drain_grace=0.3) as server:
            silent, idle, half = [await server.connect() for _ in range(3)]
            idle.send(GET)
            await idle.read_response()
            half.send(GET[:20])
            await server.wait_until(
                lambda: {state.name for state in states(server)} == {"SILENT", "IDLE", "HEAD"}
            )
            drain(server)
            late = await server.connect()
            await asyncio.sleep(0.05)
            for client in (silent, idle, late):
                client.send(GET)
            half.send(GET[20:])
            for client in (silent, idle, late, half):
                status, headers, _ = await client.read_response()
                assert (status, headers["connection"]) == (200, "close")
                assert await client.read_all() == b""

    run(main())


def test_idle_connections_end_politely_after_the_grace(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser, drain_grace=0.05) as server:
            silent, idle = [await server.connect() for _ in range(2)]
            idle.send(GET)
            await idle.read_response()
            await server.wait_connected(2)
            drain(server)
            for client in (silent, idle):
                assert await client.read_all() == b""
                await client.close()
            await server.live.wait_idle()

    run(main())


def test_half_a_head_outlives_the_grace_but_not_the_deadline(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser, drain_grace=0.01) as server:
            first, second = [await server.connect() for _ in range(2)]
            for client in (first, second):
                client.send(GET[:20])
            await server.wait_until(lambda: states(server) == [ConnectionState.HEAD] * 2)
            drain(server, 0.2)
            await asyncio.sleep(0.1)
            first.send(GET[20:])
            assert (await first.read_response())[0] == 200
            assert (await second.read_all()).startswith(b"HTTP/1.1 503 ")

    run(main())


def test_running_and_pipelined_requests_are_all_answered_at_the_drain(
    run: Any, parser: str
) -> None:
    """Only the last response of the connection says that it closes."""

    async def main() -> None:
        gate = Gate()
        async with serving(gate, parser) as server:
            client = await server.connect()
            client.send(
                b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"
            )
            await server.wait_until(lambda: gate.waiting == 1)
            drain(server)
            gate.is_open.set()
            for number in (0, 1):
                _, headers, body = await client.read_response()
                assert body == b"/%d" % number
                assert "connection" not in headers
            client.send(b"bc")
            _, headers, body = await client.read_response()
            assert body == b"/2"
            assert headers["connection"] == "close"
            assert await client.read_all() == b""

    run(main())


def test_an_upload_under_way_at_the_drain_completes(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await read_body(receive)
        await send(OK)
        await send({"type": "http.response.body", "body": b"%d" % len(body)})

    async def main() -> None:
        async with serving(app, parser, drain_grace=0.01) as server:
            upload, expecting = [await server.connect() for _ in range(2)]
            upload.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 1)
            expecting.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            )
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 2)
            drain(server)
            await asyncio.sleep(0.05)
            assert await expecting.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            expecting.send(b"ab")
            upload.send(bytes(200_000))
            assert (await expecting.read_response())[2] == b"2"
            assert (await upload.read_response())[2] == b"200000"

    run(main())


def test_a_stream_told_of_the_drain_ends_cleanly(run: Any, parser: str) -> None:
    """It learns by its scope, not by a disconnect or a cancellation; the terminating chunk arrives."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(OK)
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        await scope["extensions"]["asgireload.drain"].wait()
        await send({"type": "http.response.body", "body": b"bye"})

    async def main() -> None:
        async with serving(app, parser, drain_grace=0.05) as server:
            client = await server.connect()
            client.send(GET)
            await client.read_until(b"data\r\n")
            drain(server)
            assert await client.read_until(b"0\r\n\r\n") == b"3\r\nbye\r\n0\r\n\r\n"
            # The head was out before the drain began, so the grace applies to a late request.
            client.send(GET_CLOSE)
            await client.read_until(b"data\r\n")
            assert await client.read_all() == b"3\r\nbye\r\n0\r\n\r\n"

    run(main())


@pytest.mark.parametrize("obeys", [True, False])
def test_the_deadline_cuts_what_still_runs(run: Any, parser: str, obeys: bool) -> None:
    """An application that swallows its cancellation does not hold the cut."""
    release: list[asyncio.Event] = []
    cancelled: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await send(OK)
            await send({"type": "http.response.body", "body": b"data", "more_body": True})
        while True:
            try:
                await release[0].wait()
                return
            except asyncio.CancelledError:
                cancelled.append(scope["path"])
                if obeys:
                    raise

    async def main() -> None:
        release.append(asyncio.Event())
        async with serving(app, parser) as server:
            begun, pending, queued = [await server.connect() for _ in range(3)]
            begun.send(b"GET /begun HTTP/1.1\r\nHost: a\r\n\r\n")
            await begun.read_until(b"data\r\n")
            pending.send(GET)
            queued.send(GET + GET)
            await server.wait_until(lambda: server.count(Field.EXCHANGES) == 3)
            drain(server)
            cut(server)
            reply = await pending.read_all()
            assert reply.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nconnection: close\r\n" in reply
            assert (await queued.read_all()).count(b"HTTP/1.1 503 ") == 1
            assert await begun.read_all() == b""  # without the chunk that ends a body
            assert server.count(Field.CUT_TOTAL) == 3
            assert sorted(cancelled) == ["/", "/", "/begun"]
            for client in (begun, pending, queued):
                await client.close()
            await server.wait_until(lambda: not server.live.connections)
            assert server.live.is_idle is obeys
            release[0].set()

    run(main())


def test_a_request_that_never_reached_the_application_can_be_cut(run: Any, parser: str) -> None:
    """Cut in the same turn in which its task was made."""

    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            await server.wait_connected()
            (connection,) = server.live.connections
            assert isinstance(connection, HttpConnection)
            # Where Python can, the first one runs at once; the second is never more than a task.
            connection.data_received(GET + GET)
            connection.cut()
            server.live.cancel_background()
            assert (await client.read_all()).split(b"HTTP/1.1 ")[-1].startswith(b"503 ")
            await client.close()
            await server.live.wait_idle()

    run(main())


def test_work_behind_a_response_can_be_cancelled_at_the_deadline(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await hello(scope, receive, send)
        await asyncio.sleep(60)

    async def main() -> None:
        async with serving(app, parser) as server:
            await server.exchange(GET_CLOSE)
            drain(server)
            assert server.live.cancel_background() == 1
            await server.live.wait_idle()

    run(main())


def test_abort_drops_everything_at_once(run: Any, parser: str) -> None:
    async def main() -> None:
        gate = Gate()
        async with serving(gate, parser) as server:
            client = await server.connect()
            client.send(GET)
            await server.wait_until(lambda: gate.waiting == 1)
            for connection in tuple(server.live.connections):
                connection.abort()
            await server.live.wait_idle()
            own: socket.socket = client.writer.get_extra_info("socket")
            assert own is not None
            try:
                assert await client.read_all() == b""
            except ConnectionResetError:
                pass  # either is an abort; which one depends on what the kernel had read

    run(main())
