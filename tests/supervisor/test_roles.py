"""A role that does not exist yet lives by the same code as workers: it has a row, two places, and nothing else."""

import pytest

from asgireload.draining import DrainReason
from asgireload.supervisor import events
from asgireload.supervisor.fleet import Child, Slot, Template, Worker
from asgireload.supervisor.lifecycle import TRANSITIONS, Change, State, advance
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.roles import ROLES, WORKER, BegunFrom, Role
from tests.supervisor.world import Code, World

TASK_WORKER = Role(
    "task worker",
    BegunFrom.TEMPLATE,
    has_places=True,
    drains=True,
    has_heartbeat=True,
    log_prefix="t",
)
POOL = 2


def with_pool(code=None, **policy):
    """Return a world in which one worker serves and a pool of task workers is ready."""
    world = World(Policy(workers=1, **policy), lambda generation: code or Code())
    world.run(5)
    slots = world.fleet.slots_of(TASK_WORKER)
    slots += [Slot(index, TASK_WORKER, serves=world.fleet.serving) for index in range(POOL)]
    world.run(0)
    wake(world)
    return world


def wake(world):
    """Have the decisions looked at anew, as after any event."""
    world.submit(events.ScaleRequested(world.fleet.wanted_count))


def pool(world):
    return [child for child in world.fleet.children.values() if child.role == TASK_WORKER]


def states(world):
    return [(child.place, child.state) for child in pool(world)]


def test_it_starts_and_becomes_ready_in_its_own_places():
    world = with_pool()
    assert states(world) == [(0, State.STARTING), (1, State.STARTING)]
    world.run(0.01)
    assert states(world) == [(0, State.BOOTING), (1, State.BOOTING)]
    world.run(5)
    assert states(world) == [(0, State.READY), (1, State.READY)]
    assert world.fleet.ready_count == 1, "only a worker serves"
    assert world.serving == [1]
    assert len({child.child_id for child in world.fleet.children.values()}) == 4


def test_one_that_crashes_is_replaced_from_the_same_template():
    world = with_pool()
    world.run(20)
    first, second = pool(world)
    world.submit(events.ChildExited(first.child_id, "killed by SIGSEGV"))
    world.run(5)
    assert [child.place for child in pool(world)] == [1, 0]
    assert pool(world)[0] is second
    assert all(child.state is State.READY for child in pool(world))
    assert world.fleet.exits["task worker"]["crashed"] == 1
    assert world.fleet.restarts == {"task worker": 1}
    assert world.fleet.exits["worker"]["crashed"] == 0
    assert any("task worker" in line and "killed by SIGSEGV" in line for line in world.errors)


def test_one_that_keeps_crashing_is_replaced_ever_more_slowly():
    world = with_pool(Code(lives=0.1))
    forks = len(world.workers)
    world.run(20)
    assert len(world.workers) - forks < 60


@pytest.mark.parametrize(
    ("policy", "seen"),
    [
        ({"max_requests": 10}, {"requests": 10, "rss_bytes": None}),
        ({"max_rss": 100}, {"requests": 0, "rss_bytes": 200}),
    ],
)
def test_it_is_recycled_one_at_a_time(policy, seen):
    world = with_pool(**policy)
    world.run(5)
    first = pool(world)
    for child in first:
        world.submit(events.ChildObserved(child.child_id, heartbeat_age=0.1, **seen))
    live = [child for child in pool(world) if child not in first]
    assert len(live) == 1
    world.run(30)
    assert not set(first) & set(pool(world))
    assert states(world) == [(0, State.READY), (1, State.READY)] or states(world) == [
        (1, State.READY),
        (0, State.READY),
    ]
    assert world.fleet.exits["task worker"]["clean"] == POOL
    assert [step.targets for step in world.drains] == [(), ()], "it hands no connections over"


def test_one_that_does_not_turn_its_loop_is_killed_and_replaced():
    world = with_pool()
    world.run(5)
    first = pool(world)[0]
    world.submit(events.ChildObserved(first.child_id, 31.0, 0, None))
    assert first.state is State.DYING
    world.run(5)
    assert sorted(child.place for child in pool(world)) == [0, 1]
    assert world.fleet.exits["task worker"]["stalled"] == 1


def test_a_place_that_goes_away_is_drained():
    world = with_pool(Code(drains=3.0))
    world.run(5)
    world.fleet.slots_of(TASK_WORKER)[1].leaving = True
    wake(world)
    leaving = pool(world)[1]
    assert leaving.state is State.DRAINING
    assert leaving.drain_reason is DrainReason.SCALE_DOWN
    world.run(5)
    assert states(world) == [(0, State.READY)]
    assert [slot.index for slot in world.fleet.slots_of(TASK_WORKER)] == [0]


def test_one_that_does_not_drain_in_time_is_killed_at_a_stop():
    world = with_pool(Code(drains=None), drain_timeout=2.0, lifespan_timeout=1.0)
    world.run(5)
    world.submit(events.StopRequested())
    assert all(child.state is State.DRAINING for child in pool(world))
    world.run(10)
    assert world.exit_code is not None
    assert not world.alive
    assert world.fleet.exits["task worker"]["killed"] == POOL


def test_workers_are_not_touched_by_what_happens_in_the_pool():
    world = with_pool()
    world.run(5)
    (worker,) = world.fleet.workers.values()
    world.lowest_accepting = 1
    for child in pool(world):
        world.submit(events.ChildExited(child.child_id, "killed by SIGKILL"))
    world.run(5)
    assert list(world.fleet.workers.values()) == [worker]
    assert world.lowest_accepting == 1


def test_an_error_names_role_state_and_change():
    world = with_pool()
    (template,) = world.fleet.templates.values()
    assert isinstance(template, Template)
    with pytest.raises(ValueError, match="a template that is ready cannot see 'started'"):
        template.advance(Change.STARTED)


@pytest.mark.parametrize("role", [*ROLES, TASK_WORKER], ids=lambda role: role.name)
def test_every_role_lives_by_the_one_table(role):
    for state in State:
        for change in Change:
            if (state, change) in TRANSITIONS:
                assert advance(role, state, change) is TRANSITIONS[state, change]
                continue
            with pytest.raises(ValueError, match=f"a {role.name} that is {state.value}"):
                advance(role, state, change)


def test_rows_agree_with_themselves():
    assert len({role.name for role in ROLES}) == len(ROLES)
    for role in ROLES:
        assert not (role.drains and role.end_timeout), "it drains, or it is let go"
        assert role.has_places == bool(role.log_prefix)
        assert not role.serves or role.has_places
    assert [role for role in ROLES if role.serves] == [WORKER]


def test_children_are_found_by_id_by_kind_and_by_place():
    world = with_pool()
    fleet = world.fleet
    assert set(fleet.children) == {*fleet.workers, *fleet.templates} | {
        child.child_id for child in pool(world)
    }
    (worker,) = fleet.workers.values()
    assert isinstance(worker, Worker)
    assert fleet.children_of(fleet.slots[0]) == [worker]
    place = fleet.slots_of(TASK_WORKER)[0]
    (child,) = fleet.children_of(place)
    assert type(child) is Child
    assert fleet.slot_of(child) is place
    fleet.remove(child)
    assert fleet.children_of(place) == []
    assert child.child_id not in fleet.children
