"""The time of one event loop, as responses tell it."""

import asyncio
from typing import Any

from asgireload.http.clock import Clock


def test_the_date_is_formatted_once_a_second(run: Any) -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop())
        line = clock.date_line(0)
        assert line.startswith(b"date: ")
        assert line.endswith(b" GMT\r\n")
        assert len(line) == len(b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        assert clock.date_line(1) is line
        assert clock.date_line(2_000_000_000) is not line

    run(main())


def test_the_date_can_be_switched_off(run: Any) -> None:
    async def main() -> None:
        clock = Clock(asyncio.get_running_loop(), has_date=False)
        assert clock.date_line(0) == clock.date_line(1 << 62) == b""

    run(main())
