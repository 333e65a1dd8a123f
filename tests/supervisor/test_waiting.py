"""Who waits for old workers, and for what in them: told in time, not too often, and only where somebody waits."""

import pytest

from asgireload.ipc.messages import OpenWork, WorkerWaits
from asgireload.supervisor import events
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.waiting import describe_open, describe_waiting, name_wait
from tests.supervisor.world import Code, World, started

ENDLESS = Code(drains=None)
STREAM = OpenWork("event stream", "GET /events", "10.0.0.1:4711", 21.0)
REPORT = WorkerWaits({"event stream": 2, "request": 1}, (STREAM,))
OPEN = "2 event streams, 1 request: GET /events for 21 s from 10.0.0.1:4711"


def streaming(workers=2, **policy) -> World:
    return started(Policy(workers=workers, **policy), lambda number: ENDLESS)


def report(world: World, waits=REPORT) -> None:
    """Every draining worker says what is open in it."""
    for worker in list(world.fleet.workers.values()):
        if worker.state is State.DRAINING:
            world.submit(events.ChildSaid(worker.child_id, waits))


def told(world: World) -> list[str]:
    return [line for line in world.lines if OPEN[:20] in line]


def test_a_reload_that_replaces_slot_after_slot_says_for_what_it_waits():
    world = streaming(drain_overlap=False)
    world.reload()
    world.run(4)
    waits_for = name_wait(world.fleet, world.fleet.reload, world.now)
    assert waits_for.startswith("1 worker to drain, ")
    report(world)
    assert not told(world)
    world.run(1)
    (line,) = told(world)
    assert line.startswith("Reload 1 waits for 1 worker to drain, ")
    assert line.endswith(f" s at most: [w0] {OPEN}")


def test_a_line_comes_every_ten_seconds_at_most():
    """Workers report as often, each in its own time; more of them are no more lines."""
    world = streaming(workers=8)
    world.submit(events.StopRequested())
    for _ in range(20):
        world.run(0.5)
        report(world)
    lines = told(world)
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("The stop waits for 8 workers to drain, ")
    assert lines[0].count("[w") == 4
    assert lines[0].endswith("and 4 workers more")


def test_a_reload_without_room_says_what_holds_the_old_workers():
    world = streaming()
    for _ in range(3):
        world.reload()
        world.run(3)
    assert describe_waiting(world.fleet, world.now).startswith("Reload 3 waits for 2 of 4 workers")
    report(world)
    world.run(1)
    (line,) = told(world)
    assert line.startswith("Reload 3 waits for 2 of 4 workers of generations 1, 2 to drain, ")


def test_workers_that_nobody_waits_for_are_shown_and_not_logged():
    world = streaming()
    world.reload()
    world.run(3)
    report(world)
    world.run(3)
    assert describe_waiting(world.fleet, world.now) == ""
    assert not told(world)
    draining = [w for w in world.fleet.workers.values() if w.state is State.DRAINING]
    assert len(draining) == 2
    # The time goes on since the report.
    assert {describe_open(worker, world.now) for worker in draining} == {OPEN.replace("21", "24")}


@pytest.mark.parametrize(
    ("waits", "text"),
    [
        (WorkerWaits({"connection": 2}), "2 connections"),
        (WorkerWaits({"lifespan shutdown": 1}), "1 lifespan shutdown"),
        (
            WorkerWaits({"application call behind a finished response": 2}),
            "2 application calls behind a finished response",
        ),
        (
            WorkerWaits({"WebSocket": 1}, (OpenWork("WebSocket", "WebSocket /a\x1b[2J", "", 1.0),)),
            "1 WebSocket: WebSocket /a\\x1b[2J for 1 s",
        ),
    ],
)
def test_what_is_open_is_told_in_words(waits, text):
    world = streaming(workers=1)
    world.reload()
    world.run(3)
    report(world, waits)
    (worker,) = [w for w in world.fleet.workers.values() if w.state is State.DRAINING]
    assert describe_open(worker, world.now) == text
