"""The end of a worker's loop waits for what ends, and not for what does not."""

import asyncio
import threading
import time

import pytest

from asgireload.worker.loop_end import close_loop

PATIENCE = 20.0


@pytest.fixture
def loop(loop_factory):
    return loop_factory()


def ends(loop, seconds):
    close_loop(loop, time.monotonic() + seconds)
    return loop.is_closed()


def finish(loop):
    """End what was left, so that the test leaves nothing behind."""
    if tasks := asyncio.all_tasks(loop):
        loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


def test_tasks_generators_and_threads_that_end_are_waited_for(loop):
    seen = []
    ending = threading.Event()

    async def numbers():
        try:
            yield 1
        finally:
            seen.append("generator")

    async def waits():
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("task")
            ending.set()

    def works():
        ending.wait(PATIENCE)
        # Needs the loop, which turns as long as it is waited for.
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "thread"), loop)
        seen.append(future.result(PATIENCE))

    async def main():
        generator = numbers()
        await anext(generator)
        task = loop.create_task(waits())
        await asyncio.sleep(0)
        return generator, task

    kept = loop.run_until_complete(main())
    working = loop.run_in_executor(None, works)
    assert ends(loop, PATIENCE)
    assert working.done()
    assert kept[1].cancelled()
    assert sorted(seen) == ["generator", "task", "thread"]


def test_thread_that_does_not_end_is_left(loop):
    released = threading.Event()
    loop.run_in_executor(None, released.wait)
    try:
        assert not ends(loop, 0.1)
    finally:
        released.set()
    finish(loop)


def test_task_that_goes_on_after_it_was_cancelled_is_left(loop):
    released = asyncio.Event()

    async def stubborn():
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue

    task = loop.create_task(stubborn())
    loop.run_until_complete(asyncio.sleep(0))
    assert not ends(loop, 0.1)
    released.set()
    finish(loop)
    assert task.done()


def test_exception_at_the_end_of_a_task_is_told(loop):
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context["exception"]))

    async def fails():
        try:
            await asyncio.sleep(3600)
        finally:
            raise KeyError

    task = loop.create_task(fails())
    loop.run_until_complete(asyncio.sleep(0))
    assert ends(loop, PATIENCE)
    assert task.done()
    assert [type(error) for error in told] == [KeyError]
