"""Responses of one turn of the loop leave together, and none waits for long."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from asgireload.http.outbox import AT_ONCE_AFTER_BLOCK, BLOCKED_NS, LONGEST_NS, Outbox
from tests.http.server import serving
from tests.http.test_exchange import GET, OK, hello
from tests.http.test_gathering import Turns, Writes


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


class Box:
    """An outbox with a clock and a loop of its own; `enlist(1)` has 1 written."""

    def __init__(self) -> None:
        self.turns, self.clock = Turns(), Clock()
        loop = cast("asyncio.AbstractEventLoop", self.turns)
        self.outbox = Outbox(loop, self.clock.monotonic_ns)
        self.written: list[int] = []

    def enlist(self, number: int, then: Callable[[], None] = lambda: None) -> "Letter":
        letter = Letter(self, number, then)
        self.outbox.enlist(letter, self.clock.now_ns)
        return letter


class Letter:
    def __init__(self, box: Box, number: int, then: Callable[[], None]) -> None:
        self.box, self.number, self.then = box, number, then
        self.is_written = False

    def release_outgoing(self) -> bool:
        if self.is_written:
            return False
        self.is_written = True
        self.box.written.append(self.number)
        self.then()
        return True


def test_what_one_turn_has_answered_is_written_when_it_is_over() -> None:
    box = Box()
    for number in range(3):
        box.enlist(number)
    assert box.written == []
    box.turns.turn()
    assert box.written == [0, 1, 2]
    assert box.turns.is_idle


def test_the_first_does_not_wait_for_long() -> None:
    box = Box()
    box.enlist(1)
    box.clock.now_ns += LONGEST_NS + 1
    box.enlist(2)
    assert box.written == [1, 2]
    box.enlist(3)
    assert box.written == [1, 2]
    box.turns.turn()
    assert box.written == [1, 2, 3]
    assert box.turns.is_idle


def test_behind_an_application_that_computes_for_long_nobody_waits_for_a_while() -> None:
    box = Box()
    box.enlist(0)
    box.clock.now_ns += BLOCKED_NS + 1
    box.turns.turn()
    for number in range(1, AT_ONCE_AFTER_BLOCK + 1):
        box.enlist(number)
        assert box.written[-1] == number
    box.enlist(-1)
    assert box.written[-1] != -1
    box.turns.turn()
    assert box.written[-1] == -1


def test_what_was_written_by_itself_has_not_waited() -> None:
    """A client that takes a large body keeps nobody waiting who would be served sooner without an outbox."""
    box = Box()
    letter = box.enlist(0)
    letter.release_outgoing()
    box.clock.now_ns += BLOCKED_NS + 1
    box.turns.turn()
    box.enlist(1)
    assert box.written == [0]
    box.turns.turn()
    assert box.written == [0, 1]


def test_who_enlists_while_others_write_is_called_in_the_next_turn() -> None:
    box = Box()
    box.enlist(1, then=lambda: box.enlist(2))
    box.turns.turn()
    assert box.written == [1]
    box.turns.turn()
    assert box.written == [1, 2]


@given(st.lists(st.one_of(st.just("enlist"), st.just("turn"), st.integers(0, 2 * BLOCKED_NS))))
def test_everybody_is_called_once_and_in_order(steps: list[Any]) -> None:
    box = Box()
    enlisted = 0
    for step in steps:
        if step == "enlist":
            box.enlist(enlisted)
            enlisted += 1
        elif isinstance(step, int):
            box.clock.now_ns += step
        else:
            box.turns.turn()
            assert box.written == list(range(enlisted))
    box.turns.turn()
    assert box.written == list(range(enlisted))
    assert box.turns.is_idle


def test_requests_of_several_connections_are_read_before_responses_are_written(run: Any) -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        order.append("answered")
        await hello(scope, receive, send)

    async def main() -> None:
        async with serving(app, "builtin") as server:
            clients = [await server.connect() for _ in range(5)]
            for client in clients:
                client.send(GET)
                await client.read_response()
            connections = cast("list[Any]", list(server.context.connections))
            for connection in connections:
                writes = Writes(connection)
                write = writes.write
                writes.write = lambda data, write=write: (order.append("written"), write(data))  # type: ignore[method-assign, misc]
            order.clear()
            # However busy the machine is, the turn takes no time.
            server.context.now_ns = lambda: 0

            def turn() -> None:
                for connection in connections:
                    connection.data_received(GET)

            asyncio.get_running_loop().call_soon(turn)
            for client in clients:
                assert (await client.read_response())[2] == b"hello"
            assert order == ["answered"] * 5 + ["written"] * 5

    run(main())


def test_what_is_large_is_written_at_once(run: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.body", "body": b"x" * 30_000})
        assert writes[0].sizes[-1] > 30_000

    writes: list[Writes] = []

    async def main() -> None:
        async with serving(hello, "builtin") as server:
            client = await server.connect()
            client.send(GET)
            await client.read_response()
            (connection,) = server.context.connections
            writes.append(Writes(connection))
            server.context.app = app
            client.send(GET)
            assert len((await client.read_response())[2]) == 30_000

    run(main())


def test_a_response_of_this_turn_leaves_before_its_connection_ends(run: Any) -> None:
    """Whatever ends the connection in the same turn: a drain, somebody who needs room, the end of the worker."""

    async def main() -> None:
        for end in ("make_way", "cut", "abort", "begin_drain", "eof_received"):
            async with serving(hello, "builtin") as server:
                client = await server.connect()
                client.send(GET)
                await client.read_response()
                (connection,) = cast("list[Any]", list(server.context.connections))

                def turn(connection: Any = connection, end: str = end) -> None:
                    connection.data_received(GET)
                    getattr(connection, end)()

                asyncio.get_running_loop().call_soon(turn)
                if end == "abort":
                    await server.wait_until(lambda: not server.context.connections)
                else:
                    assert (await client.read_response())[2] == b"hello", end
                await client.close()

    run(main())
