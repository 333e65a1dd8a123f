"""Reading PROXY headers from sockets, on both loops: what is taken, what is left, who is sent away."""

import asyncio
import logging
import socket

import pytest

from asgireload.errors import ProxyHeaderError
from asgireload.ipc.scoreboard import Field, Limit, Record
from asgireload.net.networks import TrustedNetworks
from asgireload.net.proxy_protocol import Origin, ProxyHeader
from asgireload.worker.proxy_header import ProxyHeaderReader, read_proxy_header

LINE = b"PROXY TCP4 192.0.2.1 198.51.100.2 4711 443\r\n"
BINARY = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes([192, 0, 2, 1, 198, 51, 100, 2])
    + b"\x12\x67\x01\xbb"
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
ORIGIN = Origin(("192.0.2.1", 4711), ("198.51.100.2", 443))
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Connection:
    """A client's socket and the accepted one; both are closed by `with`."""

    def __enter__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.accepted, _ = listener.accept()
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted.setblocking(False)
        return self

    def __exit__(self, *error):
        self.client.close()
        self.accepted.close()


def is_waiting(connection):
    """Whether there are bytes that nobody has taken."""
    try:
        return bool(connection.accepted.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


async def wait_until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a socket's queue has no event to wait for
            await asyncio.sleep(0)


async def read(connection, timeout=5.0):
    loop = asyncio.get_running_loop()
    return await read_proxy_header(loop, connection.accepted, loop.time() + timeout)


@pytest.mark.parametrize(
    ("data", "origin"), [(LINE, ORIGIN), (BINARY, ORIGIN), (LOCAL, None)], ids=["1", "2", "local"]
)
def test_exactly_the_header_is_taken(run, data, origin):
    async def main():
        with Connection() as connection:
            connection.client.sendall(data + REQUEST)
            assert await read(connection) == ProxyHeader(len(data), origin)
            assert connection.accepted.recv(1000) == REQUEST

    run(main())


@pytest.mark.parametrize("data", [LINE, BINARY], ids=["1", "2"])
def test_a_header_may_come_byte_by_byte_and_its_reader_sleeps_meanwhile(run, data):
    async def main():
        with Connection() as connection:
            reading = asyncio.ensure_future(read(connection))
            for index in range(len(data)):
                connection.client.sendall(data[index : index + 1])
                # Left in the socket, bytes of an unfinished header would wake the loop for ever.
                await wait_until(lambda: not is_waiting(connection))
            connection.client.sendall(REQUEST)
            assert await reading == ProxyHeader(len(data), ORIGIN)
            await wait_until(lambda: is_waiting(connection))
            assert connection.accepted.recv(1000) == REQUEST

    run(main())


def test_the_socket_becomes_a_transport_afterwards(run):
    """The loop has watched the descriptor for the header; it must take it as a connection all the same."""

    class Collector(asyncio.Protocol):
        def __init__(self):
            self.data = b""
            self.ended = asyncio.get_running_loop().create_future()

        def data_received(self, data):
            self.data += data

        def connection_lost(self, error):
            self.ended.set_result(None)

    async def main():
        with Connection() as connection:
            loop = asyncio.get_running_loop()
            reading = asyncio.ensure_future(read(connection))
            connection.client.sendall(LINE[:10])
            await wait_until(lambda: not is_waiting(connection))
            connection.client.sendall(LINE[10:] + REQUEST)
            assert (await reading).origin == ORIGIN
            collector = Collector()
            await loop.connect_accepted_socket(lambda: collector, connection.accepted)
            connection.client.shutdown(socket.SHUT_WR)
            await collector.ended
            assert collector.data == REQUEST

    run(main())


def test_a_header_that_is_cut_off_is_a_fault(run):
    async def main():
        with Connection() as connection:
            connection.client.sendall(LINE[:-1])
            connection.client.shutdown(socket.SHUT_WR)
            with pytest.raises(ProxyHeaderError, match="ended within"):
                await read(connection)

    run(main())


def test_a_peer_that_leaves_without_a_byte_is_not_at_fault(run):
    async def main():
        with Connection() as connection:
            connection.client.close()
            with pytest.raises(ConnectionResetError):
                await read(connection)

    run(main())


def test_the_deadline_ends_the_wait_and_leaves_no_reader_behind(run):
    async def main():
        with Connection() as connection:
            connection.client.sendall(LINE[:5])
            with pytest.raises(TimeoutError):
                await read(connection, timeout=0.02)
            assert not asyncio.get_running_loop().remove_reader(connection.accepted.fileno())

    run(main())


class TestProxyHeaderReader:
    def read(self, run, data, *, trusted="127.0.0.1", timeout=5.0):
        """Return what the reader says, its counters, and whether it closed the socket."""
        record = Record.detached()

        async def main():
            with Connection() as connection:
                networks = TrustedNetworks.parse(trusted)
                reader = ProxyHeaderReader(asyncio.get_running_loop(), networks, record)
                if data is None:
                    connection.client.close()
                else:
                    connection.client.sendall(data)
                deadline = asyncio.get_running_loop().time() + timeout
                header = await reader.read(connection.accepted, deadline)
                return header, connection.accepted.fileno() == -1

        header, is_closed = run(main())
        counts = {limit for limit in Limit if record.values[Field.LIMIT_0 + limit]}
        return header, counts, is_closed

    def test_a_trusted_proxy_is_heard(self, run):
        assert self.read(run, BINARY) == (ProxyHeader(len(BINARY), ORIGIN), set(), False)

    @pytest.mark.parametrize(
        ("data", "options", "limit", "text"),
        [
            (LINE, {"trusted": "10.0.0.1"}, Limit.HANDSHAKE_FAILED, "--proxy-protocol-allow-from"),
            (REQUEST, {}, Limit.HANDSHAKE_FAILED, "does not begin with a PROXY header"),
            (LINE[:9], {"timeout": 0.02}, Limit.HANDSHAKE_TIMEOUT, "in time"),
        ],
    )
    def test_others_are_sent_away_counted_and_named(self, run, caplog, data, options, limit, text):
        with caplog.at_level(logging.WARNING, "asgireload.error"):
            assert self.read(run, data, **options) == (None, {limit}, True)
        (line,) = caplog.messages
        assert text in line
        assert "127.0.0.1:" in line

    def test_a_probe_of_the_port_is_not_worth_a_line(self, run, caplog):
        with caplog.at_level(logging.INFO, "asgireload.error"):
            assert self.read(run, None) == (None, set(), True)
        assert not caplog.messages

    def test_a_cancelled_greeting_closes_its_socket(self, run):
        async def main():
            with Connection() as connection:
                loop = asyncio.get_running_loop()
                reader = ProxyHeaderReader(loop, TrustedNetworks.parse("*"), Record.detached())
                greeting = asyncio.ensure_future(reader.read(connection.accepted, loop.time() + 5))
                await asyncio.sleep(0)
                greeting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await greeting
                assert connection.accepted.fileno() == -1

        run(main())

    def test_a_unix_peer_is_trusted_by_its_word(self, run):
        async def main():
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                theirs.sendall(LINE)
                loop = asyncio.get_running_loop()
                reader = ProxyHeaderReader(loop, TrustedNetworks.parse("unix"), Record.detached())
                header = await reader.read(ours, loop.time() + 5)
                assert header is not None
                assert header.origin == ORIGIN

        run(main())
