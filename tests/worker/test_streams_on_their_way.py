"""Event streams that move, made odd: large pieces, hints, bodies of a GET, a BOM, ids that no header can carry."""

import asyncio
import socket
from typing import Any

import pytest

from tests.process.sse import End, SseClient
from tests.worker.test_handover import wait_until, workers
from tests.worker.test_stream_handover import EVENTS, Stream, last_id, numbers, streaming

LARGE = 70_000
START = {"type": "http.response.start", "status": 200, "headers": EVENTS}


class Log:
    """An access log that keeps its entries."""

    logs_at_start = False
    entry_from_ns = 0

    def __init__(self) -> None:
        self.entries: list[Any] = []

    def response_ended(self, entry: Any) -> None:
        self.entries.append(entry)


def piece(body: bytes, *, more: bool = True) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


def test_ids_in_large_pieces_count(run: Any) -> None:
    async def scenario() -> None:
        async def large(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            for n in range(1, 6):
                await send(piece(b"id: %d\ndata: %d\n: %s\n\n" % (n, n, b"x" * LARGE)))
            await asyncio.Event().wait()

        async with streaming(large, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(5)
            pair.leave()
            await client.wait_events(10)
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


def test_a_large_beginning_of_an_event_is_not_its_end(run: Any) -> None:
    async def scenario() -> None:
        goes_on = asyncio.Event()

        async def large(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"id: 1\ndata: 1\n\n"))
            await send(piece(b"id: 2\ndata: " + b"x" * LARGE))
            await goes_on.wait()
            await send(piece(b"\n\n"))
            await asyncio.Event().wait()

        async with streaming(large, Stream()) as (pair, client):
            await client.ask("/events")
            await wait_until(lambda: len(client.body) > LARGE)
            pair.leave()
            await asyncio.sleep(0.1)
            goes_on.set()
            await client.wait_events(4)
            assert [len(event.data) for event in client.events[:4]] == [1, LARGE, 1, 1]

    run(scenario())


def test_early_hints_do_not_go_into_the_body_of_a_stream_that_goes_on(run: Any) -> None:
    async def scenario() -> None:
        class Hinting(Stream):
            async def stream(self, scope: Any, send: Any) -> None:
                hint = {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]}
                await send(hint)
                await super().stream(scope, send)

        async with streaming(Hinting(), Hinting()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            await pair.wait_moved()
            await client.wait_events(len(client.events) + 5)
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


class Ending(Stream):
    """Ends after twenty events."""

    async def stream(self, scope: Any, send: Any) -> None:
        number = last_id(scope)
        await send(START)
        for left in range(19, -1, -1):
            number += 1
            await send(piece(b"id: %d\ndata: %d\n\n" % (number, number), more=left > 0))
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("received", [10, 5])
def test_the_body_of_a_get_is_not_waited_for_twice(run: Any, received: int) -> None:
    """It came behind the beginning of the response. The bytes behind it are the next request."""

    async def scenario() -> None:
        old = Stream()

        async def begin_at_once(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/plain":
                await old(scope, receive, send)
            else:
                await old.stream(scope, send)

        async with streaming(begin_at_once, Ending()) as (pair, client):
            client.send(b"GET /events HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
            await client.wait_events(2)
            client.send(b"0123456789"[:received])
            await client.wait_events(6)
            pair.leave()
            await client.wait_events(len(client.events) + 3)
            client.send(b"0123456789"[received:])
            client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == list(range(1, len(client.events) + 1))
            await wait_until(lambda: client.rest.endswith(b"plain"))

    run(scenario())


def test_an_empty_chunked_body_of_a_get_is_not_waited_for_twice(run: Any) -> None:
    async def scenario() -> None:
        async with streaming(Stream(), Ending()) as (pair, client):
            head = b"GET /events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            client.send(head + b"0\r\n\r\n")
            await client.wait_events(5)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            await client.ask("/plain")
            assert await client.wait_end() is End.TERMINATED
            assert bytes(client.body) == b"plain"

    run(scenario())


def test_a_bom_is_left_out_where_a_stream_goes_on(run: Any) -> None:
    """In the middle of a stream it would be a part of the first line's name."""

    async def scenario() -> None:
        class Bom(Stream):
            async def stream(self, scope: Any, send: Any) -> None:
                number = last_id(scope)
                await send(START)
                bom = "\ufeff".encode()
                while True:
                    number += 1
                    await send(piece(bom + b"data: %d\nid: %d\n\n" % (number, number)))
                    bom = b""
                    await asyncio.sleep(0.005)

        async with streaming(Bom(), Bom()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            await pair.wait_moved()
            await client.wait_events(len(client.events) + 5)
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


@pytest.mark.parametrize("event_id", ["\x01", "a\x7f"], ids=repr)
def test_a_stream_whose_id_no_header_can_carry_is_logged(run: Any, event_id: str) -> None:
    async def scenario() -> None:
        async def odd(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"id: " + event_id.encode() + b"\ndata: 1\n\n"))
            await asyncio.Event().wait()

        async with streaming(odd, Stream()) as (pair, client):
            old_log = pair.old.served.access_log = Log()
            new_log = pair.new.served.access_log = Log()
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            client.transport.abort()
            await wait_until(lambda: pair.old.live.is_idle and pair.new.live.is_idle)
            assert len(old_log.entries) + len(new_log.entries) == 1

    run(scenario())


def test_a_stream_that_takes_too_long_on_its_way_is_logged_once(run: Any) -> None:
    async def scenario() -> None:
        async with workers(request_timeout=1.0) as pair:
            pair.old.served.app = Stream()
            log = pair.old.served.access_log = Log()
            client = await SseClient.open(pair.address)
            await client.ask("/events")
            await client.wait_events(3)
            # The worker that follows is stopped.
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            pair.old.handover.hand_to(one)
            pair.old.begin_drain(4.0)
            await client.wait_end(15)
            client.transport.abort()
            other.close()
            assert len(log.entries) == 1

    run(scenario())
