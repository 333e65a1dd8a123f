"""A task that is made when somebody looks at it, or when its coroutine has something to wait for.

Before Python 3.12 a task begins its coroutine in the next turn of the loop, and making, registering and freeing
one is a quarter of what a short request costs. So the first step of a coroutine is run at once (`eager_start.py`),
with an object that is the current task by identity and by type, and becomes a task in every other respect when it
is touched: whoever only compares it, or refers to it weakly, sees no difference, and whoever asks it anything asks
a task.

Entering, leaving and registering are what Python's documentation has for other kinds of tasks ("Extending"). Not
compiled: it inherits from asyncio's own class, whose C code does the rest.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asgireload.http.eager_step import EagerStep


OVER: Final = object()
"""What `drive` yields at the end of a coroutine."""


class RequestTask(asyncio.Task[None]):
    """A task whose coroutine was begun before the task was made.

    What it runs is the rest of a generator. Whoever looks (debuggers, profilers, `repr`, `get_stack`) sees the
    coroutine and what that waits for, as with any task.
    """

    __slots__ = ("eager_step",)

    eager_step: "EagerStep"

    def get_coro(self) -> Generator[Any, Any, None] | Coroutine[Any, Any, None]:
        coroutine = _step_of(self).coroutine
        return coroutine if coroutine is not None else asyncio.Task.get_coro(self)

    @property
    def _coro(self) -> Generator[Any, Any, None] | Coroutine[Any, Any, None]:
        return self.get_coro()

    @property
    def _fut_waiter(self) -> Any:
        step = _step_of(self)
        if step.blocks and step.awaited is not None:
            return step.awaited  # until the first turn of the loop
        return _fut_waiter_of(self)


class LazyTask(RequestTask):
    """Allocated, and made (`__init__`) by the first access to any of its attributes.

    One that nobody has looked at is used for the next request. Between two requests it says that it is done:
    `asyncio.all_tasks` asks all of them.
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if type(self) is LazyTask:
            step = _step_of(self)
            if step.running is None:
                if name == "done":
                    return _is_done
                if name == "get_loop":
                    return lambda: step.loop
            make(self)
        return object.__getattribute__(self, name)

    def __await__(self) -> Generator[Any, None, None]:
        make(self)
        return self.__await__()

    __iter__ = __await__


_fut_waiter_of: Callable[[RequestTask], Any] = asyncio.Task._fut_waiter.__get__  # type: ignore[attr-defined]  # likewise
_step_of: Callable[[RequestTask], "EagerStep"] = RequestTask.eager_step.__get__  # type: ignore[attr-defined]  # a slot


def _is_done() -> bool:
    return True


def lazy_task(step: "EagerStep") -> LazyTask:
    """Return a task that is known to `asyncio.all_tasks`, and not made yet."""
    task: LazyTask = LazyTask.__new__(LazyTask)
    task.eager_step = step
    asyncio._register_task(task)
    return task


def make(task: RequestTask) -> None:
    """Make it a task that goes on, in the next turn of the loop, where the first step has ended by then."""
    step = _step_of(task)
    task.__class__ = RequestTask
    rest = _rest(step)
    # Begun, so that a cancellation before the next turn reaches the coroutine, and not only this generator.
    next(rest)
    asyncio.Task.__init__(task, rest, loop=step.loop, name=step.name, context=step.context)


@types.coroutine
def drive(waits: list[bool]) -> Generator[Any, Any, None]:
    """Run the coroutine that is sent, yield OVER at its end, and so on. `waits`: the coroutine is the last one.

    A generator, which yields the end of a coroutine and does not raise it; and one for many coroutines, since
    making one and freeing it costs as much as running it.
    """
    while True:
        coroutine = yield OVER
        yield from coroutine
        if waits:
            return
        del coroutine


@types.coroutine
def _rest(step: "EagerStep") -> Generator[Any, Any, None]:
    """Go on from the end of the first step, as a task runs a coroutine."""
    thrown: BaseException | None = None
    try:
        yield
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001 - thrown on into the coroutine
        thrown = error
    running = step.running
    if step.is_over or running is None:
        return
    awaited, step.awaited = step.awaited, None
    if thrown is not None and step.blocks and awaited.cancel(*thrown.args):
        thrown = None  # comes out of what is waited for, as in Task.cancel()
    if thrown is None and awaited is None:
        yield from running  # had only let others go first, and has
        return
    while True:
        try:
            if thrown is not None:
                last, thrown = thrown, None
                awaited = running.throw(last)
            elif step.blocks:
                awaited._asyncio_future_blocking = True
            step.blocks = False
        except StopIteration:
            return
        try:
            yield awaited
        except GeneratorExit:
            running.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown on into the coroutine
            thrown = error
        else:
            break
    yield from running
