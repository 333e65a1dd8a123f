"""Threads of the server's own, for calls that would block the event loop.

The default executor of the event loop belongs to the application. Where all of its threads are busy, whatever is
handed to it waits for them: a file would not be sent, and a stop would not begin. An application may also have shut
it down, or put another one in its place.
"""

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

MOST_THREADS = 4
"""They read files that are sent over TLS. More of them would not make one disk faster."""


@functools.cache
def _executor() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(MOST_THREADS, "asgireload")


def run_aside(
    loop: asyncio.AbstractEventLoop,
    call: Callable[_P, _T],
    *arguments: _P.args,
    **named: _P.kwargs,
) -> asyncio.Future[_T]:
    """Return the future result of `call` in a thread that no application can keep busy.

    Where no thread can be started, the call is made at once, in the thread of the caller: it is short, and the
    server cannot go on without its result.
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
