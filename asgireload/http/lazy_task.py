"""A task that is initialized when code accesses an attribute of it, or when its coroutine has to wait.

Before Python 3.12, a task begins its coroutine in the next turn of the loop, and to make, register and free a task
is a quarter of the cost of a short request. So the first step of a coroutine is run at once (`eager_start.py`). Its
current task is an object of the right type and identity, which becomes an initialized task at the first access to
an attribute. Code that only compares the object, or refers to it weakly, sees no difference.

The functions to enter, leave and register a task are those that the documentation of asyncio has for other task
implementations ("Extending"). This module is not compiled: its classes inherit from asyncio.Task, which is in C.
"""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asgireload.http.eager_step import EagerStep


OVER: Final = object()
"""The value that `drive` yields at the end of a coroutine."""


class RequestTask(asyncio.Task[None]):
    """A task whose coroutine was begun before the task was made.

    It runs a generator with the rest of the coroutine. Debuggers, profilers, `repr` and `get_stack` see the
    coroutine and the awaited future, as with any task.
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
    """An allocated task whose `__init__` is called by the first access to any of its attributes (`make`).

    A task without such an access is used for the next request. Between two requests, `done` returns True, because
    `asyncio.all_tasks` calls it for all tasks.
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


_fut_waiter_of: Callable[[RequestTask], Any] = asyncio.Task._fut_waiter.__get__  # type: ignore[attr-defined]  # a C member
_step_of: Callable[[RequestTask], "EagerStep"] = RequestTask.eager_step.__get__  # type: ignore[attr-defined]  # a slot


def _is_done() -> bool:
    return True


def lazy_task(step: "EagerStep") -> LazyTask:
    """Return a task that is registered for `asyncio.all_tasks`, and not initialized."""
    task: LazyTask = LazyTask.__new__(LazyTask)
    task.eager_step = step
    asyncio._register_task(task)
    return task


def make(task: RequestTask) -> None:
    """Initialize `task`. In the next turn of the loop it continues the coroutine from the end of the first step."""
    step = _step_of(task)
    task.__class__ = RequestTask
    rest = _rest(step)
    # The generator is begun, so that a cancellation before the next turn is thrown into the coroutine, too.
    next(rest)
    asyncio.Task.__init__(task, rest, loop=step.loop, name=step.name, context=step.context)


@types.coroutine
def drive(waits: list[bool]) -> Generator[Any, Any, None]:
    """Run each coroutine that is sent, and yield OVER at its end. If `waits` is not empty then, return.

    It is a generator, so that the end of a coroutine is a value and not an exception. One generator runs many
    coroutines, because to make and free a generator costs as much as to run it.
    """
    while True:
        coroutine = yield OVER
        yield from coroutine
        if waits:
            return
        del coroutine


@types.coroutine
def _rest(step: "EagerStep") -> Generator[Any, Any, None]:
    """Run the coroutine from the end of its first step on, as a task does."""
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
        thrown = None  # the awaited future raises it, as in Task.cancel()
    if thrown is None and awaited is None:
        yield from running  # the first step ended with a bare yield, as in asyncio.sleep(0)
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
