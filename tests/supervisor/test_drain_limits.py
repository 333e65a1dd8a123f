"""Old workers beside those that serve: how many, what waits for them, and what becomes of them."""

import pytest

from asgireload.draining import DrainReason
from asgireload.supervisor import events
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.waiting import name_wait
from tests.supervisor.world import GOOD, Code, World, started

ENDLESS = Code(drains=None)


def streaming(workers=4, **policy) -> World:
    """A world in which no worker has drained before its deadline."""
    return started(Policy(workers=workers, **policy), lambda number: ENDLESS)


def record(world: World, reload_id: int):
    return next(known for known in world.fleet.history if known.reload_id == reload_id)


def test_a_reload_over_endless_streams_is_committed_while_all_old_workers_drain():
    world = streaming()
    asked_at = world.now
    world.reload()
    world.run(3)
    assert world.verdicts[-1] == (1, "committed")
    assert record(world, 1).ended_at - asked_at < 3
    assert len(world.draining(DrainReason.RELOAD)) == 4
    assert world.serving == [2] * 4
    assert world.lowest_accepting == 4
    # Each gets the whole drain timeout, from its own beginning.
    assert [step.timeout for step in world.drains] == [20.0] * 4
    world.run(30)
    assert not world.draining(DrainReason.RELOAD)
    assert record(world, 1).killed == 4


def test_a_reload_that_follows_at_once_does_not_wait():
    """As when the last one was wrong."""
    world = streaming()
    for _ in range(2):
        world.reload()
        world.run(3)
    assert world.verdicts[-2:] == [(1, "committed"), (2, "committed")]
    assert len(world.draining(DrainReason.RELOAD)) == 8
    assert not any("waits for" in line for line in world.lines)


def test_a_reload_that_has_no_room_says_what_it_waits_for_and_begins_when_there_is_room():
    world = streaming()
    for _ in range(3):
        world.reload()
        world.run(3)
    said = [line for line in world.lines if "waits for" in line]
    assert len(said) == 1
    assert said[0].startswith("Reload 3 waits for 4 of 8 workers of generations 1, 2 to drain, ")
    assert name_wait(world.fleet, world.fleet.pending, world.now).startswith(
        "4 of 8 workers of generations 1, 2 "
    )
    latest = world.now + float(
        name_wait(world.fleet, world.fleet.pending, world.now).split(" s at")[0].split()[-1]
    )
    while world.fleet.pending is not None:
        world.run(0.1)
    assert world.now <= latest
    assert name_wait(world.fleet, world.fleet.pending, world.now) == ""
    world.run(5)
    assert record(world, 3).waited(world.now) > 10
    assert any("begins (test) after it waited" in line for line in world.lines)
    assert world.verdicts[-1] == (3, "committed")
    assert world.most_replaced == 8


@pytest.mark.parametrize(
    ("policy", "most"),
    [
        ({"drain_overlap": False}, 1),
        ({"drain_generations": 1}, 1),
        ({}, 2),
        ({"drain_generations": 4}, 4),
    ],
    ids=["no overlap", "1", "default", "4"],
)
def test_reloads_every_second_over_endless_streams_keep_few_old_workers(policy, most):
    world = streaming(2, probation=0, surge=2, **policy)
    generations = 0
    for _ in range(60):
        world.reload()
        world.run(1)
        generations = max(generations, len({w.generation for w in world.fleet.workers.values()}))
    assert world.most_replaced == 2 * most
    assert generations == most + 1
    assert world.fleet.exits["worker"]["clean"] == 0
    world.run(120)
    assert world.verdicts[-1][1] == "committed"
    assert world.serving == [world.fleet.serving] * 2


def test_a_single_stream_of_each_of_many_generations_holds_nothing_up():
    """Workers are counted, not generations."""
    world = started(Policy(workers=4))
    for number in range(1, 5):
        # Slot 0 has a stream each time, the other slots have none.
        world.releases = lambda generation: Code(drains=15.0)
        world.reload()
        world.run(1.6)
        world.releases = lambda generation: GOOD
        for worker in world.draining(DrainReason.RELOAD):
            if worker.place:
                world.submit(events.ChildExited(worker.child_id, "exit status 0", clean=True))
        world.run(1)
        assert world.serving == [number + 1] * 4
    assert not any("waits for" in line for line in world.lines)


def test_a_reload_after_crashes_waits_for_fewer():
    """What has crashed does not drain."""
    world = streaming(revert_window=0)
    for _ in range(2):
        world.reload()
        world.run(2.5)
    assert len(world.draining(DrainReason.RELOAD)) == 8
    world.releases = lambda generation: Code(boot_fails=generation < 4, drains=None)
    for worker in list(world.fleet.workers.values()):
        if worker.state is State.READY:
            world.kill_worker(worker.child_id)
    world.run(1)
    assert world.serving == []
    world.reload()
    world.run(3)
    assert world.serving == [4] * 4


@pytest.mark.parametrize("overlap", [False, True])
def test_old_code_returns_at_once_beside_workers_that_drain(overlap):
    """A roll that fails is taken back while workers of both generations still have streams."""
    world = started(Policy(workers=4, drain_overlap=overlap), lambda number: ENDLESS)

    def forked(generation):
        return sum(step.generation == generation for step in world.workers.values())

    world.releases = lambda number: Code(boot_fails=number == 2 and forked(2) > 2, drains=None)
    world.reload()
    failed_at = None
    while not world.fleet.history or world.fleet.history[0].reload_id != 1:
        world.run(0.1)
        if failed_at is None and world.fleet.reload and world.fleet.reload.failure:
            failed_at = world.now
    assert world.verdicts[-1] == (1, "failed")
    assert failed_at is None or world.now - failed_at < 1
    assert world.serving == [1] * 4
    assert world.lowest_accepting == 4
    world.releases = lambda number: GOOD
    world.reload()
    world.run(60)
    assert world.verdicts[-1] == (2, "committed")


def test_crashing_code_is_taken_back_while_the_workers_before_it_still_drain():
    code = {1: ENDLESS, 2: Code(lives=2.0, drains=None)}
    world = started(Policy(workers=4), lambda number: code.get(number, GOOD))
    world.reload()
    world.run(6)
    assert world.verdicts[-1] == (1, "reverted")
    assert world.serving == [1] * 4
    assert record(world, 1).uniform
    # The fix is not held up for longer than the drain of what has no room.
    world.reload()
    world.run(28)
    assert world.verdicts[-1] == (2, "committed")
    assert world.serving == [3] * 4


def test_scaling_down_while_old_workers_drain():
    world = streaming()
    world.reload()
    world.run(3)
    world.submit(events.ScaleRequested(1))
    world.run(1)
    assert world.serving == [2]
    assert len(world.fleet.slots) == 4, "a slot goes when its last worker has left"
    world.submit(events.ScaleRequested(3))
    world.run(1)
    assert world.serving == [2] * 3
    world.run(40)
    assert len(world.fleet.slots) == len(world.fleet.workers) == 3


def test_a_worker_that_dies_while_it_drains_is_counted_and_not_replaced():
    world = streaming()
    world.reload()
    world.run(3)
    forks = len(world.workers)
    victim = world.draining(DrainReason.RELOAD)[0]
    world.kill_worker(victim.child_id)
    world.run(1)
    assert len(world.workers) == forks
    assert world.fleet.restarts["worker"] == 0
    reload = record(world, 1)
    assert (reload.crashed, reload.drained, reload.killed) == (1, 0, 0)
    last = [step for step in reload.steps if step.slot == victim.place][-1]
    assert (last.name, last.generation, last.detail) == ("crashed", 1, "killed by SIGKILL")
    assert any("ended while it drained: killed by SIGKILL" in line for line in world.lines)


def test_a_stop_while_old_workers_drain_ends_everything_in_time():
    world = streaming()
    world.reload()
    world.run(3)
    world.submit(events.StopRequested())
    world.run(29)
    assert world.exit_code == 0


def recycle_all(world: World) -> None:
    for worker in list(world.fleet.workers.values()):
        if worker.state is State.READY:
            world.submit(events.ChildObserved(worker.child_id, 0.1, 1000, None))


@pytest.mark.parametrize(
    ("workers", "overlap", "most"),
    [(1, True, 1), (2, True, 1), (4, True, 2), (8, True, 4), (8, False, 1)],
)
def test_recycling_goes_on_beside_at_most_half_of_the_workers_that_drain(workers, overlap, most):
    world = streaming(workers, max_requests=1000, drain_overlap=overlap)
    recycle_all(world)
    world.run(5)
    assert len(world.draining(DrainReason.RECYCLE)) == most
    assert world.most_booting == 1
    assert world.most_workers <= workers + most + 1
    assert world.lowest_accepting == workers
    world.run(30 * workers)
    assert world.most_workers <= workers + most + 1
    assert not any(worker.recycle for worker in world.fleet.workers.values())


def test_workers_that_a_reload_has_replaced_do_not_hold_up_recycling():
    world = streaming(4, max_requests=1000)
    world.reload()
    world.run(3)
    recycle_all(world)
    world.run(3)
    assert len(world.draining(DrainReason.RELOAD)) == 4
    assert len(world.draining(DrainReason.RECYCLE)) == 2


def test_a_recycled_worker_that_drains_does_not_hold_up_a_reload():
    world = streaming(4, max_requests=1000)
    recycle_all(world)
    world.run(3)
    world.reload()
    world.run(3)
    assert world.verdicts[-1] == (1, "committed")
    assert world.serving == [2] * 4
