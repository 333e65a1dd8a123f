"""The client of server-sent events: what it says of a body is what the server did."""

import asyncio
import socket
import struct

import pytest

from tests.process.sse import BrokenAnswer, End, SseClient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST = chunk(b"")
ONE, TWO = chunk(b"id: 1\ndata: a\n\n"), chunk(b"id: 2\ndata: b\n\n")


async def talked(answer, talk, *, ending="close"):
    """Return what `talk` makes of a server that sends these bytes, and the request that it had."""
    over = asyncio.Event()
    asked = []

    async def serve(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for at in range(0, len(answer), 11):
            writer.write(answer[at : at + 11])
            await asyncio.sleep(0)
        await writer.drain()
        if ending == "reset":
            option = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        elif ending == "open":
            await over.wait()
        writer.transport.abort() if ending == "reset" else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = await SseClient.open(server.sockets[0].getsockname()[1])
    try:
        result = await talk(client)
    finally:
        client.close()
        over.set()
        server.close()
        await client.wait_lost()
    return result, asked[0]


async def all_of(client):
    await client.ask("/events", last_event_id="0")
    events = []
    while (event := await client.next_event()) is not None:
        events.append((event.id, event.data))
    return events, await client.wait_end(), client.is_at_boundary


@pytest.mark.parametrize(
    ("answer", "ending", "end", "is_boundary"),
    [
        (CHUNKED + ONE + TWO + LAST, "close", End.TERMINATED, True),
        (CHUNKED + ONE + TWO + LAST, "open", End.TERMINATED, True),
        (CHUNKED + ONE + TWO, "close", End.EOF, True),
        (CHUNKED + ONE + TWO[:-2], "close", End.EOF, True),
        (CHUNKED + ONE + TWO + chunk(b"id: 3"), "close", End.EOF, False),
        (CHUNKED + ONE + TWO + chunk(b"id: 3") + LAST, "close", End.TERMINATED, False),
        (CHUNKED + ONE + TWO, "reset", End.RESET, True),
        (HEAD + b"\r\nid:1\ndata:a\n\nid:2\ndata:b\n\n", "close", End.EOF, True),
        (HEAD + b"Content-Length: 26\r\n\r\nid:1\ndata:a\n\nid:2\ndata:b\n\n", "open", End.TERMINATED, True),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED + ONE + TWO + LAST, "open", End.TERMINATED, True),
    ],
)  # fmt: skip
def test_events_are_given_with_the_end_of_their_body(run, answer, ending, end, is_boundary):
    found, asked = run(talked(answer, all_of, ending=ending))
    assert found == ([("1", "a"), ("2", "b")], end, is_boundary)
    assert b"GET /events HTTP/1.1\r\n" in asked
    assert b"\r\nLast-Event-ID: 0\r\n" in asked


def test_what_came_before_a_reset_is_not_lost_by_reading_late(run):
    async def read_late(client):
        head = await client.ask("/events")
        await client.wait_end()
        return head.status, client.fields["content-type"], len(await client.wait_events(9))

    found, _ = run(talked(CHUNKED + ONE + TWO, read_late, ending="reset"))
    assert found == (200, "text/event-stream", 2)


def test_a_stream_that_goes_on_has_no_end(run):
    async def wait(client):
        await client.ask("/events")
        await client.wait_events(1)
        with pytest.raises(TimeoutError):
            await client.wait_end(0.05)
        return client.end, bytes(client.body), client.last_event_id

    found, _ = run(talked(CHUNKED + ONE, wait, ending="open"))
    assert found == (None, b"id: 1\ndata: a\n\n", "1")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", ConnectionError),
        (HEAD, ConnectionError),
        (b"nonsense\r\n\r\n", BrokenAnswer),
        (CHUNKED + b"many\r\n", BrokenAnswer),
    ],
)
def test_what_is_no_response_is_an_error(run, answer, error):
    with pytest.raises(error):
        run(talked(answer, all_of))


def test_the_same_connection_can_ask_again_behind_a_complete_body(run):
    async def ask_twice(client):
        first = await all_of(client)
        with pytest.raises(ConnectionError):  # the server serves one request only
            await client.ask("/again", method="POST", body=b"{}")
        return first[1]

    found, _ = run(talked(CHUNKED + ONE + LAST, ask_twice))
    assert found is End.TERMINATED
