"""A client that leaves is noticed behind a response that has begun and is silent; one that only closes its sending
side gets its whole answer."""

import asyncio
from typing import Any

import h11
import httptools
import pytest

from asgireload.ipc.scoreboard import Field
from tests.http.server import Client, serving
from tests.http.test_exchange import GET

EVENTS = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}
TEXT = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
GET_1_0 = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"


def listening(start: Any, told: list[float], *, goes_on: asyncio.Event | None = None) -> Any:
    """Return an application that begins to answer, falls silent, and listens, as Starlette does."""

    async def stream(send: Any) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await (asyncio.Event() if goes_on is None else goes_on).wait()
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"data: 2\n\n", "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"end"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        streaming = asyncio.create_task(stream(send))
        try:
            while not streaming.done():
                message = asyncio.create_task(receive())
                await asyncio.wait([streaming, message], return_when=asyncio.FIRST_COMPLETED)
                if message.done() and message.result()["type"] == "http.disconnect":
                    if not streaming.done():
                        told.append(asyncio.get_running_loop().time())
                    return
                message.cancel()
        finally:
            streaming.cancel()

    return app


async def begun(client: Client, request: bytes) -> None:
    client.send(request)
    await client.read_until(b"data: 1\n\n")


@pytest.mark.parametrize(
    ("request_", "start"),
    [(GET, EVENTS), (GET, TEXT), (GET_1_0, EVENTS)],
    ids=["events", "chunked", "events 1.0"],
)
def test_a_client_that_leaves_a_silent_stream_is_told_at_once(
    run: Any, request_: bytes, start: Any
) -> None:
    told: list[float] = []

    async def main() -> None:
        async with serving(listening(start, told), "builtin") as server:
            client = await server.connect()
            await begun(client, request_)
            await client.close()  # everything is read: nothing but the end is sent
            # Far below the time after which the kernel would find out (15 s, and a minute).
            async with asyncio.timeout(10):
                await server.wait_until(lambda: told)

    run(main())


@pytest.mark.parametrize("when", ["before", "after the head", "in the request's segment"])
@pytest.mark.parametrize("start", [EVENTS, TEXT], ids=["events", "chunked"])
def test_a_client_that_closes_its_sending_side_gets_the_rest(
    run: Any, start: Any, when: str
) -> None:
    told: list[float] = []

    async def main() -> None:
        goes_on = asyncio.Event()
        async with serving(listening(start, told, goes_on=goes_on), "builtin") as server:
            client = await server.connect()
            client.send(GET)
            if when == "in the request's segment":
                client.writer.write_eof()
            head = await client.read_until(b"\r\n\r\n")
            while b"100 Continue" in head:
                head = await client.read_until(b"\r\n\r\n")
            if when == "before":
                client.writer.write_eof()
                assert await client.read_until(b"data: 1\n\n")
            rest = b"" if when == "before" else await client.read_until(b"data: 1\n\n")
            if when == "after the head":
                client.writer.write_eof()
            await asyncio.sleep(0.1)  # several looks at the socket
            goes_on.set()
            rest += await client.read_all()
            assert told == []
            # What asks the client is part of the next chunk's size, or of none.
            framed = rest.partition(b"\r\n")[2] if when != "before" else rest.lstrip(b"\r\n")
            body = b""
            if when != "before":
                framed = rest[rest.index(b"data: 1\n\n") + 11 :]
            while framed:
                size, _, framed = framed.partition(b"\r\n")
                length = int(size, 16)
                body += framed[:length]
                framed = framed[length + 2 :]
            assert body == b"data: 2\n\ndata: 2\n\nend"

    run(main())


@pytest.mark.parametrize("waits", ["at first", "before", "never"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_the_head_does_not_wait_for_a_body_that_takes_its_time(
    run: Any, waits: str, method: bytes
) -> None:
    """An EventSource is open when it has the head, be there events or not."""
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if waits == "before":
            await asyncio.sleep(0.01)
        await send(EVENTS)
        if waits != "never":
            await goes_on.wait()
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET.replace(b"GET", method))
            head = await client.read_until(b"\r\n\r\n")
            assert b"content-type: text/event-stream" in head
            goes_on.set()
            if method == b"GET":
                body = await client.read_until(b"0\r\n\r\n")
                assert body == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"
            await server.wait_until(lambda: not server.count(Field.EXCHANGES))
            assert server.count(Field.APP_ERRORS_TOTAL) == 0

    run(main())


def test_a_head_that_waits_alone_has_a_length_if_the_body_comes_at_once(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"hello"})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            for _ in range(3):
                client.send(GET)
                assert (await client.read_response())[1]["content-length"] == "5"

    run(main())


def test_leading_zeros_of_a_chunk_are_read_as_nothing() -> None:
    """Between two chunks a client is asked whether it is there by a zero that the next size begins with."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    response = head + b"5\r\nhello\r\n" + b"0" + b"6\r\n world\r\n" + b"0" + b"0\r\n\r\n"
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(response)
    body = b""
    while type(event := connection.next_event()) is not h11.EndOfMessage:
        body += bytes(event.data) if isinstance(event, h11.Data) else b""
    assert body == b"hello world"

    class Sink:
        body = b""
        is_complete = False

        def on_body(self, data: bytes) -> None:
            self.body += data

        def on_message_complete(self) -> None:
            self.is_complete = True

    sink = Sink()
    httptools.HttpResponseParser(sink).feed_data(response)
    assert (sink.body, sink.is_complete) == (b"hello world", True)
