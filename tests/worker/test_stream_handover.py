"""Event streams of a worker that drains: they move to the one that follows, or end between two events."""

import asyncio
import contextlib
import time
from typing import Any

import pytest

from asgireload.draining import DrainReason
from asgireload.http.request import RequestLimits
from asgireload.ipc.scoreboard import Field
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.drain import drain
from tests.process.sse import End, SseClient
from tests.worker.test_handover import Pair, wait_until, workers

EVENTS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


def last_id(scope: Any) -> int:
    return int(dict(scope["headers"]).get(b"last-event-id", b"0"))


class Stream:
    """An application that numbers its events, goes on behind Last-Event-ID, and listens as Starlette does."""

    def __init__(
        self,
        *,
        has_ids: bool = True,
        interval: float = 0.005,
        listens: bool = True,
        headers: Any = EVENTS,
        status: int = 200,
        first: int = 0,
    ) -> None:
        self.has_ids = has_ids
        self.interval = interval
        self.listens = listens
        self.start = {"type": "http.response.start", "status": status, "headers": headers}
        self.first = first
        self.scopes: list[Any] = []
        self.ended: list[type[BaseException] | None] = []
        self.told: list[float] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["path"] == "/plain":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"plain"})
            return
        await receive()
        streaming = asyncio.ensure_future(self.stream(scope, send))
        try:
            if self.listens:
                listening = asyncio.ensure_future(receive())
                done, _ = await asyncio.wait(
                    [streaming, listening], return_when=asyncio.FIRST_COMPLETED
                )
                listening.cancel()
                if streaming not in done:
                    self.told.append(time.monotonic())
            else:
                await streaming
        finally:
            streaming.cancel()
            await asyncio.wait([streaming])
            cancelled = streaming.cancelled()
            self.ended.append(
                asyncio.CancelledError if cancelled else type(streaming.exception() or None)
            )

    async def stream(self, scope: Any, send: Any) -> None:
        number = last_id(scope) or self.first
        await send(self.start)
        while True:
            number += 1
            event = b"id: %d\n" % number if self.has_ids else b""
            body = event + b"data: %d\n\n" % number
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(self.interval)


@contextlib.asynccontextmanager
async def streaming(old: Any, new: Any, **settings: Any) -> Any:
    """`settings`: of the worker that follows."""
    async with workers(new=settings, event_stream_notice=1.0) as pair:
        pair.old.served.app, pair.new.served.app = old, new
        client = await SseClient.open(pair.address)
        try:
            yield pair, client
        finally:
            client.transport.abort()


def numbers(client: SseClient) -> list[int]:
    return [int(event.data) for event in client.events]


def test_a_stream_with_ids_goes_on_in_the_worker_that_follows(run: Any) -> None:
    async def scenario() -> None:
        old, new = Stream(), Stream()
        async with streaming(old, new) as (pair, client):
            await client.ask("/events?x=1", headers=[("Cookie", "a=b"), ("X-Two", "2")])
            await client.wait_events(5)
            pair.leave()
            await pair.wait_moved()
            count = len(client.events)
            await client.wait_events(count + 20)
            assert numbers(client) == list(range(1, len(client.events) + 1))
            assert client.end is None
            # The old call is over, and the new one was asked as the client would ask.
            await wait_until(lambda: old.ended)
            assert old.told
            assert old.ended == [asyncio.CancelledError]
            before, after = dict(old.scopes[0]), dict(new.scopes[0])
            known = after.pop("headers")
            asked = before.pop("headers")
            for scope in (before, after):
                scope.pop("extensions")
            assert before == after
            assert known[:-1] == asked
            assert known[-1][0] == b"last-event-id"
            assert not pair.old.live.connections
            assert pair.new.count(Field.REQUESTS_TOTAL) == 0

    run(scenario())


def test_a_stream_that_is_silent_moves_at_once(run: Any) -> None:
    async def scenario() -> None:
        old, new = Stream(interval=3600), Stream()
        async with streaming(old, new) as (pair, client):
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            await client.wait_events(10)
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


@pytest.mark.parametrize("listens", [True, False])
def test_the_old_call_ends_whether_it_listens_or_not(run: Any, listens: bool) -> None:
    async def scenario() -> None:
        old = Stream(interval=3600, listens=listens)
        async with streaming(old, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            await pair.wait_moved()
            await wait_until(lambda: old.ended)
            assert old.ended == [asyncio.CancelledError]
            await wait_until(lambda: pair.old.live.is_idle)

    run(scenario())


def test_a_stream_that_has_sent_no_event_yet_moves(run: Any) -> None:
    async def scenario() -> None:
        async def silent(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
            await asyncio.Event().wait()

        new = Stream(has_ids=False)
        async with streaming(silent, new) as (pair, client):
            await client.ask("/events", last_event_id="7")
            await wait_until(lambda: client.body)
            pair.leave()
            await client.wait_events(3)
            assert numbers(client)[:3] == [8, 9, 10]  # as it was asked for at first

    run(scenario())


def test_a_stream_that_has_sent_nothing_yet_moves(run: Any) -> None:
    async def scenario() -> None:
        async def waiting(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            await asyncio.Event().wait()

        async with streaming(waiting, Stream()) as (pair, client):
            await client.ask("/events")
            pair.leave()
            await client.wait_events(3)
            assert numbers(client)[:3] == [1, 2, 3]

    run(scenario())


def test_new_code_that_fails_before_its_first_event_ends_the_stream_properly(run: Any) -> None:
    async def scenario() -> None:
        async def failing(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            await asyncio.sleep(0.01)
            raise ValueError("the database is away")

        async with streaming(Stream(), failing) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED

    run(scenario())


def test_a_stream_of_http_1_0_moves(run: Any) -> None:
    """As nginx asks by default: the body ends with the connection."""

    async def scenario() -> None:
        async with streaming(Stream(), Stream()) as (pair, client):
            client.send(b"GET /events HTTP/1.0\r\nHost: a\r\n\r\n")
            await client.wait_head()
            await client.wait_events(3)
            pair.leave()
            await pair.wait_moved()
            count = len(client.events)
            await client.wait_events(count + 10)
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


def test_a_stream_moves_between_two_events_only(run: Any) -> None:
    async def scenario() -> None:
        goes_on = asyncio.Event()

        async def in_pieces(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            for piece in (b"id: 1\ndata: 1\n\nid: 2\nda", b"ta: ", b"2", b"\n", b"\n"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                if piece == b"2":
                    await goes_on.wait()
            await asyncio.Event().wait()

        async with streaming(in_pieces, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            await asyncio.sleep(0.1)
            assert pair.new.count(Field.TAKEN_OVER_TOTAL) == 0
            goes_on.set()
            await client.wait_events(5)
            assert numbers(client)[:5] == [1, 2, 3, 4, 5]

    run(scenario())


def test_what_the_client_has_sent_behind_its_request_goes_along(run: Any) -> None:
    async def scenario() -> None:
        async def ends(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/plain":
                await Stream()(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            body = b"id: 2\ndata: 2\n\n"
            await send({"type": "http.response.body", "body": body})

        async with streaming(Stream(interval=3600), ends) as (pair, client):
            await client.ask("/events")
            client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            await client.wait_events(1)
            await wait_until(lambda: pair.old.count(Field.BYTES_RECEIVED_TOTAL) >= 100)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == [1, 2]
            await wait_until(lambda: client.rest.endswith(b"plain"))

    run(scenario())


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("this code cannot do that any more")


async def return_early(scope: Any, receive: Any, send: Any) -> None:
    return


async def start_only(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})


OTHERS = {
    "not found": Stream(status=404),
    "no content": Stream(status=204),
    "another type": Stream(headers=[(b"content-type", b"text/plain")]),
    "compressed": Stream(headers=[*EVENTS, (b"content-encoding", b"gzip")]),
    "an announced length": Stream(headers=[*EVENTS, (b"content-length", b"5")]),
    "headers that cannot be sent": Stream(headers=[5]),
    "raises": refuse,
    "returns": return_early,
}


def test_large_events_move_between_two_of_them(run: Any) -> None:
    async def scenario() -> None:
        async def large(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            number = last_id(scope)
            while True:
                number += 1
                body = b"id: %d\ndata: %s\n\n" % (number, b"x" * 200_000)
                for piece in (body[:150_000], body[150_000:]):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    await asyncio.sleep(0.005)

        async with streaming(large, large) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            await pair.wait_moved()
            count = len(client.events)
            await client.wait_events(count + 5)
            ids = [int(event.id) for event in client.events]
            assert ids == list(range(1, len(ids) + 1))

    run(scenario())


@pytest.mark.parametrize("name", OTHERS)
def test_a_stream_that_the_new_code_does_not_go_on_with_ends_properly(run: Any, name: str) -> None:
    async def scenario() -> None:
        async with streaming(Stream(), OTHERS[name]) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert client.is_at_boundary
            assert numbers(client) == list(range(1, len(client.events) + 1))
            # The connection is as good as before.
            await client.ask("/plain") if name not in ("raises", "returns") else None

    run(scenario())


@pytest.mark.parametrize("ids", ["numbers", "constant"])
def test_an_application_that_does_not_read_the_last_id_does_not_begin_again_in_the_same_body(
    run: Any, ids: str
) -> None:
    async def forgetful(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        for number in range(1, 10_000):
            name = b"%d" % number if ids == "numbers" else b"always"
            body = b"id: %b\ndata: %d\n\n" % (name, number)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await asyncio.sleep(0.005)

    async def scenario() -> None:
        async with streaming(forgetful, forgetful) as (pair, client):
            await client.ask("/events")
            await client.wait_events(5)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


def test_streams_do_not_move_where_that_is_switched_off(run: Any) -> None:
    async def scenario() -> None:
        options = {"event_stream_handover": False, "event_stream_notice": 0.1}
        async with workers(**options) as pair:
            pair.old.served.app = Stream()
            client = await SseClient.open(pair.address)
            await client.ask("/events")
            await client.wait_events(2)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            client.transport.abort()

    run(scenario())


def test_a_busy_worker_that_follows_ends_it_properly(run: Any) -> None:
    async def scenario() -> None:
        async with streaming(Stream(), Stream(), limit_concurrency=0) as (pair, client):
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED

    run(scenario())


def test_a_request_that_the_worker_that_follows_does_not_take_ends_it_properly(run: Any) -> None:
    async def scenario() -> None:
        limits = RequestLimits(line=20)
        async with streaming(Stream(), Stream(), request_limits=limits) as (pair, client):
            await client.ask("/events?with=a-longer-request-line")
            await client.wait_events(1)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED

    run(scenario())


def test_a_stream_without_ids_ends_between_two_events_and_its_connection_moves(run: Any) -> None:
    async def scenario() -> None:
        old = Stream(has_ids=False)
        async with streaming(old, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            began = time.monotonic()
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert client.is_at_boundary
            assert time.monotonic() - began >= 0.9  # the application had time to end it itself
            await client.ask("/plain")
            await wait_until(lambda: client.body == b"plain")
            assert [scope["path"] for scope in pair.new.served.app.scopes] == ["/plain"]
            await wait_until(lambda: old.ended)

    run(scenario())


def test_an_application_that_hears_of_the_drain_ends_its_stream_itself(run: Any) -> None:
    async def scenario() -> None:
        async def says_goodbye(scope: Any, receive: Any, send: Any) -> None:
            notice = scope["extensions"]["asgireload.drain"]
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
            await notice.wait()
            await asyncio.sleep(0.2)
            await send({"type": "http.response.body", "body": b"data: 2\n\n"})

        async with streaming(says_goodbye, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(1)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == [1, 2]

    run(scenario())


def test_streams_of_a_post_finish(run: Any) -> None:
    async def scenario() -> None:
        async def completion(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            for number in range(60):
                body = b"id: %d\ndata: %d\n\n" % (number, number)
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(0.04)
            await send({"type": "http.response.body", "body": b""})

        async with streaming(completion, Stream()) as (pair, client):
            await client.ask("/completions", method="POST", body=b"{}")
            await client.wait_events(3)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == list(range(60))

    run(scenario())


def test_a_worker_that_dies_before_it_takes_a_stream_costs_a_proper_end_at_most(run: Any) -> None:
    async def scenario() -> None:
        async with streaming(Stream(), Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.link()
            pair.new.handover.withdraw()
            pair.old.begin_drain(4.0)
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


def test_a_worker_without_room_leaves_the_stream_to_be_ended(run: Any) -> None:
    async def scenario() -> None:
        async with streaming(Stream(), Stream(), limit_connections=0) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED

    run(scenario())


def test_a_client_that_reads_nothing_does_not_hold_its_stream_for_ever(run: Any) -> None:
    async def scenario() -> None:
        async def flood(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
            body = b"id: 1\ndata: " + b"x" * 100_000 + b"\n\n"
            while True:
                await send({"type": "http.response.body", "body": body, "more_body": True})

        async with streaming(flood, Stream()) as (pair, client):
            await client.ask("/events")
            client.pause()
            (connection,) = pair.old.live.connections
            await wait_until(lambda: connection.writer.is_paused)
            pair.link()
            result = await drain(
                pair.old.served,
                acceptor_of(pair),
                pair.old.handover,
                DrainReason.RELOAD,
                3.0,
            )
            assert result.handed_over == 0
            await wait_until(lambda: not pair.old.live.connections)

    run(scenario())


def acceptor_of(pair: Pair) -> Acceptor:
    return Acceptor(
        pair.old.served.clock.loop,
        [],
        lambda: None,
        record=pair.old.live.record,
        handshake_timeout=1.0,
    )


@pytest.mark.parametrize("has_ids", [True, False])
def test_a_stop_ends_streams_properly_and_not_all_at_once(run: Any, has_ids: bool) -> None:
    async def scenario() -> None:
        old = Stream(has_ids=has_ids)
        async with workers(close_window=1.0, event_stream_notice=0.5) as pair:
            pair.old.served.app = old
            clients = [await SseClient.open(pair.address) for _ in range(20)]
            for client in clients:
                await client.ask("/events")
                await client.wait_events(1)
            ends: list[float] = []

            async def watch(client: SseClient) -> None:
                assert await client.wait_end() is End.TERMINATED
                assert client.is_at_boundary
                ends.append(time.monotonic())

            watching = [asyncio.create_task(watch(client)) for client in clients]
            await drain(
                pair.old.served,
                acceptor_of(pair),
                pair.old.handover,
                DrainReason.STOP,
                10.0,
            )
            await asyncio.gather(*watching)
            # Each had a time of its own in the plan, however late a busy machine lets this process look.
            plan = pair.old.served.drain.stream_plan
            assert plan is not None
            assert plan.is_full
            assert len(ends) == len(clients)
            for client in clients:
                client.transport.abort()

    run(scenario())


def test_streams_over_a_half_closed_connection_end_here(run: Any) -> None:
    async def scenario() -> None:
        old = Stream(listens=False)
        async with streaming(old, Stream()) as (pair, client):
            await client.ask("/events")
            await client.wait_events(3)
            client.transport.write_eof()
            await asyncio.sleep(0.05)
            pair.leave()
            assert await client.wait_end() is End.TERMINATED
            assert numbers(client) == list(range(1, len(client.events) + 1))

    run(scenario())


def test_many_streams_move_together(run: Any) -> None:
    async def scenario() -> None:
        async with workers() as pair:
            # Not more events than a busy machine can take: 2,000 a second.
            pair.old.served.app, pair.new.served.app = (
                Stream(interval=0.05),
                Stream(interval=0.05),
            )
            clients = [await SseClient.open(pair.address) for _ in range(100)]
            for client in clients:
                await client.ask("/events")
            for client in clients:
                await client.wait_events(2)
            pair.leave()
            await pair.wait_moved(100)
            counts = [len(client.events) for client in clients]
            for client, count in zip(clients, counts, strict=True):
                await client.wait_events(count + 5)
                assert numbers(client) == list(range(1, len(client.events) + 1))
                assert client.end is None
                client.transport.abort()

    run(scenario())


# What is no event stream, at the deadline.


async def endless(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("reason", [DrainReason.RELOAD, DrainReason.STOP])
def test_at_the_deadline_nothing_that_was_written_is_lost(
    run: Any, version: bytes, reason: DrainReason
) -> None:
    async def scenario() -> None:
        old = endless
        async with streaming(old, endless) as (pair, client):
            client.send(b"GET / HTTP/%b\r\nHost: a\r\n\r\n" % version)
            await client.wait_head()
            client.pause()
            await asyncio.sleep(0.3)
            await drain(pair.old.served, acceptor_of(pair), pair.old.handover, reason, 1.0)
            sent = pair.old.count(Field.BYTES_SENT_TOTAL)
            client.resume()
            # Visibly incomplete: no last chunk, or a reset where only the close would mark the end.
            end = await client.wait_end()
            assert end is (End.EOF if version == b"1.1" else End.RESET)
            assert len(client.body) > 0.9 * sent - 1000
            assert pair.old.count(Field.CUT_TOTAL) == 1

    run(scenario())


def test_at_the_deadline_an_application_is_told_before_it_is_cancelled(run: Any) -> None:
    seen: list[str] = []

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
            seen.append("told")
            await asyncio.sleep(0.1)
            seen.append("cleaned up")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def scenario() -> None:
        async with streaming(listening, endless) as (pair, client):
            await client.ask("/")
            await drain(
                pair.old.served, acceptor_of(pair), pair.old.handover, DrainReason.RELOAD, 1.0
            )
            assert seen == ["told", "cleaned up", "cancelled"]

    run(scenario())
