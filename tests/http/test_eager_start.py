"""What is begun at once runs as in an ordinary task: for whoever asks for the task, waits, cancels or is cancelled.

Python 3.12 and later begin tasks at once themselves; there, ordinary tasks are begun by `eager_start`, and what is
looked at here is not used.
"""

import asyncio
import contextvars
import gc
import inspect
import io
import re
import sys
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from asgireload.http.eager_start import ORDINARY_AFTER_WAIT, EagerStarter
from asgireload.http.lazy_task import LazyTask, RequestTask

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="Python begins tasks at once itself since 3.12"
)

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="outside")

Way = Callable[[Any], Awaitable[Any]]


async def begin(coroutine: Any, steps: EagerStarter | None = None) -> asyncio.Task[None] | None:
    """Begin a coroutine from a callback of the loop, as a connection does."""
    loop = asyncio.get_running_loop()
    begun: asyncio.Future[asyncio.Task[None] | None] = loop.create_future()
    steps = steps or EagerStarter(loop)

    def call() -> None:
        begun.set_result(steps.begin(coroutine, "the name", contextvars.copy_context()))

    loop.call_soon(call)
    return await begun


Log = list[Any]


async def returns(log: Log) -> None:
    log.append("done")


async def lets_others_go_first(log: Log) -> None:
    for number in range(3):
        await asyncio.sleep(0)
        log.append(number)


async def sleeps(log: Log) -> None:
    await asyncio.sleep(0.001)
    log.append("slept")
    await asyncio.sleep(0.001)
    log.append("slept")


async def waits_for_what_is_there(log: Log) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result("value")
    log.append(await future)


async def waits_for_what_comes_in_this_turn(log: Log) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, "value")
    log.append(await future)


async def waits_for_an_error(log: Log) -> None:
    loop = asyncio.get_running_loop()
    for delay in (0, 0.001):
        future = loop.create_future()
        loop.call_later(delay, future.set_exception, KeyError("no"))
        try:
            await future
        except KeyError as error:
            log.append(repr(error))
    await asyncio.sleep(0)
    log.append("over")


async def waits_for_what_others_wait_for(log: Log) -> None:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    async def other() -> None:
        log.append(("other", await future))

    others = [loop.create_task(other()) for _ in range(2)]
    loop.call_later(0.002, future.set_result, 1)
    log.append(("first", await future))
    await asyncio.gather(*others)
    log.sort()


async def has_a_timeout(log: Log) -> None:
    for delay in (0, -1, 0.001):
        try:
            async with asyncio.timeout(delay):
                await asyncio.sleep(1)
        except TimeoutError:
            log.append(delay)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def has_a_timeout_around_another_task(log: Log) -> None:
    inner = asyncio.create_task(asyncio.sleep(1))
    try:
        async with asyncio.timeout(0):
            await inner
    except TimeoutError:
        log.append(inner.cancelled())


async def waits_for(log: Log) -> None:
    try:
        await asyncio.wait_for(asyncio.sleep(1), 0.001)
    except TimeoutError:
        log.append("late")
    log.append(await asyncio.wait_for(asyncio.sleep(0, "value"), 1))


async def gathers(log: Log) -> None:
    log.append(await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0.001, 2)))
    log.append(await asyncio.shield(asyncio.sleep(0, 3)))


async def has_a_group_that_fails(log: Log) -> None:
    async def fails() -> None:
        raise ValueError("in the group")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await asyncio.sleep(1)
    except* ValueError as errors:
        log.append(str(errors.exceptions))
    await asyncio.sleep(0)


async def cancels_itself(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")
    log.append("until here")
    try:
        await asyncio.sleep(0.001)
    except asyncio.CancelledError as error:
        log.append(error.args)
    log.append(task.uncancel())
    await asyncio.sleep(0)
    log.append("lives")


async def cancels_itself_and_ends(log: Log) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    log.append("ended all the same")


async def has_scopes_of_anyio(log: Log) -> None:
    with anyio.move_on_after(0) as scope:
        await anyio.sleep(1)
    log.append(scope.cancelled_caught)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep(1)
    log.append(scope.cancelled_caught)
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
    log.append(await anyio.to_thread.run_sync(lambda: "from a thread"))
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.001):
            await anyio.sleep_forever()


async def has_events_and_queues(log: Log) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_soon(queue.put_nowait, 1)
    loop.call_later(0.001, event.set)
    log.append(await queue.get())
    log.append(await event.wait())
    async with asyncio.Lock():
        log.append("locked")


async def awaits_what_is_no_future(log: Log) -> None:
    class Wrong:
        def __await__(self) -> Any:
            yield "no future"

    try:
        await Wrong()
    except RuntimeError as error:
        log.append("bad yield" in str(error))
    await asyncio.sleep(0)
    log.append("goes on")


async def sets_variables(log: Log) -> None:
    log.append(_variable.get())
    _variable.set("first")
    await asyncio.sleep(0)
    log.append(_variable.get())
    _variable.set("second")
    await asyncio.sleep(0.001)
    log.append(_variable.get())


SCENARIOS = [
    returns,
    lets_others_go_first,
    sleeps,
    waits_for_what_is_there,
    waits_for_what_comes_in_this_turn,
    waits_for_an_error,
    waits_for_what_others_wait_for,
    has_a_timeout,
    has_a_timeout_around_another_task,
    waits_for,
    gathers,
    has_a_group_that_fails,
    cancels_itself,
    cancels_itself_and_ends,
    has_scopes_of_anyio,
    has_events_and_queues,
    awaits_what_is_no_future,
    sets_variables,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_runs_as_in_an_ordinary_task(run: Any, scenario: Any) -> None:
    async def main() -> None:
        expected: Log = []
        ordinary = asyncio.create_task(scenario(expected))
        await asyncio.wait([ordinary])
        seen: Log = []
        task = await begin(scenario(seen))
        if task is not None:
            await asyncio.wait([task])
            assert task.cancelled() == ordinary.cancelled()
        assert seen == expected
        assert seen
        assert _variable.get() == "outside"

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("waits", [lambda: asyncio.sleep(0), lambda: asyncio.sleep(1)])
def test_it_is_cancelled_in_any_turn_and_so_is_what_it_waits_for(
    run: Any, turns: int, waits: Any
) -> None:
    async def main() -> None:
        async def cancelled(way: Way) -> tuple[Any, ...]:
            seen: Log = []
            inner = asyncio.create_task(asyncio.sleep(1))

            async def coroutine() -> None:
                try:
                    await waits()
                    await inner
                except asyncio.CancelledError as error:
                    seen.append(error.args)
                    await asyncio.sleep(0)
                    seen.append("cleaned up")
                    raise

            task = await way(coroutine())
            for _ in range(turns):
                await asyncio.sleep(0)
            assert task.cancel("enough")
            assert task.cancelling() == 1
            await asyncio.wait([task])
            was_cancelled = inner.cancelled()
            inner.cancel()
            return seen, task.cancelled(), was_cancelled

        async def ordinarily(coroutine: Any) -> Any:
            task = asyncio.create_task(coroutine)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return task

        seen, is_cancelled, _ = await cancelled(begin)
        assert is_cancelled
        assert seen == [("enough",), "cleaned up"]
        assert (await cancelled(ordinarily))[:2] == (seen, is_cancelled)

    run(main())


def test_the_first_step_is_over_when_it_was_begun(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen: Log = []
        begun: Log = []

        def call() -> None:
            steps = EagerStarter(loop)
            for _ in range(3):
                assert steps.begin(returns(seen), "name", contextvars.copy_context()) is None
            begun.append(list(seen))

        loop.call_soon(call)
        await asyncio.sleep(0)
        assert begun == [["done"] * 3]

    run(main())


def test_the_current_task_is_one_and_known_from_the_first_step_to_the_last(run: Any) -> None:
    async def main() -> None:
        seen: Log = []

        async def coroutine() -> None:
            task = asyncio.current_task()
            seen.append(task)
            assert isinstance(task, asyncio.Task)
            assert task in asyncio.all_tasks()
            assert task.get_name() == "the name"
            assert not task.done()
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
            assert task in asyncio.all_tasks()
            with pytest.raises(asyncio.InvalidStateError):
                task.result()

        task = await begin(coroutine())
        assert task is seen[0]
        assert type(task) is RequestTask
        await task
        assert task.result() is None
        assert task not in asyncio.all_tasks()

    run(main())


def test_a_task_that_somebody_has_kept_is_done_and_calls_back(run: Any) -> None:
    async def main() -> None:
        kept: Log = []

        async def keeps() -> None:
            kept.append(asyncio.current_task())

        async def asks_to_be_called() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.add_done_callback(kept.append)

        steps = EagerStarter(asyncio.get_running_loop())
        for coroutine in (keeps, asks_to_be_called):
            assert await begin(coroutine(), steps) is None
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert len(kept) == 2
        assert kept[0] is not kept[1]
        for task in kept:
            assert task.done()
            assert task.result() is None
            assert await task is None

    run(main())


def test_a_task_that_is_referred_to_weakly_is_not_used_again(run: Any) -> None:
    """What an application has noted of one request must not be found by the next."""

    async def main() -> None:
        notes: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        found: Log = []

        async def notes_it() -> None:
            task = asyncio.current_task()
            found.append(notes.get(task))
            notes[task] = "noted"

        steps = EagerStarter(asyncio.get_running_loop())
        for _ in range(3):
            assert await begin(notes_it(), steps) is None
            for _ in range(3):
                await asyncio.sleep(0)
        assert found == [None, None, None]
        gc.collect()
        assert not notes

    run(main())


def test_one_that_nobody_has_is_used_again_and_is_done_meanwhile(run: Any) -> None:
    async def main() -> None:
        steps = EagerStarter(asyncio.get_running_loop())
        seen: Log = []
        await begin(returns(seen), steps)
        (idle,) = [task for task in gc.get_objects() if type(task) is LazyTask]
        others = asyncio.all_tasks()
        assert not any(task is idle for task in others)
        del others
        identity = id(idle)
        del idle
        await begin(returns(seen), steps)
        assert [id(task) for task in gc.get_objects() if type(task) is LazyTask] == [identity]

    run(main())


def test_one_that_is_looked_at_between_two_requests_is_a_task_that_has_ended(run: Any) -> None:
    async def main() -> None:
        steps = EagerStarter(asyncio.get_running_loop())
        seen: Log = []
        await begin(returns(seen), steps)
        (idle,) = [task for task in gc.get_objects() if type(task) is LazyTask]
        assert "RequestTask" in repr(idle)
        idle.get_coro()
        await idle
        await begin(returns(seen), steps)
        assert seen == ["done", "done"]

    run(main())


def test_an_application_that_waits_is_left_to_ordinary_tasks_for_a_while(run: Any) -> None:
    async def main() -> None:
        steps = EagerStarter(asyncio.get_running_loop())
        kinds = []
        for _ in range(2 * ORDINARY_AFTER_WAIT + 2):
            task = await begin(asyncio.sleep(0), steps)
            assert task is not None
            kinds.append(type(task) is asyncio.Task)
            await task
        assert kinds == ([False] + [True] * ORDINARY_AFTER_WAIT) * 2

    run(main())


def test_within_another_task_an_ordinary_one_is_made(run: Any) -> None:
    async def main() -> None:
        steps = EagerStarter(asyncio.get_running_loop())
        seen: Log = []
        task = steps.begin(returns(seen), "name", contextvars.copy_context())
        assert type(task) is asyncio.Task
        assert seen == []
        await task
        assert seen == ["done"]

    run(main())


def test_an_exception_is_told_to_the_loop(run: Any) -> None:
    async def main() -> None:
        told: Log = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, what: told.append(what["exception"])
        )

        async def fails() -> None:
            raise ValueError("at once")

        steps = EagerStarter(asyncio.get_running_loop())
        log: Log = []
        for _ in range(2):
            assert await begin(fails(), steps) is None
            assert await begin(returns(log), steps) is None
        assert [str(error) for error in told] == ["at once"] * 2
        assert log == ["done"] * 2
        assert asyncio.current_task() is not None

    run(main())


def test_nothing_is_left_of_what_was_begun(run: Any) -> None:
    class Thing:
        pass

    async def main() -> None:
        steps = EagerStarter(asyncio.get_running_loop())
        things = []

        async def has(thing: Thing, *, waits: bool) -> None:
            things.append(weakref.ref(thing))
            if waits:
                await asyncio.sleep(0)

        gc.disable()
        try:
            for waits in (False, True, False):
                task = await begin(has(Thing(), waits=waits), steps)
                if task is not None:
                    await task
                del task
            await asyncio.sleep(0)
            assert [thing() for thing in things] == [None] * 3
        finally:
            gc.enable()

    run(main())


def look(task: Any) -> dict[str, Any]:
    """What debuggers, profilers and error reporters ask a task."""
    coroutine = task.get_coro()
    stack = task.get_stack()
    printed = io.StringIO()
    task.print_stack(file=printed)
    waits_for = task._fut_waiter
    return {
        "type": type(coroutine),
        "is one": inspect.iscoroutine(coroutine),
        "asyncio's": asyncio.iscoroutine(coroutine),
        "state": inspect.getcoroutinestate(coroutine),
        "names": (coroutine.__name__, coroutine.__qualname__),
        "code": coroutine.cr_code,
        "has frame": coroutine.cr_frame is not None,
        "line": coroutine.cr_frame and coroutine.cr_frame.f_lineno,
        "waits in": type(coroutine.cr_await),
        "is the same": task._coro is coroutine,
        "waits for": waits_for if waits_for is None else type(waits_for),
        "innermost": stack and (stack[-1].f_code, stack[-1].f_lineno),
        "is alone": len(stack) == 1,
        "limited": len(task.get_stack(limit=1)),
        "printed": printed.getvalue().splitlines()[-2:] if stack else bool(printed.getvalue()),
        "repr": without_addresses(repr(task)),
        "done": task.done(),
        "cancelling": task.cancelling(),
        "name": task.get_name(),
    }


def without_addresses(text: str) -> str:
    text = re.sub(r"0x[0-9a-f]+", "0x", text.replace("<RequestTask ", "<Task "))
    # Until its first turn nobody has asked to be called by what is waited for.
    return re.sub(r" cb=\[[^]]*\]", "", text)


@pytest.mark.parametrize("looks_at_once", [True, False])
def test_who_looks_at_the_task_sees_the_coroutine_at_any_moment(
    run: Any, looks_at_once: bool
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def inner(future: asyncio.Future[None]) -> None:
            await future

        async def application(seen: Log) -> None:
            task = asyncio.current_task()
            if looks_at_once:
                seen.append(("first step", look(task)))
            loop.call_soon(lambda: seen.append(("before its first turn", look(task))))
            future: asyncio.Future[None] = loop.create_future()
            loop.call_later(0.01, lambda: seen.append(("waits", look(task))))
            loop.call_later(0.011, future.set_result, None)
            await inner(future)
            seen.append(("has waited", look(task)))
            loop.call_soon(lambda: seen.append(("lets others go first", look(task))))
            await asyncio.sleep(0)
            seen.append(("has let others go first", look(task)))

        ours: Log = []
        begun = await begin(application(ours))
        assert type(begun) is RequestTask
        await begun
        ours.append(("done", look(begun)))
        expected: Log = []
        ordinary = loop.create_task(application(expected), name="the name")
        await ordinary
        expected.append(("done", look(ordinary)))
        assert [moment for moment, _ in ours] == [moment for moment, _ in expected]
        assert len(ours) == 6 + looks_at_once
        for (moment, seen), (_, wanted) in zip(ours, expected, strict=True):
            assert seen == wanted, moment
            assert seen["names"][0] == "application"

    run(main())


def test_who_looks_at_a_task_that_lets_others_go_first_sees_the_coroutine(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def application(seen: Log) -> None:
            task = asyncio.current_task()
            loop.call_soon(lambda: seen.append(look(task)))
            await asyncio.sleep(0)

        ours: Log = []
        expected: Log = []
        begun = await begin(application(ours))
        assert type(begun) is RequestTask
        await begun
        await loop.create_task(application(expected), name="the name")
        assert ours == expected

    run(main())


def test_who_looks_at_a_task_that_never_waits_sees_the_coroutine(run: Any) -> None:
    async def main() -> None:
        kept: Log = []

        async def application() -> None:
            task = asyncio.current_task()
            assert task is not None
            coroutine = task.get_coro()
            assert inspect.getcoroutinestate(coroutine) == inspect.CORO_RUNNING  # type: ignore[arg-type]
            kept.append((task, coroutine))

        coroutine = application()
        assert await begin(coroutine) is None
        ((task, seen),) = kept
        assert seen is coroutine
        await task
        assert task.get_coro() is coroutine
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    run(main())


def test_what_a_cancelled_task_shows_is_what_an_ordinary_one_does(run: Any) -> None:
    async def main() -> None:
        async def application(seen: Log) -> None:
            task = asyncio.current_task()
            try:
                await asyncio.sleep(1)
            finally:
                seen.append(look(task))

        ours: Log = []
        expected: Log = []
        begun = await begin(application(ours))
        ordinary = asyncio.create_task(application(expected), name="the name")
        await asyncio.sleep(0)
        for task, seen in ((begun, ours), (ordinary, expected)):
            assert task is not None
            task.cancel()
            seen.append(look(task))
            await asyncio.wait([task])
            seen.append(look(task))
        assert ours == expected

    run(main())
