"""Blocking calls of the server wait for no thread of the application."""

import asyncio
import os
import threading

import pytest

from asgireload.http import aside
from asgireload.http.aside import run_aside


def test_call_is_made_while_every_thread_of_the_default_executor_is_busy(run):
    released = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(None, released.wait) for _ in range(2 * (os.cpu_count() + 4))]
        try:
            assert await asyncio.wait_for(run_aside(loop, pow, 2, 10), 10) == 1024
        finally:
            released.set()
            await asyncio.wait(busy)

    run(main())


def test_call_is_made_where_the_application_has_shut_its_executor_down(run):
    async def main():
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        assert await run_aside(loop, pow, 2, 10) == 1024

    run(main())


def test_exception_of_the_call_is_that_of_the_future(run):
    async def main():
        with pytest.raises(ZeroDivisionError):
            await run_aside(asyncio.get_running_loop(), divmod, 1, 0)

    run(main())


def test_without_a_thread_the_call_is_made_at_once(run, monkeypatch):
    class Refusing:
        def submit(self, *arguments):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(aside, "_executor", Refusing)

    async def main():
        loop = asyncio.get_running_loop()
        future = run_aside(loop, pow, 2, 10)
        assert future.done()
        assert await future == 1024
        with pytest.raises(ZeroDivisionError):
            await run_aside(loop, divmod, 1, 0)

    run(main())
