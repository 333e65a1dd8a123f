"""Fixtures that every part of the suite may use."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import uvloop


def pytest_collection_finish() -> None:
    """Leave what collecting has made out of every later look of the garbage collector: twelve thousand tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Both event loops, one after the other: `asyncio.Runner(loop_factory=loop_factory)`."""
    return uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop


@pytest.fixture
def run(loop_factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[Any], Any]:
    """Run a coroutine on a fresh loop of each kind."""

    def run_on_loop(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, 20))

    return run_on_loop
