"""Threads of the server, for calls that would block the event loop.

The default executor of the event loop belongs to the application. When all of its threads are busy, a call of the
server would wait for them: a file would not be sent, and a stop would not begin. An application may also have shut
the executor down, or replaced it.
"""

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

MOST_THREADS = 4
"""Most threads. They read files that are sent over TLS; more threads would not make one disk faster."""


@functools.cache
def _executor() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(MOST_THREADS, "asgireload")


def run_aside(
    loop: asyncio.AbstractEventLoop,
    call: Callable[_P, _T],
    *arguments: _P.args,
    **named: _P.kwargs,
) -> asyncio.Future[_T]:
    """Run `call` in a thread of the server; return a future of `loop` with its result or exception.

    When no thread can be started, the call is made at once in the thread of the caller: it is short, and the server
    needs its result.
    """
    try:
        running = _executor().submit(call, *arguments, **named)
    except RuntimeError:  # the limit of threads is reached, or the interpreter shuts down
        result = loop.create_future()
        try:
            result.set_result(call(*arguments, **named))
        except Exception as error:  # noqa: BLE001 - passed on, as the executor does
            result.set_exception(error)
        return result
    return asyncio.wrap_future(running, loop=loop)
