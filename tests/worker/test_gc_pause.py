"""The garbage collector while connections arrive: what is put off, what is set apart, and that none is lost."""

import asyncio
import gc
import socket

import pytest

from asgireload.http1.connection import HttpConnection
from asgireload.ipc.scoreboard import Field
from asgireload.worker import gc_pause
from asgireload.worker.gc_pause import FREEZE_FROM, GcPause, may_freeze
from tests.worker.test_handover import ask, wait_until, workers


class Timer:
    def __init__(self):
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Loop:
    """Has one timer, which fires when it is told to."""

    def call_later(self, delay, callback):
        self.timer, self.fire = Timer(), callback
        return self.timer


class Collector:
    """In the place of the module gc."""

    def __init__(self):
        self.thresholds = (700, 10, 10)
        self.is_on = True
        self.done = []

    def isenabled(self):
        return self.is_on

    def get_threshold(self):
        return self.thresholds

    def set_threshold(self, *thresholds):
        self.thresholds = thresholds

    def collect(self, generation):
        self.done.append(f"collect {generation}")

    def freeze(self):
        self.done.append("freeze")


@pytest.fixture
def collector(monkeypatch):
    made = Collector()
    monkeypatch.setattr(gc_pause, "gc", made)
    return made


@pytest.mark.parametrize(
    ("arrived", "running", "may"),
    [(511, 0, False), (512, 0, True), (512, 32, True), (512, 33, False), (10_000, 625, True)],
)
def test_what_lives_is_set_apart_for_many_connections_and_few_calls(arrived, running, may):
    assert may_freeze(arrived, running) == may


def test_full_collections_are_put_off_until_nothing_more_arrives(collector):
    loop = Loop()
    pause = GcPause(loop, lambda: 0)
    pause.note(FREEZE_FROM)
    assert collector.thresholds == (700, 10, 1 << 30)
    loop.fire()
    pause.note(1)
    loop.fire()
    assert collector.thresholds[2] == 1 << 30
    assert collector.done == []
    loop.fire()
    assert collector.thresholds == (700, 10, 10)
    assert collector.done == ["collect 1", "freeze"]


@pytest.mark.parametrize(("arrived", "running"), [(1, 0), (1000, 100)])
def test_nothing_is_set_apart_for_few_connections_or_many_calls(collector, arrived, running):
    loop = Loop()
    pause = GcPause(loop, lambda: running)
    pause.note(arrived)
    loop.fire()
    loop.fire()
    assert collector.done == []
    assert collector.thresholds == (700, 10, 10)


def test_each_round_counts_anew(collector):
    loop = Loop()
    pause = GcPause(loop, lambda: 0)
    for _ in range(2):
        pause.note(FREEZE_FROM - 1)
        loop.fire()
        loop.fire()
    assert collector.done == []


def test_an_end_in_the_middle_restores_the_thresholds(collector):
    loop = Loop()
    pause = GcPause(loop, lambda: 0)
    pause.note(FREEZE_FROM)
    pause.end()
    pause.end()
    assert loop.timer.is_cancelled
    assert collector.thresholds == (700, 10, 10)


def test_the_application_has_its_way_with_the_collector(collector):
    loop = Loop()
    pause = GcPause(loop, lambda: 0)
    pause.note(1)
    collector.thresholds = (5000, 20, 30)
    loop.fire()
    loop.fire()
    assert collector.thresholds == (5000, 20, 30)
    collector.is_on = False
    pause.note(FREEZE_FROM)
    assert collector.thresholds == (5000, 20, 30)
    assert collector.done == []


def test_connections_that_were_handed_over_are_freed_without_the_collector(run):
    """Otherwise those that are set apart would stay in memory for good."""

    async def scenario():
        async with workers() as pair:
            clients = [await pair.connect() for _ in range(20)]
            for client in clients:
                await ask(client)
            pair.leave()
            await pair.wait_moved(20)
            assert all(isinstance(each, HttpConnection) for each in pair.new.live.connections)
            for client in clients:
                await ask(client)
            gc.collect()
            gc.disable()
            try:
                for client in clients[:10]:
                    await client.close()
                for client in clients[10:]:
                    # Reset, in the middle of a head.
                    client.send(b"GET / HT")
                    await client.writer.drain()
                    option = b"\1\0\0\0\0\0\0\0"
                    sock = client.writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                    client.writer.transport.abort()
                await wait_until(lambda: pair.new.count(Field.CONNECTIONS) == 0)
                # The client's side lives in this process, too, and is not to be judged.
                pair.clients.clear()
                await asyncio.sleep(0)
                left = [
                    each
                    for each in gc.get_objects()
                    if type(each).__name__ in ("HttpConnection", "RequestReader")
                ]
                assert left == []
            finally:
                gc.enable()

    run(scenario())
