"""The task that runs an application is an ordinary one, however it is started: for context variables,
cancellation, timeouts and whoever asks for the current task."""

import asyncio
import contextvars
from typing import Any

from tests.http.server import serving
from tests.http.test_exchange import GET, GET_CLOSE, OK, hello

_seen: contextvars.ContextVar[int] = contextvars.ContextVar("_seen")


async def answer(send: Any, text: str) -> None:
    await send(OK)
    await send({"type": "http.response.body", "body": text.encode()})


def test_context_variables_of_one_request_are_not_seen_by_the_next(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        before = _seen.get(0)
        _seen.set(before + 1)
        await asyncio.sleep(0)
        await answer(send, f"{before} {_seen.get()}")

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            for requests in (GET, GET + GET):
                client.send(requests)
                for _ in range(requests.count(b"GET")):
                    assert (await client.read_response())[2] == b"0 1"

    run(main())


def test_the_current_task_is_one_from_the_first_step_to_the_last(run: Any, parser: str) -> None:
    tasks = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first = asyncio.current_task()
        assert first is not None
        assert first in asyncio.all_tasks()
        await asyncio.sleep(0)
        assert asyncio.current_task() is first
        tasks.append(first)
        await answer(send, first.get_name())

    async def main() -> None:
        async with serving(app, parser) as server:
            client = await server.connect()
            names = set()
            for _ in range(2):
                client.send(GET)
                names.add((await client.read_response())[2])
            name = names.pop()
            assert name.startswith(b"http-")
            assert b"127.0.0.1:" in name
            assert not names, "tasks are named after their connection"
        assert tasks[0] is not tasks[1]

    run(main())


def test_a_timeout_that_is_set_in_the_first_step_holds(run: Any, parser: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            await answer(send, "late")

    async def main() -> None:
        async with serving(app, parser) as server:
            assert (await server.exchange(GET_CLOSE)).endswith(b"late")

    run(main())


def test_an_application_that_cancels_itself_in_its_first_step_is_answered_for(
    run: Any, parser: str
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def main() -> None:
        async with serving(app, parser) as server:
            assert (await server.exchange(GET_CLOSE)).startswith(b"HTTP/1.1 500")

    run(main())


def test_a_task_factory_makes_the_tasks(run: Any, parser: str) -> None:
    made = []

    def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
        task = asyncio.Task(coroutine, loop=loop, **options)
        made.append(task)
        return task

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, str(asyncio.current_task() in made))

    async def main() -> None:
        async with serving(app, parser) as server:
            asyncio.get_running_loop().set_task_factory(factory)
            try:
                assert (await server.exchange(GET_CLOSE)).endswith(b"True")
            finally:
                asyncio.get_running_loop().set_task_factory(None)

    run(main())


def test_thousands_of_pipelined_requests_do_not_pile_up_on_the_stack(run: Any, parser: str) -> None:
    async def main() -> None:
        async with serving(hello, parser) as server:
            client = await server.connect()
            client.send(GET * 3000)
            for _ in range(3000):
                assert (await client.read_response())[2] == b"hello"

    run(main())
