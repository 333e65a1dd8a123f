"""TLS on the wire, over both loops: real sockets on loopback, a client of the standard library."""

import asyncio
import logging
import os
import socket
import ssl
import struct
import sys
import time
from contextlib import asynccontextmanager
from functools import partial

import pytest
import websockets.asyncio.client

from asgireload.config import Config
from asgireload.draining import DrainReason
from asgireload.http.settings import HttpSettings
from asgireload.http1.connection import http_protocol
from asgireload.ipc.scoreboard import Field, Limit
from asgireload.net.addresses import ListenerTraits
from asgireload.net.tls import Material, files_of, read_material
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.drain import drain
from asgireload.worker.handover import Handover
from asgireload.worker.protocols import resumed_protocol
from asgireload.worker.tls import make_contexts
from tests.certificates import AUTHORITY
from tests.wired import Wired, make_wire

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
PATIENCE = 5.0


class Server(Wired):
    """A worker's way of accepting, with one entrance that speaks TLS."""

    def __init__(self, app, directory, *, handshake_timeout=5.0, settings=None, **options):
        loop = asyncio.get_running_loop()
        self.directory = directory
        self.config = Config(**{"ssl_certfile": "a.pem", "ssl_keyfile": "a.key"} | options)
        self.wire = make_wire(app, websocket=True, settings=settings)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self.entrance = Entrance(listener, ListenerTraits(tls=True))
        self.renew()
        self.acceptor = Acceptor(
            loop,
            [self.entrance],
            partial(http_protocol, self.wire),
            record=self.live.record,
            handshake_timeout=handshake_timeout,
        )
        self.acceptor.start()

    def renew(self):
        """Read the files and let new connections have what they say."""
        material = read_material(files_of(self.config), str(self.directory), None)
        traits = [self.entrance.traits]
        (self.entrance.context,) = make_contexts(traits, material, self.config, "")

    def count(self, limit):
        return self.live.record.values[Field.LIMIT_0 + limit]

    async def wait_until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - what is awaited has no event to wait for
                await asyncio.sleep(0.001)

    async def connect(self, client=None, name="localhost"):
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=client or AUTHORITY.client_context(), server_hostname=name
        )

    async def connect_plainly(self):
        return await asyncio.open_connection("127.0.0.1", self.port)


@asynccontextmanager
async def serving(app, directory, **options):
    server = Server(app, directory, **options)
    try:
        yield server
    finally:
        server.acceptor.stop()
        server.acceptor.abandon()
        server.entrance.socket.close()
        for connection in tuple(server.live.connections):
            connection.abort()
        async with asyncio.timeout(PATIENCE):
            await server.acceptor.wait_adopted(0)
            await server.live.wait_idle()
    assert server.live.record.values[Field.CONNECTIONS] == 0


async def read_response(reader):
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await asyncio.wait_for(reader.readexactly(length), PATIENCE)


async def close(writer):
    writer.close()
    try:
        await asyncio.wait_for(writer.wait_closed(), PATIENCE)
    except OSError:
        pass  # a reset is what some tests provoke


def answering(make_body):
    """Return an application that answers with what `make_body(scope)` returns."""

    async def app(scope, receive, send):
        body = str(make_body(scope)).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.fixture
def files(tmp_path):
    AUTHORITY.issue(tmp_path, "a", "localhost", "127.0.0.1")
    return tmp_path


def test_requests_are_answered_and_the_scheme_is_https(run, files):
    async def scenario():
        async with serving(answering(lambda scope: scope["scheme"]), files) as server:
            reader, writer = await server.connect()
            for _ in range(2):
                writer.write(GET)
                assert (await read_response(reader))[1] == b"https"
            await close(writer)
            assert not any(server.count(limit) for limit in Limit)

    run(scenario())


def test_a_large_body_goes_through_both_ways(run, files):
    size = 3 * 1024 * 1024

    async def app(scope, receive, send):
        received = b""
        more = True
        while more:
            message = await receive()
            received += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(b"content-length", b"%d" % len(received))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": received})

    async def scenario():
        async with serving(app, files) as server:
            reader, writer = await server.connect()
            writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
            writer.write(bytes(range(256)) * (size // 256))
            _, body = await read_response(reader)
            assert body == bytes(range(256)) * (size // 256)
            await close(writer)

    run(scenario())


def test_the_extension_tells_versions_and_certificates(run, files):
    AUTHORITY.write(files)
    client = AUTHORITY.issue(files, "client", "client.example", common_name="alice, admin")
    seen = []

    def note(scope):
        seen.append(scope["extensions"]["tls"])

    async def scenario():
        seen.clear()
        options = {"ssl_cert_reqs": "optional", "ssl_ca_certs": "ca.pem"}
        async with serving(answering(note), files, **options) as server:
            for context in (AUTHORITY.client_context(client), AUTHORITY.client_context()):
                reader, writer = await server.connect(context)
                for _ in range(2):
                    writer.write(GET)
                    await read_response(reader)
                suite = writer.get_extra_info("cipher")[0]
                await close(writer)
        known, same, unknown, _ = seen
        assert same is known, "made once for a connection"
        assert unknown is not known
        certificate = ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(known["server_cert"]))
        assert (files / "a.pem").read_text().startswith(certificate)
        first = known["client_cert_chain"][0]
        assert client.certfile.read_text().startswith(first)
        assert known["client_cert_name"].startswith("CN=alice\\, admin,")
        assert known["client_cert_error"] is None
        assert known["tls_version"] == 0x0304
        assert suite == "TLS_AES_256_GCM_SHA384"
        assert known["cipher_suite"] == 0x1302
        assert (unknown["client_cert_chain"], unknown["client_cert_name"]) == ((), None)

    run(scenario())


def test_websockets_run_over_tls(run, files):
    async def echo(scope, receive, send):
        assert (scope["scheme"], scope["extensions"]["tls"]["tls_version"]) == ("wss", 0x0304)
        assert "asgireload.handover" not in scope["extensions"]  # it could not be kept
        await receive()
        await send({"type": "websocket.accept", "handover": True})
        message = await receive()
        await send({"type": "websocket.send", "text": message["text"]})
        await send({"type": "websocket.close"})

    async def scenario():
        async with serving(echo, files) as server:
            async with websockets.asyncio.client.connect(
                f"wss://localhost:{server.port}/", ssl=AUTHORITY.client_context()
            ) as client:
                await client.send("hello")
                assert await asyncio.wait_for(client.recv(), PATIENCE) == "hello"
                await client.wait_closed()
                assert client.close_code == 1000

    run(scenario())


def test_a_client_without_the_required_certificate_gets_no_connection(run, files):
    AUTHORITY.write(files)

    async def scenario():
        options = {"ssl_cert_reqs": "required", "ssl_ca_certs": "ca.pem"}
        async with serving(answering(lambda scope: ""), files, **options) as server:
            # In TLS 1.3 the client has finished its part before the server finds out.
            reader, writer = await server.connect()
            writer.write(GET)
            try:
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            except OSError:
                pass  # an alert or a reset
            await close(writer)
            await server.wait_until(lambda: server.count(Limit.HANDSHAKE_FAILED) == 1)
            assert server.live.record.values[Field.CONNECTIONS_TOTAL] == 0

    run(scenario())


def test_new_connections_get_the_new_certificate_and_open_ones_go_on(run, files):
    def certificate_of(writer):
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async def scenario():
        app = answering(lambda scope: scope["extensions"]["tls"]["server_cert"])
        async with serving(app, files) as server:
            old = await server.connect()
            AUTHORITY.issue(files, "a", "localhost")
            server.renew()
            new = await server.connect()
            for reader, writer in (old, new, old):
                writer.write(GET)
                _, body = await read_response(reader)
                assert ssl.PEM_cert_to_DER_cert(body.decode()) == certificate_of(writer)
            assert certificate_of(old[1]) != certificate_of(new[1])
            for _, writer in (old, new):
                await close(writer)

    run(scenario())


def test_a_handshake_that_waits_gets_the_newest_certificate(run, files):
    async def scenario():
        async with serving(answering(lambda scope: ""), files) as server:
            sock = socket.create_connection(("127.0.0.1", server.port))
            await server.wait_until(lambda: server.acceptor._silent)
            AUTHORITY.issue(files, "a", "renewed.example")
            server.renew()
            sock.setblocking(False)
            client = AUTHORITY.client_context()
            _, writer = await asyncio.open_connection(
                sock=sock, ssl=client, server_hostname="renewed.example"
            )
            await close(writer)

    run(scenario())


def test_somebody_who_speaks_http_is_told_to_speak_tls(run, files):
    async def scenario():
        async with serving(answering(lambda scope: ""), files) as server:
            reader, writer = await server.connect_plainly()
            writer.write(
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"x" * 99999
            )
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.endswith(b"\r\n\r\nThis port speaks TLS: use https\n")
            await close(writer)
            assert server.count(Limit.HANDSHAKE_FAILED) == 1

    run(scenario())


@pytest.mark.parametrize("first", [b"\x00", b"\x80\x2e", b"\xff", b"\r\n"])
def test_other_bytes_are_not_answered(run, files, first):
    async def scenario():
        async with serving(answering(lambda scope: ""), files) as server:
            reader, writer = await server.connect_plainly()
            writer.write(first)
            try:
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            except ConnectionResetError:
                pass
            await close(writer)
            assert server.count(Limit.HANDSHAKE_FAILED) == 1

    run(scenario())


def test_a_record_that_is_no_handshake_fails_quietly(run, files, caplog):
    async def scenario():
        caplog.clear()
        async with serving(answering(lambda scope: ""), files) as server:
            _, writer = await server.connect_plainly()
            writer.write(b"\x16\x03\x01\x00\x05hello")
            await server.wait_until(lambda: server.count(Limit.HANDSHAKE_FAILED) == 1)
            await close(writer)
        assert not [record for record in caplog.records if record.levelno > logging.DEBUG]

    run(scenario())


def test_failed_handshakes_are_explained_at_level_debug(run, files, caplog):
    caplog.set_level(logging.DEBUG, "asgireload.error")

    async def scenario():
        caplog.clear()
        async with serving(answering(lambda scope: ""), files) as server:
            _, writer = await server.connect_plainly()
            writer.write(b"SSH-2.0\r\n")
            await server.wait_until(lambda: server.count(Limit.HANDSHAKE_FAILED) == 1)
            await close(writer)
        assert "No TLS with 127.0.0.1:" in caplog.text

    run(scenario())


def test_checks_that_connect_and_leave_are_not_counted(run, files):
    async def scenario():
        async with serving(answering(lambda scope: ""), files) as server:
            for reset in (False, True):
                sock = socket.create_connection(("127.0.0.1", server.port))
                await server.wait_until(lambda: server.acceptor._adopting)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
                await server.wait_until(lambda: not server.acceptor._adopting)
            assert not any(server.count(limit) for limit in Limit)

    run(scenario())


HELLO_BEGINS = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest.mark.parametrize("words", [b"", HELLO_BEGINS], ids=["silent", "half a hello"])
def test_a_handshake_has_a_deadline(run, files, words):
    async def scenario():
        app = answering(lambda scope: "")
        async with serving(app, files, handshake_timeout=0.05) as server:
            reader, writer = await server.connect_plainly()
            writer.write(words)
            try:
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            except ConnectionResetError:
                pass
            await server.wait_until(lambda: server.count(Limit.HANDSHAKE_TIMEOUT) == 1)
            assert server.count(Limit.HANDSHAKE_FAILED) == 0
            await close(writer)
            # Compiled, what was handled while it waited stayed so in the loop, and each clung to the one before.
            handled = []
            asyncio.get_running_loop().call_soon(lambda: handled.append(sys.exc_info()[1]))
            await server.wait_until(lambda: handled)
            assert handled == [None]

    run(scenario())


def test_a_client_that_ends_its_side_gets_a_clean_end(run, files, caplog):
    """TLS has no half-close in the loops: what was not answered by then is not answered any more."""
    messages = []

    async def app(scope, receive, send):
        await receive()
        messages.append(await receive())

    async def scenario():
        messages.clear()
        caplog.clear()
        async with serving(app, files) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await server.wait_until(lambda: server.live.record.values[Field.REQUESTS_TOTAL])
            below = writer.get_extra_info("socket")
            with socket.socket(fileno=os.dup(below.fileno())) as twin:
                twin.shutdown(socket.SHUT_WR)
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            await server.wait_until(lambda: messages)
            await close(writer)
            await server.wait_until(lambda: server.live.is_idle)
        assert messages == [{"type": "http.disconnect"}]

    run(scenario())


# --- draining -------------------------------------------------------------------------------------


async def begin_drain(server, timeout=3.0):
    server.acceptor.stop()
    handover = Handover(server.served, partial(resumed_protocol, server.wire))
    return asyncio.create_task(
        drain(server.served, server.acceptor, handover, DrainReason.RELOAD, timeout)
    )


def test_a_handshake_under_way_is_completed_and_its_request_answered(run, files):
    async def scenario():
        settings = HttpSettings(drain_grace=0.2)
        app = answering(lambda scope: "done")
        async with serving(app, files, settings=settings) as server:
            sock = socket.create_connection(("127.0.0.1", server.port))
            await server.wait_until(lambda: server.acceptor._silent)
            drained = await begin_drain(server)
            await asyncio.sleep(0.02)
            sock.setblocking(False)
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=AUTHORITY.client_context(), server_hostname="localhost"
            )
            writer.write(GET)
            head, body = await read_response(reader)
            assert body == b"done"
            assert b"connection: close" in head.lower()
            await close(writer)
            await asyncio.wait_for(drained, PATIENCE)

    run(scenario())


def test_a_connection_with_tls_ends_politely_although_there_is_a_successor(run, files):
    async def scenario():
        settings = HttpSettings(drain_grace=0.2)
        app = answering(lambda scope: "done")
        async with serving(app, files, settings=settings) as server:
            idle, idle_writer = await server.connect()
            asked, asked_writer = await server.connect()
            await server.wait_until(lambda: len(server.live.connections) == 2)
            handover = Handover(server.served, partial(resumed_protocol, server.wire))
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            handover.hand_to(ours)
            server.acceptor.stop()
            drained = asyncio.create_task(
                drain(server.served, server.acceptor, handover, DrainReason.RELOAD, 5.0)
            )
            await server.wait_until(lambda: server.served.drain.notice)
            asked_writer.write(GET)
            head, body = await read_response(asked)
            assert body == b"done"
            assert b"connection: close" in head.lower()
            assert await asyncio.wait_for(idle.read(), PATIENCE) == b""
            await close(idle_writer)
            await close(asked_writer)
            result = await asyncio.wait_for(drained, PATIENCE)
            assert result.handed_over == result.came_back == 0
            theirs.close()

    run(scenario())


def test_a_drain_waits_for_nobody_who_says_nothing(run, files):
    async def scenario():
        settings = HttpSettings(drain_grace=0.05)
        async with serving(answering(lambda scope: ""), files, settings=settings) as server:
            reader, writer = await server.connect_plainly()
            await server.wait_until(lambda: server.acceptor._silent)
            drained = await begin_drain(server, timeout=30.0)
            await asyncio.wait_for(drained, 10)
            assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            await close(writer)

    run(scenario())


def test_a_drain_ends_at_its_deadline_in_the_middle_of_a_handshake(run, files):
    async def scenario():
        app = answering(lambda scope: "")
        async with serving(app, files, handshake_timeout=60.0) as server:
            reader, writer = await server.connect_plainly()
            writer.write(HELLO_BEGINS)
            await server.wait_until(
                lambda: server.acceptor._adopting and not server.acceptor._silent
            )
            drained = await begin_drain(server, timeout=0.1)
            await asyncio.wait_for(drained, PATIENCE)
            try:
                assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
            except ConnectionResetError:
                pass
            await close(writer)

    run(scenario())


def test_a_silent_handshake_does_not_keep_other_connections_from_draining(run, files):
    async def scenario():
        settings = HttpSettings(drain_grace=0.05)
        async with serving(answering(lambda scope: ""), files, settings=settings) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await read_response(reader)
            _, silent = await server.connect_plainly()
            silent.write(HELLO_BEGINS)
            await server.wait_until(
                lambda: server.acceptor._adopting and not server.acceptor._silent
            )
            drained = await begin_drain(server, timeout=30.0)
            assert await asyncio.wait_for(reader.read(), 10) == b"", "closed after its grace"
            await close(writer)
            await close(silent)
            await asyncio.wait_for(drained, PATIENCE)

    run(scenario())


def test_a_client_that_never_says_goodbye_does_not_hold_a_drain_up(run, files):
    """Libraries that do not read idle connections never answer a close_notify."""

    async def scenario():
        settings = HttpSettings(drain_grace=0.05)
        async with serving(answering(lambda scope: ""), files, settings=settings) as server:
            talk = partial(_talk_and_fall_silent, server.port)
            sock = await asyncio.get_running_loop().run_in_executor(None, talk)
            drained = await begin_drain(server, timeout=30.0)
            await asyncio.wait_for(drained, PATIENCE)
            with sock:
                assert sock.recv(100) == b"", "a polite end is there to be read"

    run(scenario())


def _talk_and_fall_silent(port):
    plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock = AUTHORITY.client_context().wrap_socket(plain, server_hostname="localhost")
    sock.sendall(GET)
    while b"\r\n\r\n" not in sock.recv(4096):
        pass
    return sock


def test_a_slow_reader_gets_the_whole_of_a_last_response(run, files):
    """The end of TLS must not overtake, or cut, what lies in the buffers below it."""
    size = 16_000_000

    async def app(scope, receive, send):
        headers = [(b"content-length", b"%d" % size), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    def read_slowly(port):
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
        with AUTHORITY.client_context().wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(GET)
            received = sock.recv(65536)
            time.sleep(2.5)  # longer than a closed connection is lingered on
            while piece := sock.recv(65536):
                received += piece
        return received

    async def scenario():
        async with serving(app, files) as server:
            read = partial(read_slowly, server.port)
            received = await asyncio.get_running_loop().run_in_executor(None, read)
            assert len(received.split(b"\r\n\r\n", 1)[1]) == size

    run(scenario())


# --- contexts of a worker -------------------------------------------------------------------------


def test_addresses_share_a_context_unless_they_have_a_certificate_of_their_own(files):
    AUTHORITY.issue(files, "b", together=True)
    config = Config(
        bind=("1", "2 plain", "3 cert=b.pem", "4"), ssl_certfile="a.pem", ssl_keyfile="a.key"
    )
    material = read_material(files_of(config), str(files), None)
    traits = [
        ListenerTraits(tls=True),
        ListenerTraits(),
        ListenerTraits(tls=True, certfile="b.pem"),
        ListenerTraits(tls=True),
    ]
    first, plain, own, fourth = make_contexts(traits, material, config, "")
    assert plain is None
    assert first is fourth is not own
    assert first.certificate != own.certificate


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """Write `make(config, default_factory)` into a module; return what imports it."""

    def write(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        return f"{name}:make"

    return write


def contexts_of(files, **options):
    config = Config(ssl_certfile="a.pem", ssl_keyfile="a.key", **options)
    material = read_material(files_of(config), str(files), None)
    return make_contexts([ListenerTraits(tls=True)], material, config, str(files))


def test_a_context_factory_gets_the_configuration_and_the_default(files, factory):
    name = factory(
        "tls_factory_default",
        "def make(config, default_factory):\n"
        "    context = default_factory()\n"
        "    context.seen = config.ssl_certfile\n"
        "    return context\n",
    )
    (context,) = contexts_of(files, ssl_context_factory=name)
    assert context.seen == "a.pem"
    assert context.certificate is not None


def test_a_context_factory_that_returns_something_else_is_refused(files, factory):
    name = factory("tls_factory_none", "def make(config, default_factory): pass\n")
    with pytest.raises(Exception, match=r"tls_factory_none:make returned NoneType; it must return"):
        contexts_of(files, ssl_context_factory=name)


def test_the_default_of_a_context_factory_needs_a_certificate(files, factory):
    name = factory("tls_factory_bare", "def make(config, default): return default()\n")
    config = Config(ssl_context_factory=name)
    with pytest.raises(Exception, match="needs ssl_certfile"):
        make_contexts([ListenerTraits(tls=True)], Material(), config, str(files))
