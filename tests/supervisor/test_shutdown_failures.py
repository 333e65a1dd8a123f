"""Lifespan shutdowns that do not succeed: which of them count for the exit code of a stop, and who is told."""

import pytest

from asgireload.ipc.messages import WorkerDrained
from asgireload.supervisor import events
from asgireload.supervisor.policy import Policy
from tests.supervisor.world import Code, World, started


def begun(*, workers: int = 1, has_lifespan: bool = True) -> World:
    """A world whose workers end only when a test says so."""
    world = started(Policy(workers=workers), lambda number: Code(drains=None))
    for worker in world.fleet.workers.values():
        worker.has_lifespan = has_lifespan
    return world


def leave(world: World, number: int, failure: str = "") -> None:
    world.submit(events.ChildSaid(number, WorkerDrained(0, 0, shutdown_failure=failure)))
    world.submit(events.ChildExited(number, "exit status 0", clean=True))


def said(world: World, text: str) -> list[str]:
    return [line for line in world.lines if text in line]


def test_stop_with_a_failed_shutdown_ends_with_a_code_of_its_own():
    world = begun(workers=3)
    first, second, third = world.fleet.workers
    world.submit(events.StopRequested())
    leave(world, first)
    leave(world, second, "RuntimeError: the pool is stuck")
    assert not said(world, "exit code")
    leave(world, third, "it did not complete within 5 s")
    world.run(1)
    assert world.exit_code == 5
    assert said(world, "the pool is stuck") == [
        f"The lifespan shutdown of worker {10_000 + second} did not succeed: "
        "RuntimeError: the pool is stuck"
    ]
    assert said(world, "exit code") == [
        "The exit code is 5, because the lifespan shutdown of 2 workers did not succeed"
    ]
    assert world.lines[-1] == said(world, "exit code")[0]


def test_clean_stop_says_nothing():
    world = begun()
    (number,) = world.fleet.workers
    world.submit(events.StopRequested())
    leave(world, number)
    world.run(1)
    assert world.exit_code == 0
    assert not said(world, "exit code")
    assert not said(world, "lifespan")


@pytest.mark.parametrize(("has_lifespan", "code"), [(True, 5), (False, 0)])
def test_worker_killed_at_the_deadline_of_a_stop_has_not_completed_its_shutdown(has_lifespan, code):
    world = begun(has_lifespan=has_lifespan)
    world.submit(events.StopRequested())
    world.run(40)
    assert world.exit_code == code
    assert len(said(world, "lifespan shutdown of worker")) == (code == 5)
    assert said(world, "did not leave in time and was killed")


def test_worker_that_dies_before_its_shutdown_is_complete_counts_as_well():
    world = begun()
    (number,) = world.fleet.workers
    world.submit(events.StopRequested())
    world.submit(events.ChildExited(number, "killed by SIGSEGV", clean=False))
    world.run(1)
    assert world.exit_code == 5
    assert said(world, "the worker ended before it was complete (killed by SIGSEGV)")


def test_worker_that_dies_after_its_shutdown_was_complete_does_not_count():
    world = begun()
    (number,) = world.fleet.workers
    world.submit(events.StopRequested())
    world.submit(events.ChildSaid(number, WorkerDrained(0, 0)))
    world.submit(events.ChildExited(number, "killed by SIGSEGV", clean=False))
    world.run(1)
    assert world.exit_code == 0


def test_who_stops_at_once_does_without_the_shutdown():
    world = begun(workers=2)
    first, second = world.fleet.workers
    world.submit(events.StopRequested())
    world.submit(events.StopRequested(at_once=True))
    world.run(1)
    assert {first, second}.isdisjoint(world.fleet.workers)
    assert world.exit_code == 0
    assert world.fleet.shutdown_failures == 0


def test_failure_that_a_worker_told_of_counts_even_if_the_stop_becomes_hasty():
    world = begun()
    (number,) = world.fleet.workers
    world.submit(events.StopRequested())
    world.submit(events.ChildSaid(number, WorkerDrained(0, 0, shutdown_failure="KeyError: 1")))
    world.submit(events.StopRequested(at_once=True))
    world.run(1)
    assert world.exit_code == 5


def test_code_of_a_server_that_gives_up_stays():
    world = begun()
    (number,) = world.fleet.workers
    world.submit(events.StopRequested(exit_code=4))
    leave(world, number, "KeyError: 1")
    world.run(1)
    assert world.exit_code == 4
    assert not said(world, "exit code")


def test_failure_in_a_reload_is_told_and_is_not_the_exit_of_the_server():
    codes = {1: Code(drains=None)}
    world = started(Policy(workers=1), lambda number: codes.get(number, Code()))
    (old,) = world.fleet.workers
    world.reload()
    world.run(3)
    assert old in world.fleet.workers
    leave(world, old, "KeyError: 1")
    world.run(5)
    assert said(world, f"lifespan shutdown of worker {10_000 + old} did not succeed: KeyError: 1")
    (reload,) = [known for known in world.fleet.history if known.reload_id == 1]
    assert reload.shutdown_failures == 1
    assert world.fleet.shutdown_failures == 1
    world.submit(events.StopRequested())
    world.run(5)
    assert world.exit_code == 0


def test_old_worker_that_still_drains_when_the_server_stops_belongs_to_the_stop():
    codes = {1: Code(drains=None)}
    world = started(Policy(workers=1), lambda number: codes.get(number, Code()))
    (old,) = world.fleet.workers
    world.reload()
    world.run(3)
    world.submit(events.StopRequested())
    leave(world, old, "KeyError: 1")
    world.run(5)
    assert world.exit_code == 5


@pytest.mark.parametrize("how", ["recycle", "scale"])
def test_failure_in_a_recycle_or_a_smaller_number_of_workers_is_told(how):
    world = begun(workers=2)
    if how == "recycle":
        number = next(iter(world.fleet.workers))
        world.fleet.workers[number].request_limit = 10
        world.submit(events.ChildObserved(number, 0.1, 100, None))
    else:
        number = list(world.fleet.workers)[-1]
        world.submit(events.ScaleRequested(1))
    world.run(5)
    leave(world, number, "KeyError: 1")
    assert said(
        world, f"lifespan shutdown of worker {10_000 + number} did not succeed: KeyError: 1"
    )
    assert world.fleet.shutdown_failures == 1
    assert world.exit_code is None
