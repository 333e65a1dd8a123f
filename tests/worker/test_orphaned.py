"""SIGTERM to a worker, whatever its loop does at that moment."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from asgireload.config import Config
from asgireload.worker.orphaned import Orphaned


@pytest.fixture
def orphaned() -> Iterator[Orphaned]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    orphaned = Orphaned(Config(app="app:app", drain_timeout=100, lifespan_timeout=100))
    signal.signal(signal.SIGTERM, orphaned.on_signal)
    try:
        yield orphaned
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def test_before_the_loop_runs_it_is_only_noted(orphaned: Orphaned) -> None:
    signal.raise_signal(signal.SIGTERM)
    assert orphaned.seen


def test_while_the_loop_runs_the_loop_is_told_once(orphaned: Orphaned) -> None:
    told: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with orphaned.telling(loop, lambda: told.append(1)):
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
                await asyncio.sleep(0)

    asyncio.run(main())
    assert told == [1]


def test_loop_is_told_of_a_signal_that_came_before_it_ran(orphaned: Orphaned) -> None:
    signal.raise_signal(signal.SIGTERM)
    told: list[int] = []

    async def main() -> None:
        with orphaned.telling(asyncio.get_running_loop(), lambda: told.append(1)):
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)

    asyncio.run(main())
    assert told == [1]


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_after_the_loop_has_ended_nobody_is_told(orphaned: Orphaned, how: str) -> None:
    told: list[int] = []

    async def main() -> None:
        with orphaned.telling(asyncio.get_running_loop(), lambda: told.append(1)):
            if how == "raises":
                raise KeyError

    try:
        asyncio.run(main())
    except KeyError:
        assert how == "raises"
    signal.raise_signal(signal.SIGTERM)
    assert orphaned.seen
    assert not told


def test_second_signal_does_not_put_off_the_end(orphaned: Orphaned) -> None:
    signal.raise_signal(signal.SIGTERM)
    first = signal.alarm(50)
    assert 200 < first <= 210
    signal.raise_signal(signal.SIGTERM)
    assert signal.alarm(0) <= 50
