"""Begin a coroutine at once where Python's tasks cannot (before 3.12, which has `eager_start`).

Most requests are answered in the first step of their application: it never waits for anything. Those need no
turn of the loop of their own, and no task, as long as nobody asks for it (`lazy_task.py`).
"""

import asyncio
import sys
from asyncio import Task
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, Final
from weakref import getweakrefcount

from asgireload.http.eager_step import EagerStep
from asgireload.http.lazy_task import OVER, LazyTask, drive, lazy_task, make

ORDINARY_AFTER_WAIT: Final = 15
"""An application that waits will do so again, and then what was begun at once has cost more than it saved."""


class Driver:
    """Runs the first step of one coroutine after the other, and all of one that has to wait, which is its last."""

    __slots__ = ("begin", "running", "waits")

    def __init__(self) -> None:
        self.waits: list[bool] = []
        """Not empty: the coroutine was the last one."""
        self.running: Generator[Any, Any, None] = drive(self.waits)
        next(self.running)
        self.begin: Any = self.running.send
        """Runs a coroutine to its first wait, and returns what it waits for, or OVER."""


class EagerStarter:
    """Begins coroutines on one loop, one after the other."""

    __slots__ = (
        "_driver",
        "_enter",
        "_lazy_type",
        "_leave",
        "_loop",
        "_ordinary",
        "_over",
        "_references",
        "_step",
        "_task",
        "_weak_references",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ordinary = 0
        """How many coroutines yet are left to ordinary tasks."""
        self._step = EagerStep(loop)
        self._task: LazyTask | None = None
        """Nobody's, and ready for the next coroutine."""
        self._driver: Driver | None = None
        """Likewise."""
        # Compiled, an attribute is found at once, and a name of another module in a dictionary.
        self._enter: Any = _enter_task
        self._leave: Any = _leave_task
        self._over: Any = OVER
        self._lazy_type: Any = LazyTask
        self._references: Any = sys.getrefcount
        self._weak_references: Any = getweakrefcount

    def begin(
        self, coroutine: Coroutine[Any, Any, None], name: str, context: Context
    ) -> Task[None] | None:
        """Run `coroutine` in `context` to its first wait; return the task that runs the rest, or None when there
        is none.

        Where another task is being run, or a coroutine a little before had to wait, an ordinary task is returned,
        which will run all of it.
        """
        loop = self._loop
        if self._ordinary:
            self._ordinary -= 1
            return Task(coroutine, loop=loop, name=name, context=context)
        task: Any = self._task
        self._task = None
        if type(task) is not self._lazy_type:
            self._step = EagerStep(loop)
            task = lazy_task(self._step)
        step = self._step
        try:
            self._enter(loop, task)
        except RuntimeError:
            self._keep(task, step)
            return Task(coroutine, loop=loop, name=name, context=context)
        driver = self._driver
        if driver is None:
            driver = Driver()
        self._driver = None
        step.context = context
        step.name = name
        step.coroutine = coroutine
        step.running = driver.running
        try:
            # The end comes as a value: an exception for it would cost as much as all the rest.
            awaited: Any = context.run(driver.begin, coroutine)
        except BaseException as error:
            step.is_over = True
            if not isinstance(error, Exception):
                raise
            loop.call_exception_handler(
                {"message": "A request ended with an exception", "exception": error}
            )
        else:
            if awaited is self._over:
                step.is_over = True
                self._driver = driver
            else:
                driver.waits.append(True)
                self._note_wait(step, awaited)
        finally:
            self._leave(loop, task)
        is_lazy = type(task) is self._lazy_type
        if not step.is_over:
            if is_lazy:
                make(task)
            begun: Task[None] = task
            return begun
        if is_lazy:
            references: int = self._references(task)
            weak_references: int = self._weak_references(task)
            if references == _ALONE and weak_references == 1:
                # Nobody but asyncio's own list of tasks, weakly, knows of it.
                self._keep(task, step)
            else:
                make(task)
        return None

    def _keep(self, task: Any, step: EagerStep) -> None:
        """Keep both for the next coroutine."""
        step.running = step.context = step.coroutine = None
        step.is_over = False
        self._task = task
        self._step = step

    def _note_wait(self, step: EagerStep, awaited: Any) -> None:
        self._ordinary = ORDINARY_AFTER_WAIT
        step.awaited = awaited
        if getattr(awaited, "_asyncio_future_blocking", None):
            # Others may wait for it before the next turn, and would take this for theirs.
            awaited._asyncio_future_blocking = False
            step.blocks = True


def _count_alone() -> int:
    """What `sys.getrefcount` says of a task that nobody else has: compiled it is another number."""
    task: LazyTask | None = LazyTask.__new__(LazyTask)
    return sys.getrefcount(task)


_ALONE: Final = _count_alone()
