"""Heads that wait for their bodies, over invented time."""

from typing import Any, cast

from asgireload.http.late_heads import MOMENT, LateHeads
from tests.http1.test_stream_leaving import Loop


class Starting:
    def __init__(self, loop: Loop) -> None:
        self.loop, self.flushed_at = loop, -1.0

    def flush_head(self) -> None:
        assert self.flushed_at < 0
        self.flushed_at = self.loop.now


def test_each_waits_for_a_moment_and_for_two_at_most() -> None:
    loop = Loop()
    heads = LateHeads(cast("Any", loop))
    waiting = []
    for _ in range(40):
        starting = Starting(loop)
        waiting.append((loop.now, starting))
        heads.add(starting)
        loop.pass_time(MOMENT / 3)
    loop.pass_time(2 * MOMENT)
    for since, starting in waiting:
        assert MOMENT <= starting.flushed_at - since <= 2 * MOMENT + 1e-9


def test_nothing_is_left_behind() -> None:
    loop = Loop()
    heads = LateHeads(cast("Any", loop))
    heads.add(Starting(loop))
    loop.pass_time(10 * MOMENT)
    assert loop.timers == []
