"""What is open in one server, without connections."""

import asyncio
from typing import Any

from asgireload.http.live import Live
from asgireload.http.settings import HttpSettings
from asgireload.ipc.scoreboard import Field


class FakeConnection:
    def begin_drain(self) -> None: ...

    def cut(self) -> None: ...

    def abort(self) -> None: ...


def test_idle_means_no_connection_and_no_task(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        live = Live(loop, HttpSettings())
        await live.wait_idle()
        first, second = FakeConnection(), FakeConnection()
        live.register(first)
        waiting = [loop.create_task(live.wait_idle()) for _ in range(2)]
        live.replace(first, second)
        assert live.record.values[Field.CONNECTIONS] == 1
        task: asyncio.Task[None] = loop.create_task(asyncio.sleep(60))
        live.add_background(task)
        live.unregister(second)
        live.unregister(second)
        assert live.record.values[Field.CONNECTIONS] == 0
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiting)
        waiting[0].cancel()
        assert live.cancel_background() == 1
        await asyncio.wait_for(waiting[1], 5)
        assert live.is_idle

    run(main())
