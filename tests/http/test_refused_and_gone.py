"""A request that is refused for overload when its client has left is ended, counted and logged once."""

import asyncio
import socket
import ssl
from typing import Any

import msgspec
import pytest

from asgireload.config import Config
from asgireload.http.access_log import open_access_log
from asgireload.http.settings import HttpSettings
from asgireload.log import Place
from tests.certificates import AUTHORITY
from tests.worker import test_acceptor_tls
from tests.worker.test_acceptor_tls import serving

files = test_acceptor_tls.files


def ask_and_leave(port: int) -> None:
    """Send half a request and the end of TLS in one segment."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = AUTHORITY.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        sock.recv(
            65536
        )  # session tickets (RFC 8446 section 4.6.1): the server's handshake is complete
        tls.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
        with pytest.raises(ssl.SSLError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        while sock.recv(65536):
            pass  # until the server has closed


def test_a_request_whose_client_has_left_is_ended_once(
    run: Any,
    files: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application must not be called")

    async def main() -> None:
        caplog.set_level("INFO", "asgireload.access")
        settings = HttpSettings(limit_concurrency=0)
        async with serving(app, files, settings=settings) as server:
            config = msgspec.structs.replace(Config(), access_log_format="%(m)s %(s)s")
            server.served.access_log = open_access_log(config, Place("worker", 0, 1))
            await asyncio.get_running_loop().run_in_executor(None, ask_and_leave, server.port)
            await server.wait_until(lambda: not server.live.connections)
        lines = [r.getMessage() for r in caplog.records if r.name == "asgireload.access"]
        assert len(lines) == 1, lines

    run(main())
