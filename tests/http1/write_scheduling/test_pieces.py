"""Pieces of a response that are made in one turn of the loop leave together, and wait for nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http1.write_scheduling import (
    JOINED_BYTES,
    PIECES_LEAST_BYTES,
    PIECES_MOST,
    PIECES_MOST_BYTES,
    PieceBatch,
)
from tests.http.server import serving
from tests.http.test_exchange import GET, GET_CLOSE, OK, hello
from tests.http1.write_scheduling.test_pipeline import Writes

# --- the pure part --------------------------------------------------------------------------------


def test_what_is_small_becomes_one_piece() -> None:
    pieces = PieceBatch()
    assert pieces.take(b"alone") == [b"alone"]
    assert not pieces.add(b"b")
    assert not pieces.add(b"c")
    assert pieces.take(b"a") == [b"abc"]
    assert pieces.take(b"next") == [b"next"]


def test_what_is_large_is_not_copied() -> None:
    pieces = PieceBatch()
    first, second = bytes(JOINED_BYTES), b"x"
    pieces.add(second)
    assert [id(piece) for piece in pieces.take(first)] == [id(first), id(second)]


def test_a_client_that_takes_much_gets_more_at_once() -> None:
    pieces = PieceBatch()
    for limit in (PIECES_LEAST_BYTES, 2 * PIECES_LEAST_BYTES, PIECES_MOST_BYTES, PIECES_MOST_BYTES):
        assert not pieces.add(bytes(limit - 1))
        assert pieces.add(b"x")
        pieces.take(b"first")
        pieces.note_written(left_bytes=0)
    pieces.add(bytes(PIECES_MOST_BYTES))
    pieces.take(b"first")
    pieces.note_written(left_bytes=1)
    assert pieces.add(bytes(PIECES_LEAST_BYTES))


def test_what_was_too_little_to_show_anything_changes_nothing() -> None:
    pieces = PieceBatch()
    pieces.add(b"little")
    pieces.take(b"first")
    pieces.note_written(left_bytes=0)
    assert pieces.add(bytes(PIECES_LEAST_BYTES))


@given(st.lists(st.one_of(st.binary(min_size=1), st.sampled_from(["gone", "left"]))))
def test_everything_is_taken_once_and_in_its_order(steps: list[Any]) -> None:
    pieces = PieceBatch()
    added, taken = b"", b""
    for step in [*steps, "gone"]:
        if isinstance(step, bytes):
            added += step
            pieces.add(step)
        else:
            added += b"F"
            together = pieces.take(b"F")
            # What is to be first was there before the others.
            assert b"".join(together).startswith(b"F")
            waiting = len(added) - 1 - len(taken)
            taken += b"".join(together)[1:] + b"F"
            assert sum(map(len, together)) == waiting + 1
            pieces.note_written(left_bytes=0 if step == "gone" else 1)
    assert taken == added


@given(st.lists(st.integers(1, 2 * PIECES_LEAST_BYTES), max_size=50))
def test_no_more_is_held_than_the_bound_and_a_piece(sizes: list[int]) -> None:
    pieces = PieceBatch()
    held = count = 0
    for size in sizes:
        assert held < PIECES_MOST_BYTES
        assert count < PIECES_MOST
        is_time = pieces.add(bytes(size))
        held, count = held + size, count + 1
        if is_time:
            pieces.take(b"first")
            pieces.note_written(left_bytes=0)
            held = count = 0


def test_so_many_pieces_are_time_to_write_however_small_they_are() -> None:
    pieces = PieceBatch()
    assert [pieces.add(b"x") for _ in range(PIECES_MOST)] == [False] * (PIECES_MOST - 1) + [True]


# --- on the wire ----------------------------------------------------------------------------------


def streaming(*pieces: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    return app


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Any, Any, Writes]]:
    """Serve; give the server, a client that has had an answer, and what is written to it from then on."""
    async with serving(hello, "builtin") as server:
        server.served.clock.now_ns = lambda: 0  # however busy the machine is, a turn takes no time
        client = await server.connect()
        client.send(GET)  # one that is served directly has moved to the loop behind this
        await client.read_response()
        (connection,) = server.live.connections
        yield server, client, Writes(connection)


def test_a_piece_and_the_end_behind_it_are_one_write(run: Any) -> None:
    """As what wraps applications (BaseHTTPMiddleware and its like) sends a response that is complete."""

    async def main() -> None:
        async with watched() as (server, client, writes):
            server.served.app = streaming(b"piece")
            client.send(GET)
            assert (await client.read_response())[2] == b"pieceend"
            assert len(writes.sizes) == 1

    run(main())


def test_many_pieces_of_one_turn_are_few_writes(run: Any) -> None:
    body = [b"%05d" % number * 2000 for number in range(200)]

    async def main() -> None:
        async with watched() as (server, client, writes):
            server.served.app = streaming(*body)
            for _ in range(3):
                client.send(GET)
                assert (await client.read_response())[2] == b"".join(body) + b"end"
            assert len(writes.sizes) < 200

    run(main())


def test_a_large_body_and_its_head_are_one_write(run: Any) -> None:
    """Of a loop whose `writelines` can be trusted (CVE-2024-12254)."""
    body = b"0123456789abcdef" * 8192

    async def main() -> None:
        async with watched() as (server, client, writes):

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await send(OK)
                await send({"type": "http.response.body", "body": body})

            server.served.app = app
            client.send(GET)
            assert (await client.read_response())[2] == body
            loop = asyncio.get_running_loop()
            assert len(writes.sizes) == (2 if isinstance(loop, asyncio.SelectorEventLoop) else 1)

    run(main())


def test_a_piece_leaves_before_its_application_goes_on_from_a_wait(run: Any) -> None:
    async def main() -> None:
        has_read = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(OK)
            for piece in (b"one", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await has_read.wait()
            await send({"type": "http.response.body", "body": b"three"})

        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET_CLOSE)
            await client.read_until(b"3\r\none\r\n3\r\ntwo\r\n")
            has_read.set()
            assert await client.read_all() == b"5\r\nthree\r\n0\r\n\r\n"

    run(main())


def test_early_hints_leave_before_the_application_computes(run: Any) -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/hint":
                links = [b"</style.css>; rel=preload"]
                await send({"type": "http.response.early_hint", "links": links})
                # Not a turn of the loop later: what comes now may compute.
                sizes.append(len(writes.sizes))
            await hello(scope, receive, send)

        sizes: list[int] = []
        async with watched() as (server, client, writes):
            server.served.app = app
            client.send(GET.replace(b" / ", b" /hint "))
            await client.read_until(b"rel=preload\r\n\r\n")
            assert (await client.read_response())[2] == b"hello"
            assert sizes == [1]

    run(main())


def test_a_file_comes_behind_the_pieces_before_it(run: Any, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"file" * 10_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": b"before", "more_body": True})
        with (tmp_path / "file").open("rb") as opened:
            message = {"type": "http.response.zerocopysend", "file": opened, "more_body": True}
            await send(message)
        await send({"type": "http.response.body", "body": b"behind"})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            for _ in range(3):
                client.send(GET)
                assert (await client.read_response())[2] == b"before" + b"file" * 10_000 + b"behind"

    run(main())


@pytest.mark.parametrize("count", [1, 5])
def test_pieces_of_a_response_that_breaks_leave_before_its_connection_ends(
    run: Any, count: int, caplog: Any
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        for _ in range(count):
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        raise ValueError("broken")

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            data = await client.read_all()
            assert data.count(b"5\r\npiece\r\n") == count
            assert not data.endswith(b"0\r\n\r\n")

    run(main())
    assert "broken" in caplog.text


def test_pipelined_requests_for_streams_are_answered_in_their_order(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        number = scope["path"][1:].encode()
        await send(OK)
        for _ in range(int(number) % 3):
            await send({"type": "http.response.body", "body": number, "more_body": True})
        if int(number) % 4 == 1:
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": number})

    async def main() -> None:
        async with serving(app, "builtin") as server:
            client = await server.connect()
            client.send(b"".join(GET.replace(b" / ", b" /%d " % number) for number in range(40)))
            for number in range(40):
                body = (await client.read_response())[2]
                assert body == b"%d" % number * (number % 3 + 1)

    run(main())
