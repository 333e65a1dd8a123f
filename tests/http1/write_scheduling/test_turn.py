"""Responses of one turn of the loop leave together, and none waits for long."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http1.write_scheduling import (
    AT_ONCE_LEAST,
    BLOCKED_NS,
    CROWD,
    FEW_TURNS,
    SAMPLE,
    TURN_LONGEST_NS,
    TurnScheduler,
)
from tests.http.server import serving
from tests.http.test_exchange import GET, OK, hello
from tests.http1.write_scheduling.test_pipeline import Turns, Writes


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns


class Box:
    """A scheduler with a clock and a loop of its own; `enlist(1)` has 1 written."""

    def __init__(self, *, at_once: int = 0, is_crowded: bool = True) -> None:
        self.turns, self.clock = Turns(), Clock()
        loop = cast("asyncio.AbstractEventLoop", self.turns)
        self.turn = TurnScheduler(
            loop, self.clock.monotonic_ns, at_once=at_once, is_crowded=is_crowded
        )
        self.written: list[int] = []

    def enlist(
        self, number: int, then: Callable[[], None] = lambda: None, *, is_complete: bool = True
    ) -> "Letter":
        letter = Letter(self, number, then)
        self.turn.enlist(letter, self.clock.now_ns, is_complete=is_complete)
        return letter

    def waits(self, *, is_complete: bool = False) -> bool:
        """Whether a response that is alone in its turn waits for the end of it."""
        letter = self.enlist(-1, is_complete=is_complete)
        is_waiting = not letter.is_written
        self.turns.turn()
        assert letter.is_written
        return is_waiting

    def block(self, after: int) -> None:
        """Answer `after` requests in turns of their own, and block behind the last one."""
        for _ in range(after):
            self.turns.turn()
            self.enlist(-1, is_complete=False)
        self.clock.now_ns += BLOCKED_NS + 1
        self.turns.turn()


class Letter:
    def __init__(self, box: Box, number: int, then: Callable[[], None]) -> None:
        self.box, self.number, self.then = box, number, then
        self.is_written = False

    def write_waiting(self) -> bool:
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
    box.clock.now_ns += TURN_LONGEST_NS + 1
    box.enlist(2)
    assert box.written == [1, 2]
    box.enlist(3)
    assert box.written == [1, 2]
    box.turns.turn()
    assert box.written == [1, 2, 3]
    assert box.turns.is_idle


def test_the_first_responses_of_a_worker_do_not_wait() -> None:
    """Nobody knows yet whether its application blocks behind them."""
    box = Box(at_once=3)
    for number in range(3):
        assert box.turn.writes_at_once
        assert box.enlist(number, is_complete=False).is_written
    assert not box.turn.writes_at_once
    assert not box.enlist(3).is_written


def test_a_complete_response_that_is_alone_in_its_turn_does_not_wait() -> None:
    box = Box(is_crowded=False)
    assert box.turn.writes_complete_at_once
    for number in range(10 * SAMPLE):
        assert box.enlist(number).is_written
        box.turns.turn()
    assert box.turns.is_idle


def test_a_part_of_a_response_waits_for_the_others_of_its_turn() -> None:
    box = Box(is_crowded=False)
    assert not box.enlist(1, is_complete=False).is_written
    box.turns.turn()
    assert box.written == [1]


def test_complete_responses_wait_while_turns_answer_several_clients() -> None:
    box = Box(is_crowded=False)
    for _ in range(SAMPLE):
        for number in range(CROWD):
            box.enlist(number)
        box.turns.turn()
    assert not box.turn.writes_complete_at_once
    assert box.waits(is_complete=True)
    for _ in range(FEW_TURNS):
        box.enlist(0)
        box.turns.turn()
    assert box.turn.writes_complete_at_once
    assert not box.waits(is_complete=True)


@pytest.mark.parametrize("is_crowded", [True, False])
def test_behind_an_application_that_blocks_nobody_waits_for_a_while(is_crowded: bool) -> None:
    box = Box(is_crowded=is_crowded)
    box.enlist(0, is_complete=False)
    box.clock.now_ns += BLOCKED_NS + 1
    box.turns.turn()
    for number in range(1, AT_ONCE_LEAST + 1):
        assert box.enlist(number, is_complete=False).is_written
    assert not box.enlist(-1, is_complete=False).is_written


def test_an_application_that_blocks_now_and_then_is_known_for_longer_each_time() -> None:
    box = Box(at_once=10)
    box.block(after=10)
    waited = 0
    for _ in range(50):
        for _ in range(1500):
            waited += box.waits()
        box.block(after=1)
    # Of 75,000 responses: after the first blocks all are written at once.
    assert waited <= 500
    assert not box.waits()


def test_a_block_long_ago_is_forgotten() -> None:
    box = Box(at_once=1)
    box.block(after=1)
    for _ in range(AT_ONCE_LEAST):
        assert not box.waits()
    assert box.waits()


def test_requests_that_take_long_together_have_not_waited_for_one() -> None:
    """Sixty applications of 1 ms in one turn are no application that blocks."""
    box = Box(at_once=60)
    for number in range(60):
        assert box.enlist(number).is_written
        box.clock.now_ns += BLOCKED_NS // 4
    box.turns.turn()
    assert not box.turn.writes_at_once


def test_what_was_written_by_itself_has_not_waited() -> None:
    """A client that takes a large body keeps nobody waiting who would be served sooner without scheduling."""
    box = Box()
    letter = box.enlist(0)
    letter.write_waiting()
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


@given(
    st.lists(st.one_of(st.sampled_from(["part", "whole", "turn"]), st.integers(0, 2 * BLOCKED_NS))),
    st.integers(0, 3),
    st.booleans(),
)
def test_everybody_is_called_once_and_in_order(
    steps: list[Any], at_once: int, is_crowded: bool
) -> None:
    box = Box(at_once=at_once, is_crowded=is_crowded)
    enlisted = 0
    for step in steps:
        if isinstance(step, int):
            box.clock.now_ns += step
        elif step == "turn":
            box.turns.turn()
            assert box.written == list(range(enlisted))
        else:
            box.enlist(enlisted, is_complete=step == "whole")
            enlisted += 1
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
            connections = cast("list[Any]", list(server.live.connections))
            for connection in connections:
                writes = Writes(connection)
                write = writes.write
                writes.write = lambda data, write=write: (order.append("written"), write(data))  # type: ignore[method-assign, misc]
            order.clear()
            # However busy the machine is, the turn takes no time.
            server.served.clock.now_ns = lambda: 0
            scheduler = TurnScheduler(
                server.served.clock.loop, lambda: 0, at_once=0, is_crowded=True
            )
            for connection in connections:
                connection.writer._turn = scheduler

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
            (connection,) = server.live.connections
            writes.append(Writes(connection))
            server.served.app = app
            client.send(GET)
            assert len((await client.read_response())[2]) == 30_000

    run(main())


def test_a_response_of_this_turn_leaves_before_its_connection_ends(run: Any) -> None:
    """Whatever ends the connection in the same turn: a drain, somebody who needs room, the end of the worker."""

    async def main() -> None:
        for end in ("close_idle", "cut", "abort", "begin_drain", "eof_received"):
            async with serving(hello, "builtin") as server:
                client = await server.connect()
                client.send(GET)
                await client.read_response()
                (connection,) = cast("list[Any]", list(server.live.connections))

                def turn(connection: Any = connection, end: str = end) -> None:
                    connection.data_received(GET)
                    getattr(connection, end)()

                asyncio.get_running_loop().call_soon(turn)
                if end == "abort":
                    await server.wait_until(lambda: not server.live.connections)
                else:
                    assert (await client.read_response())[2] == b"hello", end
                await client.close()

    run(main())
