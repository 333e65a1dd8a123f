"""Who takes over the connections of whom."""

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from asgireload.draining import DrainReason
from asgireload.ipc.messages import SuccessorSpent, WorkerDraining
from asgireload.supervisor import events
from asgireload.supervisor.fleet import Slot, Worker, new_fleet
from asgireload.supervisor.handover_targets import SPREAD, choose_targets, renew_targets
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.roles import WORKER
from tests.supervisor.world import GOOD, Code, World


class Watched(World):
    """Notes every pairing, and that the successor serves at that moment."""

    def __post_init__(self):
        self.pairs = []
        self.alone = []
        super().__post_init__()

    def _do(self, step):
        if isinstance(step, events.DrainChild | events.NameTargets):
            self.pairs += [(step.child_id, number) for number in step.targets]
            for number in step.targets:
                assert number != step.child_id
                assert number in self.alive
                assert number in self.accepting
                assert number not in self.fleet.workers[step.child_id].spent_targets
            if not step.targets:
                self.alone.append(step.child_id)
        super()._do(step)


def watched(workers=4, releases=lambda generation: GOOD, seed=0, **policy):
    world = Watched(Policy(workers=workers, **policy), releases, seed)
    world.run(5)
    world.pairs.clear()
    return world


def slots_of(world, pairs):
    return [(world.workers[old].place, world.workers[new].place) for old, new in pairs]


def generations_of(world, pairs):
    return [(world.workers[old].generation, world.workers[new].generation) for old, new in pairs]


def test_reload_pairs_each_worker_with_the_new_one_of_its_slot():
    world = watched()
    world.reload()
    world.run(30)
    assert slots_of(world, world.pairs) == [(slot, slot) for slot in range(4)]
    assert generations_of(world, world.pairs) == [(1, 2)] * 4


def test_recycle_pairs_within_the_generation():
    world = watched(workers=2, max_requests=100)
    (worker, _) = world.fleet.workers.values()
    world.submit(events.ChildObserved(worker.child_id, 0.0, 100, None))
    world.run(5)
    assert slots_of(world, world.pairs) == [(0, 0)]
    assert generations_of(world, world.pairs) == [(1, 1)]


def test_scale_down_spreads_the_connections_over_those_that_stay():
    world = watched(workers=12)
    world.submit(events.ScaleRequested(4))
    world.run(5)
    counts = Counter(new for _, new in slots_of(world, world.pairs))
    assert {old for old, _ in slots_of(world, world.pairs)} == set(range(4, 12))
    assert counts == {0: 8, 1: 8, 2: 8, 3: 8}


def test_of_many_siblings_some_share_and_not_always_the_same():
    chosen = Counter()
    for seed in range(20):
        world = watched(workers=20, seed=seed)
        world.submit(events.ScaleRequested(19))
        world.run(5)
        assert len(world.pairs) == SPREAD
        chosen.update(new for _, new in slots_of(world, world.pairs))
    assert set(chosen) == set(range(19))


def test_roll_that_is_taken_back_pairs_the_new_worker_with_the_old_code():
    class Flaky:
        def __init__(self):
            self.boots = 0

        def __call__(self, generation):
            return GOOD if generation == 1 else Code(boot_fails=self.boots > 1)

    releases = Flaky()
    world = watched(workers=2, releases=releases, probation=0)
    original = world._fork_child

    def count(step):
        releases.boots += step.generation == 2
        original(step)

    world._fork_child = count
    world.reload()
    world.run(60)
    assert world.serving == [1, 1]
    assert generations_of(world, world.pairs) == [(1, 2), (2, 1)]
    assert slots_of(world, world.pairs) == [(0, 0), (0, 0)]


def test_stop_hands_nothing_over():
    world = watched()
    world.submit(events.StopRequested())
    world.run(5)
    assert len(world.alone) == 4
    assert not world.pairs


def test_only_worker_that_leaves_by_itself_is_paired_when_the_next_is_ready():
    world = watched(workers=1)
    (worker,) = world.fleet.workers.values()
    world.submit(events.ChildSaid(worker.child_id, WorkerDraining()))
    world.run(5)
    ((old, new),) = world.pairs
    assert old == worker.child_id
    assert world.workers[new].place == 0


def test_successor_that_dies_is_replaced_by_the_next_ready_one():
    world = watched(workers=1, releases=lambda generation: Code(drains=18.0), drain_timeout=20.0)
    world.reload()
    while not world.pairs:
        world.run(0.5)
    ((old, new),) = world.pairs
    world.kill_worker(new)
    world.run(5)
    assert [pair[0] for pair in world.pairs[:2]] == [old, old]
    assert world.pairs[1][1] not in (old, new)


def test_new_worker_that_is_recycled_soon_takes_over_where_nobody_else_can():
    """Under load it has had its requests before the roll, and its own successor waits for the reload."""
    world = watched(workers=1, max_requests=100, releases=lambda number: Code(drains=3.0))
    (old,) = world.fleet.workers
    world.reload()
    while (new := max(world.accepting, default=old)) == old:
        world.run(0.1)
    world.submit(events.ChildObserved(new, 0.0, 100, None))
    world.run(20)
    assert world.pairs[0] == (old, new)
    (third,) = world.accepting
    # It passes on what it got, and the first one does not wait for it in vain either.
    assert sorted(world.pairs[1:]) == [(old, third), (new, third)]


def test_worker_that_is_not_recycled_comes_before_one_that_is():
    fleet = new_fleet(Policy(workers=3), random.Random(0), 0.0)
    fleet.slots = [Slot(number, serves=1) for number in range(3)]
    for number, state in enumerate((State.DRAINING, State.READY, State.READY)):
        fleet.add(
            Worker(
                child_id=number,
                place=number,
                role=WORKER,
                generation=1,
                template_id=1,
                state=state,
                asked_at=0.0,
                deadline=None,
            )
        )
    fleet.workers[1].recycle = "age"
    assert choose_targets(fleet, fleet.workers[0]) == (2,)


def test_when_all_that_were_named_take_no_more_the_others_are_asked_once():
    """All are full in the end; then it stays at that, however often it is looked at."""
    world = watched(workers=20, releases=lambda generation: Code(drains=8.0))
    (leaving, *others) = world.fleet.workers
    world.submit(events.ChildSaid(leaving, WorkerDraining()))
    said = 0
    while said < len(world.pairs):
        assert len(world.pairs) % SPREAD == 0 or said >= 16
        _, new = world.pairs[said]
        world.submit(events.ChildSaid(leaving, SuccessorSpent(new)))
        said += 1
    world.run(1)
    asked = [new for old, new in world.pairs if old == leaving]
    assert len(asked) == len(set(asked))
    # The worker that is forked in its place may be asked as well.
    assert set(asked) - {max(world.fleet.workers)} == set(others)


def test_what_a_worker_says_of_others_changes_nothing():
    world = watched(workers=3, releases=lambda generation: Code(drains=8.0))
    leaving = next(iter(world.fleet.workers))
    world.submit(events.ChildSaid(leaving, WorkerDraining()))
    assert len(world.pairs) == 2
    world.submit(events.ChildSaid(leaving, SuccessorSpent(world.pairs[0][1])))
    world.submit(events.ChildSaid(leaving, SuccessorSpent(99)))
    assert len(world.pairs) == 2


@pytest.mark.parametrize("wrong", ["booting", "leaving slot", "not promoted"])
def test_worker_that_does_not_stay_is_no_successor(wrong):
    fleet = new_fleet(Policy(workers=2), random.Random(0), 0.0)
    fleet.slots = [Slot(0, serves=1), Slot(1, serves=1, leaving=wrong == "leaving slot")]

    def worker(number, slot, **fields):
        fields = {"state": State.READY, "generation": 1, **fields}
        made = Worker(
            child_id=number,
            place=slot,
            role=WORKER,
            template_id=1,
            asked_at=0.0,
            deadline=None,
            **fields,
        )
        fleet.add(made)
        return made

    leaving = worker(1, 0, state=State.DRAINING, drain_reason=DrainReason.SCALE_DOWN)
    other = worker(
        2,
        1,
        state=State.BOOTING if wrong == "booting" else State.READY,
        generation=2 if wrong == "not promoted" else 1,
    )
    assert choose_targets(fleet, leaving) == ()
    other.state, other.generation = State.READY, 1
    fleet.slots[1].leaving = False
    assert choose_targets(fleet, leaving) == (2,)
    assert renew_targets(fleet) == [events.NameTargets(1, (2,))]
    assert renew_targets(fleet) == []


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 1000),
    st.lists(
        st.sampled_from(
            ["reload", "scale up", "scale down", "kill", "wait", "stop accepting", "spent"]
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_whatever_happens_successors_serve_when_they_are_named(seed, doings, overlap):
    chance = random.Random(seed)
    codes = [GOOD, Code(boot_fails=True), Code(lives=0.4), Code(drains=5.0)]
    picked = {1: GOOD}

    def releases(generation):
        return picked.setdefault(generation, chance.choice(codes))

    world = watched(workers=3, releases=releases, seed=seed, drain_overlap=overlap, probation=0.1)
    for doing in doings:
        if doing == "reload":
            world.reload()
        elif doing.startswith("scale"):
            change = 2 if doing == "scale up" else -1
            world.submit(events.ScaleRequested(world.fleet.wanted_count + change))
        elif doing == "kill" and world.fleet.workers:
            world.kill_worker(chance.choice(list(world.fleet.workers)))
        elif doing == "spent" and world.pairs:
            old, new = world.pairs[-1]
            if old in world.fleet.workers:
                world.submit(events.ChildSaid(old, SuccessorSpent(new)))
        elif doing == "stop accepting" and world.accepting:
            world.submit(events.ChildSaid(chance.choice(list(world.accepting)), WorkerDraining()))
        world.run(chance.choice([0.01, 0.3, 2.0]))
    world.run(40)
