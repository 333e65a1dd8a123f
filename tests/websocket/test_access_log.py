"""What the access log is told of a WebSocket: one entry, at its end."""

import json
import logging

import pytest

from tests.http.server import serving

HANDSHAKE = (
    b"GET /chat?room=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@pytest.fixture
def messages(caplog):
    """Messages of the access log, in their order."""
    logger = logging.getLogger("asgireload.access")
    before = (logger.level, list(logger.handlers), logger.propagate, logger.disabled)
    logger.handlers[:], logger.propagate, logger.disabled = [caplog.handler], False, False
    logger.setLevel(logging.INFO)
    yield caplog
    logger.level, logger.handlers[:], logger.propagate, logger.disabled = before


async def closing(scope, receive, send):
    assert scope["extensions"]["asgireload.request"]["id"]
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001})


async def refusing(scope, receive, send):
    await receive()
    await send({"type": "websocket.close"})


@pytest.mark.parametrize(("app", "status", "code"), [(closing, 101, 4001), (refusing, 403, None)])
def test_an_entry_tells_the_answer_and_the_close_code(run, messages, parser, app, status, code):
    async def main():
        options = {"access_log_format": "json", "request_id_header": "x-request-id"}
        async with serving(app, parser, ws_close_timeout=0.1, **options) as server:
            client = await server.connect()
            client.send(HANDSHAKE)
            await client.read_all()
            await client.close()
            await server.wait_until(lambda: messages.records)

    run(main())
    (record,) = messages.records
    fields = json.loads(record.getMessage())
    assert (fields["path"], fields["query"], fields["status"]) == ("/chat", "room=1", status)
    assert fields.get("close_code") == code
    assert fields["kind"] == "websocket"


def test_an_overload_refuses_the_handshake(run, parser):
    async def main():
        async with serving(closing, parser, limit_concurrency=1) as server:
            await server.connect()
            await server.wait_connected()
            client = await server.connect()
            client.send(HANDSHAKE)
            status, headers, _ = await client.read_response()
            assert (status, headers["retry-after"]) == (503, "1")

    run(main())
