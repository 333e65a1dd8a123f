"""The access log over the wire: what the exchange tells it."""

import asyncio
import json
import logging

import pytest

from tests.http.server import serving

GET = b"GET /a%20b?q=1 HTTP/1.1\r\nHost: a\r\nX-Request-ID: r1\r\n\r\n"


@pytest.fixture
def records():
    seen = []

    class Seeing(logging.Handler):
        def emit(self, record):
            seen.append(record)

    logger = logging.getLogger("asgireload.access")
    before = (logger.level, list(logger.handlers), logger.propagate)
    logger.setLevel(logging.INFO)
    logger.handlers[:], logger.propagate, logger.disabled = [Seeing()], False, False
    yield seen
    logger.level, logger.handlers[:], logger.propagate = before


async def pieces(scope, receive, send):
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
    for piece in (b"abc", b"defg"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if scope["path"] == "/broken":
        raise ValueError("on purpose")
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(("path", "complete"), [("/whole", True), ("/broken", False)])
def test_an_entry_tells_size_and_whether_it_was_complete(run, parser, records, path, complete):
    async def main():
        async with serving(pieces, parser, access_log_format="json") as server:
            client = await server.connect()
            client.send(f"GET {path}?q=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            try:
                await client.read_all()
            except ConnectionResetError:
                assert not complete

    run(main())
    (record,) = records
    fields = json.loads(record.getMessage())
    assert (fields["path"], fields["query"], fields["status"]) == (path, "q=1", 201)
    assert (fields["bytes"], fields["complete"]) == (7, complete)
    assert fields["duration_ms"] > 0


def test_a_request_id_is_in_scope_response_and_log(run, parser, records):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["extensions"]["asgireload.request"])
        await pieces(scope, receive, send)

    async def main():
        async with serving(app, parser, request_id_header="x-request-id") as server:
            client = await server.connect()
            client.send(GET)
            _, headers, _ = await client.read_response()
            assert headers["x-request-id"] == "r1"

    run(main())
    assert seen == [{"id": "r1"}]
    assert records[0].request_id == "r1"


def test_a_client_that_leaves_early_has_an_entry_without_status(run, parser, records):
    async def waiting(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    async def main():
        async with serving(waiting, parser, access_log_format="%(s)s %({complete}x)s") as server:
            client = await server.connect()
            client.send(GET)
            await server.wait_connected()
            await client.close()
            await server.wait_until(lambda: records)

    run(main())
    assert [record.getMessage() for record in records] == ["- no"]


def test_an_event_stream_is_slow_only_if_it_begins_late(run, parser, caplog):
    """A second is many times what a stream needs to begin, and less than each of these lasts."""

    async def app(scope, receive, send):
        if scope["path"] != "/prompt":
            await asyncio.sleep(1.1)
        kind = b"text/plain" if scope["path"] == "/report" else b"text/event-stream"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
        )
        first = b"data: 1\n\n"
        if scope["path"] == "/late-and-large":
            first *= 10_000
        await send({"type": "http.response.body", "body": first, "more_body": True})
        if scope["path"] == "/prompt":
            await asyncio.sleep(1.1)
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    async def main():
        async with serving(app, parser, log_slow_requests=1.0) as server:
            paths = ("/prompt", "/late", "/late-and-large", "/report")
            clients = [await server.connect() for _ in paths]
            for client, path in zip(clients, paths, strict=True):
                client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            for client in clients:
                await client.read_response()

    with caplog.at_level(logging.WARNING, logger="asgireload.error"):
        run(main())
    told = sorted(text.split(" took ")[0] for text in caplog.messages if "Slow request" in text)
    assert told == [f"Slow request: GET {path}" for path in ("/late", "/late-and-large", "/report")]
