"""Everything that a client can send, on its way into a log line: over the wire, with real formatters."""

import io
import json
import logging

import pytest

from asgireload.log import AccessFormatter, JsonFormatter

from .server import serving

FORGED = b'INFO:     1.2.3.4:5 - "GET /forged HTTP/1.1" 200 OK'

NASTY = [
    b"GET /\x1b[2J HTTP/1.1\r\nhost: a\r\n\r\n",
    b'GET /"x" HTTP/1.1\r\nhost: a\r\n\r\n',
    b"GET /\rINFO:\x20forged HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /\n" + FORGED + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /?a\x85b\xe2\x80\xa8c HTTP/1.1\r\nhost: a\r\n\r\n",
    b"G\x1bT / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/9.\x1b\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\x1b[31m\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx\x1b: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: \r" + FORGED + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: \x1b7\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x1b[5m, chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\x1b\r\nx\r\n",
    b"GET /%0a" + FORGED.replace(b" ", b"%20") + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /chat\x1b HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET /chat%0a HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: \x1b\r\nsec-websocket-key: \x1b\r\n\r\n",
    b"\x16\x03\x01\x1b[2J\r\n\r\n",
]


async def quoting_app(scope, receive, send):
    """Fails as applications do: with what the client sent in the text of the error."""
    raise ValueError(f"cannot use {scope['path']} \x1b\r\n{FORGED.decode()}\x85\u2028")


async def idle_app(scope, receive, send):
    return


async def send_nasty(server):
    for data in NASTY:
        client = await server.connect()
        client.send(data)
        client.writer.write_eof()
        try:
            await client.read_all()
        except ConnectionResetError:
            pass  # some answers are followed by a reset


@pytest.fixture(params=["text", "json"])
def lines(request):
    """What the loggers of the server write, in both formats."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    is_json = request.param == "json"
    handler.setFormatter(JsonFormatter() if is_json else AccessFormatter(use_colors=False))
    loggers = [logging.getLogger(f"asgireload.{name}") for name in ("access", "error")]
    before = [(x.level, list(x.handlers), x.propagate, x.disabled) for x in loggers]
    for logger in loggers:
        logger.handlers[:], logger.propagate, logger.disabled = [handler], False, False
        logger.setLevel(logging.DEBUG)
    yield stream, is_json
    for logger, (level, handlers, propagate, disabled) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:], logger.propagate, logger.disabled = handlers, propagate, disabled


@pytest.mark.parametrize("parser", ["h11", "httptools"])
@pytest.mark.parametrize("app", [quoting_app, idle_app])
def test_no_client_forges_a_line_or_drives_a_terminal(run, lines, app, parser):
    stream, is_json = lines

    async def scenario():
        async with serving(app, parser) as server:
            await send_nasty(server)

    run(scenario())
    text = stream.getvalue()
    assert text, "something was logged"
    if is_json:
        for line in text.split("\n")[:-1]:
            assert line.isprintable()
            json.loads(line)
        return
    assert all(c.isprintable() or c in "\n\t" for c in text)
    assert not any(line.startswith("INFO:     1.2.3.4") for line in text.split("\n"))


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_messages_are_safe_for_formatters_of_others_too(run, lines, parser):
    """Which show `%(message)s` as it is. Exceptions are theirs to show."""
    messages = []

    class Seeing(logging.Handler):
        def emit(self, record):
            messages.append(record.getMessage())

    for name in ("access", "error"):
        logging.getLogger(f"asgireload.{name}").addHandler(Seeing())

    async def scenario():
        async with serving(idle_app, parser) as server:
            await send_nasty(server)

    run(scenario())
    assert len(messages) > len(NASTY) / 2
    assert [message for message in messages if not message.isprintable()] == []
