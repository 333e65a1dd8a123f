"""The admin surface over real sockets, served by our own HTTP code."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from admin_fakes import FakePort, make_reload, make_status, make_worker

from asgireload.admin import server as server_module
from asgireload.admin.client import AdminClient
from asgireload.admin.crowd import MAX_CONNECTIONS, MAX_WAITS
from asgireload.admin.entrances import open_admin
from asgireload.admin.server import AdminServer, start_admin
from asgireload.config import Config
from asgireload.errors import ConfigError, ControlError, ListenError

Scenario = Callable[[FakePort, AdminServer], Awaitable[None]]


def run(scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        port = FakePort()
        server = await start_admin(asyncio.get_running_loop(), port, open_admin(Config(**options)))
        try:
            await scenario(port, server)
        finally:
            await server.close()

    asyncio.run(main())


async def ask(path: str, method: str, target: str, timeout: float | None = 5) -> tuple[int, Any]:
    """Use the synchronous client beside the loop that serves it."""
    return await asyncio.to_thread(AdminClient(path).request, method, target, timeout)


async def exchange(address: str, request: bytes) -> bytes:
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


def test_the_unix_socket_serves_and_is_removed(path: str) -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        assert server.addresses == (f"unix:{path}",)
        status, answer = await ask(path, "GET", "/status")
        assert (status, answer["state"]) == (200, "serving")
        status, answer = await ask(path, "POST", "/scale?workers=3")
        assert (status, port.scaled) == (202, [3])
        status, answer = await ask(path, "GET", "/metrics")
        assert "asgireload_workers_wanted" in answer
        assert port.origins == []
        assert (await ask(path, "POST", "/reload"))[0] == 202
        assert port.origins[0].endswith("from the Unix socket")

    run(scenario, admin_socket=path)
    assert not os.path.exists(path)


def test_head_and_large_answers_arrive_whole(path: str) -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        port.status_value = make_status(workers=tuple(make_worker(n) for n in range(2000)))
        _, answer = await ask(path, "GET", "/status")
        assert len(answer["workers"]) == 2000
        assert (await ask(path, "HEAD", "/metrics")) == (200, "")

    run(scenario, admin_socket=path)


def test_a_waiting_client_gets_the_verdict(path: str) -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        port.verdict = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(ask(path, "POST", "/reload?wait=1", None))
        await port.waiting.acquire()
        # Everything else is answered meanwhile.
        assert (await ask(path, "GET", "/live"))[0] == 200
        port.verdict.set_result(make_reload(5))
        status, answer = await waiting
        assert (status, answer["outcome"]) == (200, "committed")

    run(scenario, admin_socket=path)


def test_closing_does_not_wait_for_a_client_that_waits(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CLOSE_TIMEOUT", 0.05)

    async def scenario(port: FakePort, server: AdminServer) -> None:
        port.verdict = asyncio.get_running_loop().create_future()
        waiting = asyncio.create_task(ask(path, "POST", "/reload?wait=1", None))
        await port.waiting.acquire()
        async with asyncio.timeout(5):
            await server.close()
        with pytest.raises(ControlError, match="ended the connection"):
            await waiting
        assert port.waits_ended == 1
        assert not port.verdict.cancelled()
        await server.close()

    run(scenario, admin_socket=path)


def test_the_tcp_port_checks_host_and_token(tmp_path: Path) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    token_file.chmod(0o600)

    async def scenario(port: FakePort, server: AdminServer) -> None:
        (address,) = server.addresses
        head = b"GET /status HTTP/1.1\r\nConnection: close\r\n"
        for extra, status in (
            (b"Host: localhost\r\nAuthorization: Bearer s3cret\r\n", b"200"),
            (b"Host: localhost\r\n", b"401"),
            (b"Host: evil.example\r\nAuthorization: Bearer s3cret\r\n", b"403"),
        ):
            answer = await exchange(address, head + extra + b"\r\n")
            assert answer.startswith(b"HTTP/1.1 " + status)
        live = b"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        assert (await exchange(address, live)).startswith(b"HTTP/1.1 200")

    run(scenario, admin_socket="none", admin_port=0, admin_token_file=str(token_file))


def test_a_body_that_is_too_long_is_refused_over_the_wire() -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        (address,) = server.addresses
        request = (
            b"POST /scale HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: 100000\r\n\r\n" + b" " * 100000
        )
        assert (await exchange(address, request)).startswith(b"HTTP/1.1 413")
        assert port.scaled == []

    run(scenario, admin_socket="none", admin_port=0)


def test_nothing_is_opened_for_the_network_without_a_token() -> None:
    async def main() -> None:
        config = Config(admin_socket="none", admin_port=0, admin_host="0.0.0.0")
        with pytest.raises(ConfigError, match="admin-token-file"):
            open_admin(config)

    asyncio.run(main())


def test_a_start_that_fails_half_way_leaves_nothing_open(path: str) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as taken:
            taken.bind(path)
            taken.listen()
            with socket.create_server(("127.0.0.1", 0)) as probe:
                free = probe.getsockname()[1]
            config = Config(admin_socket=path, admin_port=free)
            with pytest.raises(ListenError, match="another server listens there"):
                open_admin(config)
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", free)) != 0

    asyncio.run(main())


def test_a_host_without_a_place_for_the_socket_can_still_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "asgireload").mkdir()
    (tmp_path / "asgireload").chmod(0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    async def scenario(port: FakePort, server: AdminServer) -> None:
        assert server.addresses == ()
        assert "no admin socket" in caplog.text
        assert "chmod 700" in caplog.text

    run(scenario)


def test_both_listeners_may_be_switched_off() -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        assert server.addresses == ()

    run(scenario, admin_socket="none")


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_written_as_a_url() -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        (address,) = server.addresses
        assert address.startswith("http://[::1]:")
        request = b"GET /live HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n"
        assert (await exchange(address, request)).startswith(b"HTTP/1.1 200")

    try:
        run(scenario, admin_socket="none", admin_port=0, admin_host="::1")
    except ListenError:
        pytest.skip("this host has no IPv6 loopback")


def with_token(tmp_path: Path) -> str:
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    token_file.chmod(0o600)
    return str(token_file)


def get(path: str, *, token: bool = False) -> bytes:
    header = b"authorization: Bearer s3cret\r\n" if token else b""
    return b"GET %s HTTP/1.0\r\nhost: localhost\r\n%s\r\n" % (path.encode(), header)


CROWD = 2000
HALF_A_HEAD = b"GET /live HTTP/1.1\r\nhost: localhost\r\nx-slow: "
PIPELINED = b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n" * 200


@pytest.mark.parametrize("said", [b"", HALF_A_HEAD, PIPELINED], ids=["silent", "half", "unread"])
def test_a_crowd_of_strangers_does_not_keep_probes_from_their_answers(
    tmp_path: Path, said: bytes
) -> None:
    """The port of probes is open to whoever can reach them; 260 silent connections made `/live` answer 503."""

    async def scenario(port: FakePort, server: AdminServer) -> None:
        address = server.addresses[0]
        where = ("127.0.0.1", int(address.rpartition(":")[2]))
        port.verdict = asyncio.get_running_loop().create_future()
        command = get("/reload?wait=1", token=True).replace(b"GET", b"POST")
        waiting = asyncio.create_task(exchange(address, command))
        await port.waiting.acquire()
        strangers: list[socket.socket] = []
        loop = asyncio.get_running_loop()
        try:
            for number in range(CROWD):
                stranger = socket.socket()
                strangers.append(stranger)
                stranger.setblocking(False)
                await loop.sock_connect(stranger, where)
                with contextlib.suppress(OSError):  # it may have given way already
                    stranger.send(said)
                if number % 100 == 99:
                    for earlier in strangers[-100:] if said == HALF_A_HEAD else []:
                        with contextlib.suppress(OSError):
                            earlier.send(b"a")
                    assert b" 200 " in (await exchange(address, get("/live")))[:20]
                    assert b" 200 " in (await exchange(address, get("/ready")))[:20]
                    assert b" 200 " in (await exchange(address, get("/status", token=True)))[:20]
                    assert b" 401 " in (await exchange(address, get("/status")))[:20]
            assert len(server._served[0].live.connections) <= MAX_CONNECTIONS + 100
            assert not waiting.done()
            port.verdict.set_result(make_reload(5))
            assert b"committed" in await waiting
        finally:
            for stranger in strangers:
                stranger.close()

    token_file = with_token(tmp_path)
    run(scenario, admin_socket="none", admin_port=0, admin_token_file=token_file)


def test_those_who_wait_for_verdicts_do_not_keep_probes_from_their_answers(tmp_path: Path) -> None:
    async def scenario(port: FakePort, server: AdminServer) -> None:
        address = server.addresses[0]
        port.verdict = asyncio.get_running_loop().create_future()
        command = get("/reload?wait=1", token=True).replace(b"GET", b"POST")
        waiting = [asyncio.create_task(exchange(address, command)) for _ in range(MAX_WAITS)]
        for _ in waiting:
            await port.waiting.acquire()
        assert b" 503 " in (await exchange(address, command))[:20]
        assert b" 200 " in (await exchange(address, get("/live")))[:20]
        port.verdict.set_result(make_reload(5))
        for answer in await asyncio.gather(*waiting):
            assert b"committed" in answer

    token_file = with_token(tmp_path)
    run(scenario, admin_socket="none", admin_port=0, admin_token_file=token_file)


def test_a_shortage_of_descriptors_is_told_once_and_not_for_each_connection(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logs a traceback for each, a hundred in a turn of the loop, as long as they wait."""

    async def scenario(port: FakePort, server: AdminServer) -> None:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        taken = []
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open("/dev/null", os.O_RDONLY))
            for client in clients:
                client.connect(path)
            await asyncio.sleep(0.5)  # the loop tries each of them meanwhile
        finally:
            for descriptor in taken:
                os.close(descriptor)
        # They waited meanwhile, and are served.
        for client in clients:
            client.close()
        assert (await ask(path, "GET", "/live"))[0] == 200

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        run(scenario, admin_socket=path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [
        "the admin server cannot take a connection: Too many open files; raise the limit (LimitNOFILE= of"
        " systemd, --ulimit nofile= of Docker, ulimit -n)"
    ]


def test_other_failures_of_the_loop_are_told_as_ever() -> None:
    told: list[dict[str, Any]] = []

    class Loop(asyncio.SelectorEventLoop):
        def default_exception_handler(self, context: dict[str, Any]) -> None:
            told.append(context)

    now = 0.0
    notice = server_module.ShortageNotice(lambda: now)
    with contextlib.closing(Loop()) as loop:
        contexts: list[dict[str, Any]] = [
            {"message": "x"},
            {"message": "x", "exception": OSError(errno.EMFILE, "no more")},
            {"message": "x", "exception": ValueError(), "socket": None},
        ]
        for context in contexts:
            notice(loop, context)
    assert told == contexts
