"""Responses to pipelined requests leave together, and wait for nothing that does not come at once."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http1.write_scheduling import (
    PIPELINE_LONGEST_NS,
    PIPELINE_MOST_BYTES,
    PipelineBatch,
    TurnScheduler,
)
from asgireload.ipc.scoreboard import Field
from tests.http.server import serving
from tests.http.test_exchange import GET, GET_CLOSE, OK, hello

PLAIN_1_0 = b"GET /stream HTTP/1.0\r\nHost: a\r\n\r\n"


class Turns:
    """As much of a loop as a PipelineBatch uses: turns that are made by hand, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._ready: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *args: Any) -> None:
        self._ready.append((callback, args))

    def turn(self) -> None:
        for _ in range(len(self._ready)):
            callback, args = self._ready.popleft()
            callback(*args)

    @property
    def is_idle(self) -> bool:
        return not self._ready


def gathering() -> tuple[PipelineBatch, list[bytes], Turns]:
    turns = Turns()
    written: list[bytes] = []
    loop = cast("asyncio.AbstractEventLoop", turns)
    now_ns = lambda: int(turns.now * 1e9)  # noqa: E731
    return PipelineBatch(TurnScheduler(loop, now_ns), written.append), written, turns


def test_what_comes_turn_by_turn_leaves_together() -> None:
    gathered, written, turns = gathering()
    for number in range(5):
        gathered.add(b"%d" % number)
        turns.turn()
    assert written == []
    turns.turn()
    assert written == [b"01234"]
    assert turns.is_idle


def test_what_no_other_follows_at_once_waits_two_turns() -> None:
    gathered, written, turns = gathering()
    gathered.add(b"alone")
    turns.turn()
    turns.turn()
    assert written == [b"alone"]
    assert turns.is_idle


def test_nothing_is_kept_for_longer_than_a_moment() -> None:
    """An application that computes between two responses keeps none of them from its client for long."""
    gathered, written, turns = gathering()
    gathered.add(b"a")
    turns.now += 2 * PIPELINE_LONGEST_NS / 1e9
    gathered.add(b"b")
    assert written == [b"ab"]


def test_no_more_than_a_few_kilobytes_are_gathered() -> None:
    gathered, written, _ = gathering()
    gathered.add(b"x" * PIPELINE_MOST_BYTES)
    assert written == []
    gathered.add(b"y")
    assert written == [b"x" * PIPELINE_MOST_BYTES + b"y"]


def test_what_is_taken_is_not_written() -> None:
    gathered, written, turns = gathering()
    gathered.add(b"for others")
    assert gathered.take() == b"for others"
    assert gathered.take() == b""
    for _ in range(3):
        turns.turn()
    assert written == []
    assert turns.is_idle


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=PIPELINE_MOST_BYTES),
            st.sampled_from(["turn", "release"]),
            st.floats(0, 2 * PIPELINE_LONGEST_NS / 1e9),
        )
    )
)
def test_everything_is_written_once_and_in_its_order(steps: list[Any]) -> None:
    gathered, written, turns = gathering()
    added = b""
    for step in steps:
        if step == "turn":
            turns.turn()
        elif step == "release":
            gathered.release()
            assert b"".join(written) == added
        elif isinstance(step, float):
            turns.now += step
        else:
            gathered.add(step)
            added += step
        assert b"" not in written
        assert len(added) - len(b"".join(written)) <= PIPELINE_MOST_BYTES
    for _ in range(2):
        turns.turn()
    assert b"".join(written) == added
    turns.turn()
    assert turns.is_idle


class Writes:
    """How often a connection of the server has written, and how much."""

    def __init__(self, connection: Any) -> None:
        self.sizes: list[int] = []
        self._transport = connection._transport
        connection._transport = connection.writer.transport = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))
        self._transport.write(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.sizes.append(sum(map(len, pieces)))
        self._transport.writelines(pieces)


def test_responses_to_requests_in_one_go_are_one_write(run: Any) -> None:
    async def main() -> None:
        async with serving(hello, "builtin") as server:
            server.served.clock.now_ns = lambda: 0  # however busy the machine is, nobody blocks
            client = await server.connect()
            client.send(GET)  # one that is served directly has moved to the loop behind this
            await client.read_response()
            (connection,) = server.live.connections
            writes = Writes(connection)
            client.send(GET * 20)
            for _ in range(20):
                assert (await client.read_response())[2] == b"hello"
            assert len(writes.sizes) == 1
            client.send(GET)
            assert (await client.read_response())[2] == b"hello"
            assert len(writes.sizes) == 2

    run(main())


def test_a_response_does_not_wait_for_an_application_that_waits(run: Any) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/wait":
                await release.wait()
            await hello(scope, receive, send)

        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET + GET.replace(b"/", b"/wait", 1) + GET)
            assert (await client.read_response())[2] == b"hello"
            assert server.count(Field.EXCHANGES) == 1
            release.set()
            for _ in range(2):
                assert (await client.read_response())[2] == b"hello"

    run(main())


@pytest.mark.parametrize("behind", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\nX-Half", b"\r\n"])
def test_responses_do_not_wait_for_the_rest_of_a_head(run: Any, behind: bytes) -> None:
    async def main() -> None:
        async with serving(hello, "builtin") as server:
            client = await server.connect()
            client.send(GET * 3 + behind)
            for _ in range(3):
                assert (await client.read_response())[2] == b"hello"

    run(main())


def test_responses_do_not_wait_for_the_rest_of_a_body(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
            client.send(GET * 2 + post + b"ab")
            for _ in range(2):
                assert (await client.read_response())[2] == b"hello"
            client.send(b"cd" + GET)
            for _ in range(2):
                assert (await client.read_response())[2] == b"hello"

    run(main())


def test_what_is_written_otherwise_keeps_the_order(run: Any, tmp_path: Path) -> None:
    """Pieces, files and large bodies are written without waiting, and not before what was gathered."""
    file = tmp_path / "file"
    file.write_bytes(b"f" * 300_000)
    bodies = {
        "/": b"hello",
        "/pieces": b"onetwo",
        "/file": file.read_bytes(),
        "/large": b"l" * 200_000,
        "/middle": b"m" * 20_000,
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        await send(OK)
        if path == "/pieces":
            await send({"type": "http.response.body", "body": b"one", "more_body": True})
            await send({"type": "http.response.body", "body": b"two"})
        elif path == "/file":
            await send({"type": "http.response.pathsend", "path": str(file)})
        else:
            await send({"type": "http.response.body", "body": bodies[path]})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            paths = ["/", "/pieces", "/", "/", "/file", "/", "/large", "/middle", "/", "/file"] * 2
            client.send(b"".join(GET.replace(b"/", path.encode(), 1) for path in paths))
            for path in paths:
                assert (await client.read_response())[2] == bodies[path]

    run(main())


def test_the_last_response_of_a_connection_comes_behind_all_others(run: Any) -> None:
    async def main() -> None:
        async with serving(hello, "builtin") as server:
            reply = await server.exchange(GET * 4 + GET_CLOSE)
            assert reply.count(b"HTTP/1.1 200 OK") == 5
            assert reply.rindex(b"HTTP/1.1 200") < reply.index(b"connection: close")

    run(main())


async def read_to_its_end(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 65536):
        pass


def test_a_response_that_breaks_off_leaves_those_before_it_whole(run: Any) -> None:
    """A reset makes the truncation visible (a body cut short must not look complete), and
    must not take along what was complete in the same turn."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/stream":
            await send(OK)
            await send({"type": "http.response.body", "body": b"some", "more_body": True})
            raise RuntimeError("in the middle of the body")
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            loop = asyncio.get_running_loop()
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", server.port))
                await loop.sock_sendall(client, GET * 3 + PLAIN_1_0)
                received = b""
                while received.count(b"hello") < 3:
                    received += await loop.sock_recv(client, 65536)
                with pytest.raises(ConnectionResetError):
                    await read_to_its_end(client)

    run(main())
