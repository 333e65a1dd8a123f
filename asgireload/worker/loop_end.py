"""Close a worker's event loop within a time limit: tasks, asynchronous generators and the default executor.

The steps are those of `asyncio.Runner`, which waits without a limit for a thread of the executor and for a task
that ignores its cancellation. The worker has drained and the lifespan is shut down before.
"""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any


def close_loop(loop: asyncio.AbstractEventLoop, until: float) -> None:
    """Cancel all tasks, and wait for them and for the executor's threads, at most until `until`.

    `until` is on the monotonic clock. If a task or a thread of the executor has not ended by then, the loop stays
    open: it does not run any more, and ends with the process.
    """
    has_ended = False
    try:
        has_ended = loop.run_until_complete(_end(loop, until))
    finally:
        if has_ended:
            loop.close()


async def _end(loop: asyncio.AbstractEventLoop, until: float) -> bool:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    has_ended = not tasks
    if tasks:
        done, going_on = await asyncio.wait(tasks, timeout=_left(until))
        _tell_exceptions(loop, done)
        has_ended = not going_on
    for ending in (loop.shutdown_asyncgens(), loop.shutdown_default_executor()):
        has_ended &= await _wait(loop, ending, until)
    return has_ended


async def _wait(
    loop: asyncio.AbstractEventLoop, ending: Coroutine[Any, Any, None], until: float
) -> bool:
    """Run `ending` until `until` at most; return whether it ended.

    It is not cancelled, because Python 3.11 would then block in the loop to join the executor's threads.
    """
    task = loop.create_task(ending)
    done, _ = await asyncio.wait((task,), timeout=_left(until))
    for ended in done:
        ended.result()
    return bool(done)


def _left(until: float) -> float:
    return max(0.0, until - time.monotonic())


def _tell_exceptions(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            loop.call_exception_handler(
                {
                    "message": "unhandled exception in a task that was cancelled at the exit",
                    "exception": error,
                    "task": task,
                }
            )
