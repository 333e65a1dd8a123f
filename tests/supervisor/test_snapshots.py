"""What an operator is told of the picture: the truth about workers that hang and code that is broken."""

import pytest

from asgireload.development.supervisor.policy import for_development
from asgireload.ipc.scoreboard import FIELD_COUNT, Field
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.snapshots import Surroundings, take_status
from tests.supervisor.world import GOOD, Code, started

STALLED_AFTER = 15.0


def around(world, beats=None):
    """What a snapshot says beyond the picture; `beats`: heartbeat age by slot, 0.5 s where none is given."""

    def record_of(worker_id):
        values = [0] * FIELD_COUNT
        age = (beats or {}).get(world.fleet.workers[worker_id].place, 0.5)
        values[Field.HEARTBEAT] = int((world.now - age) * 1e9)
        return tuple(values)

    return Surroundings(
        pid=1,
        app="main:app",
        listeners=(),
        accept="shared",
        wall_offset=0.0,
        record_of=record_of,
        resident_bytes=lambda pid: None,
        stalled_after=STALLED_AFTER,
    )


def status_of(world, beats=None):
    return take_status(world.fleet, around(world, beats), world.now)


def test_workers_whose_loops_turn_are_ready():
    status = status_of(started(Policy(workers=2)))
    assert (status.state, status.workers_ready) == ("serving", 2)
    assert [worker.state for worker in status.workers] == ["ready", "ready"]
    assert [worker.heartbeat_age for worker in status.workers] == pytest.approx(
        [0.5, 0.5], abs=0.01
    )
    assert status.broken is None


def test_a_worker_whose_loop_does_not_turn_is_not_ready():
    """It is replaced later; until then nobody is told that it serves."""
    world = started(Policy(workers=2))
    status = status_of(world, {1: 16.0})
    assert (status.state, status.workers_ready) == ("degraded", 1)
    assert [worker.state for worker in status.workers] == ["ready", "stalled"]
    stalled = status.workers[1]
    assert f"; worker {stalled.pid} has not turned its loop for 16 s" in status.message
    assert status_of(world, {1: 14.0}).state == "serving"


def test_broken_code_in_development_is_not_said_to_serve():
    world = started(
        for_development(Policy(workers=1)),
        lambda number: Code(import_fails=True) if number == 2 else GOOD,
    )
    assert status_of(world).state == "serving"
    world.reload()
    world.run(5)
    status = status_of(world)
    assert status.state == "failing"
    assert status.broken is not None
    assert status.broken.stage == "import"
    assert status.message.startswith("every request is answered with an error page: import: ")
    world.reload()
    world.run(5)
    assert status_of(world).state == "serving"


def test_broken_code_is_failing_while_the_next_reload_runs_too():
    world = started(
        for_development(Policy(workers=1)),
        lambda number: Code(import_fails=True) if number == 2 else GOOD,
    )
    world.reload()
    world.run(5)
    world.reload()
    world.run(0.2)
    assert world.fleet.reload is not None
    assert status_of(world).state == "failing"


def test_broken_code_in_production_is_refused_and_the_old_serves():
    world = started(
        Policy(workers=2), lambda number: Code(import_fails=True) if number == 2 else GOOD
    )
    world.reload()
    world.run(5)
    status = status_of(world)
    assert (status.state, status.broken) == ("serving", None)
    assert "generation 2 failed" in status.message
