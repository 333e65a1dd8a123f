"""The value that connections share, without connections."""

import asyncio
from typing import Any

from asgireload.http.context import HttpSettings, ServingContext
from asgireload.http1.parsers import choose_parser
from asgireload.ipc.scoreboard import Field


async def app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError


class FakeConnection:
    def begin_drain(self) -> None: ...

    def cut(self) -> None: ...

    def abort(self) -> None: ...


def test_the_date_is_formatted_once_a_second(run: Any) -> None:
    async def main() -> None:
        context = ServingContext(app, HttpSettings(), asyncio.get_running_loop())
        line = context.date_line(0)
        assert line.startswith(b"date: ")
        assert line.endswith(b" GMT\r\n")
        assert len(line) == len(b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        assert context.date_line(1) is line
        assert context.date_line(2_000_000_000) is not line

    run(main())


def test_the_date_can_be_switched_off(run: Any) -> None:
    async def main() -> None:
        settings = HttpSettings(date_header=False)
        context = ServingContext(app, settings, asyncio.get_running_loop())
        assert context.date_line(0) == context.date_line(1 << 62) == b""

    run(main())


def test_idle_means_no_connection_and_no_task(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = ServingContext(app, HttpSettings(), loop)
        await context.wait_idle()
        first, second = FakeConnection(), FakeConnection()
        context.register(first)
        waiting = [loop.create_task(context.wait_idle()) for _ in range(2)]
        context.replace(first, second)
        assert context.record.values[Field.CONNECTIONS] == 1
        task: asyncio.Task[None] = loop.create_task(asyncio.sleep(60))
        context.add_background(task)
        context.unregister(second)
        context.unregister(second)
        assert context.record.values[Field.CONNECTIONS] == 0
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiting)
        waiting[0].cancel()
        assert context.cancel_background() == 1
        await asyncio.wait_for(waiting[1], 5)
        assert context.is_idle

    run(main())


def test_auto_takes_our_own_parser() -> None:
    assert choose_parser("auto") == choose_parser("builtin") == "builtin"
    assert choose_parser("h11") == "h11"
    assert choose_parser("httptools") == "httptools"
