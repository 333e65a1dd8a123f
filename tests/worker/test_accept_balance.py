"""Workers that accept from one socket share connections that are opened at once."""

import asyncio
import socket
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.http1.connection import http_protocol
from asgireload.ipc.scoreboard import Field, Scoreboard
from asgireload.worker.accept_balance import (
    LATELY,
    LEAD,
    LOOK_INTERVAL,
    WHO_INTERVAL,
    AcceptBalance,
    Turnover,
    is_ahead,
)
from asgireload.worker.acceptor import ACCEPT_BURST, Acceptor, Entrance
from tests.wired import Wired, make_wire


async def silent(scope, receive, send):
    raise AssertionError("nobody asks")


@pytest.fixture
def board():
    board = Scoreboard.create()
    yield board
    board.close()


def set_record(board, index, *, connections, accepting=True):
    values = board.record(index).values
    values[Field.CONNECTIONS] = connections
    values[Field.ACCEPTING] = int(accepting)


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_two_are_never_both_ahead_of_each_other(one, other):
    assert not (is_ahead(one, other) and is_ahead(other, one))
    assert not is_ahead(one, one)


@pytest.mark.parametrize(
    ("mine", "fewest", "expected"),
    [(3, 0, False), (4, 0, True), (35, 32, False), (36, 32, True), (1120, 1000, False), (1125, 1000, True)],
)  # fmt: skip
def test_how_far_ahead_is_too_far(mine, fewest, expected):
    assert is_ahead(mine, fewest) is expected


def test_alone_nobody_is_ahead(board):
    set_record(board, 0, connections=500)
    assert not AcceptBalance(board, 0).is_ahead(9)


def test_those_that_take_no_new_connections_do_not_count(board):
    """One that drains, one that has died, and one on probation, whose predecessor still serves."""
    set_record(board, 0, connections=500)
    set_record(board, 1, connections=0, accepting=False)
    assert not AcceptBalance(board, 0).is_ahead(0)
    set_record(board, 1, connections=0)
    assert AcceptBalance(board, 0).is_ahead(0)


def test_others_are_looked_at_again_only_when_there_are_more_connections(board):
    set_record(board, 0, connections=100)
    set_record(board, 1, connections=100)
    balance = AcceptBalance(board, 0)
    assert not balance.is_ahead(0)
    set_record(board, 1, connections=0)
    assert not balance.is_ahead(LOOK_INTERVAL - 1)
    assert balance.is_ahead(LOOK_INTERVAL)


def test_others_are_looked_at_again_when_there_are_fewer_connections(board):
    """A crowd that has left must not let the next one be all this worker's."""
    set_record(board, 0, connections=100)
    set_record(board, 1, connections=100)
    balance = AcceptBalance(board, 0)
    assert not balance.is_ahead(0)
    for index in (0, 1):
        set_record(board, index, connections=0)
    assert not balance.is_ahead(0)
    assert balance.is_ahead(LOOK_INTERVAL)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@given(
    st.lists(
        st.tuples(st.floats(0, 5 * LATELY), st.integers(0, 50), st.integers(0, 50)), min_size=1
    )
)
def test_short_connections_are_those_that_began_and_ended_lately(steps):
    turnover, now, begun, ended, history = Turnover(), 0.0, 0, 0, []
    for seconds, more, fewer in steps:
        now, begun = now + seconds, begun + more
        ended = min(begun, ended + fewer)
        history.append((now, begun, ended))
        short = turnover.lately(begun, ended, now)
        lately = [(b, e) for t, b, e in history if now - t < 3 * LATELY]
        assert 0 <= short <= min(begun - lately[0][0], ended - lately[0][1])


def test_where_connections_are_short_nobody_stands_back(board):
    clock = Clock()
    set_record(board, 1, connections=0)
    set_record(board, 0, connections=20)
    values = board.record(0).values
    balance = AcceptBalance(board, 0, clock)
    answers = []
    for step in range(6):  # a hundred begin and end each time
        values[Field.CONNECTIONS] = 20 + LOOK_INTERVAL * (step % 2)
        values[Field.CONNECTIONS_TOTAL] = 100 * (step + 1)
        answers.append(balance.is_ahead(0))
        clock.now += 1.1 * LATELY
    assert answers == [True, False, False, False, False, False]
    clock.now += 2 * LATELY
    assert balance.is_ahead(LOOK_INTERVAL)  # what was so long ago tells nothing


def test_clients_that_leave_and_come_again_all_at_once_are_shared(board):
    clock = Clock()
    set_record(board, 1, connections=100)
    set_record(board, 0, connections=100)
    values = board.record(0).values
    values[Field.CONNECTIONS_TOTAL] = 100
    balance = AcceptBalance(board, 0, clock)
    assert not balance.is_ahead(0)
    for index in (0, 1):
        set_record(board, index, connections=0)
    for came in (4, 8, 12):
        clock.now += LATELY / 4
        values[Field.CONNECTIONS_TOTAL] = 100 + came
        values[Field.CONNECTIONS] = came
        assert balance.is_ahead(0)


def test_a_new_worker_is_seen_after_a_while(board):
    clock = Clock()
    set_record(board, 0, connections=500)
    balance = AcceptBalance(board, 0, clock)
    assert not balance.is_ahead(0)
    set_record(board, 1, connections=0)
    clock.now += WHO_INTERVAL
    assert balance.is_ahead(LOOK_INTERVAL)


def test_workers_are_found_wherever_their_records_are(board):
    assert board.accepting_below() == 0
    for index in (3, 100, 130):
        set_record(board, index, connections=index)
    assert board.accepting_below() == 131
    assert board.fewest_connections(besides=3, below=131) == 100
    assert board.fewest_connections(besides=130, below=131) == 3
    assert board.fewest_connections(besides=3, below=4) is None


def test_workers_are_found_behind_many_that_drain(board):
    """A whole block of records may be of old workers, while those that followed accept."""
    for index in range(256):
        board.record(index).values[Field.HEARTBEAT] = 1
    set_record(board, 300, connections=7)
    assert board.accepting_below() == 301


class Worker(Wired):
    """What of a worker accepts."""

    def __init__(self, listener, board, index):
        loop = asyncio.get_running_loop()
        self.listener = listener.dup()
        self.listener.setblocking(False)
        record = board.record(index)
        record.values[Field.ACCEPTING] = 1
        self.wire = make_wire(silent, record=record)
        self.acceptor = Acceptor(
            loop,
            [Entrance(self.listener)],
            partial(http_protocol, self.wire),
            record=record,
            handshake_timeout=5,
            balance=AcceptBalance(board, index),
        )

    @property
    def count(self):
        return len(self.live.connections)

    async def close(self):
        self.acceptor.stop()
        for connection in tuple(self.live.connections):
            connection.abort()
        await self.acceptor.wait_adopted(5)
        await self.live.wait_idle()
        self.listener.close()


async def until(condition):
    """Let the loop turn until it holds."""
    while not condition():  # noqa: ASYNC110 - whatever happens in the loop may make it true
        await asyncio.sleep(0)


def accept(board, clients, others):
    """Let a worker and so many that accept, or that are blocked (None), take connections; return the counts."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            workers = [Worker(listener, board, index) for index in range(1 + others)]
            sockets = [socket.create_connection(listener.getsockname()) for _ in range(clients)]
            for worker in workers:
                worker.acceptor.start()
            try:
                async with asyncio.timeout(10):
                    await until(lambda: sum(worker.count for worker in workers) == clients)
                return [worker.count for worker in workers]
            finally:
                for worker in workers:
                    await worker.close()
                for client in sockets:
                    client.close()

    return main()


@pytest.mark.parametrize(("clients", "others"), [(32, 1), (90, 2)])
def test_a_burst_is_shared(run, board, clients, others):
    counts = run(accept(board, clients, others))
    assert max(counts) - min(counts) <= LEAD + ACCEPT_BURST


def test_what_a_blocked_worker_does_not_take_is_taken_by_the_other(run, board):
    set_record(board, 7, connections=0)
    assert run(accept(board, 60, 0)) == [60]


def test_a_worker_that_stands_back_stops_at_once(run, board):
    set_record(board, 7, connections=0)

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            worker = Worker(listener, board, 0)
            clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
            worker.acceptor.start()
            async with asyncio.timeout(10):
                await until(lambda: worker.count >= LEAD)
            worker.acceptor.stop()
            await worker.acceptor.wait_adopted(5)
            left = worker.count
            await asyncio.sleep(0.02)
            assert worker.count == left < 20
            await worker.close()
            for client in clients:
                client.close()

    run(main())
