"""Each plan as a table, and a stage that does not exist yet, played out with invented children and time."""

from pathlib import Path

import pytest

from asgireload.development.supervisor.policy import for_development
from asgireload.supervisor import events
from asgireload.supervisor.figures import Traffic
from asgireload.supervisor.gates import (
    PASSED,
    AliveGate,
    Gate,
    GateOutcome,
    GateResult,
    HealthyGate,
    LoadedGate,
    ReadyGate,
    ReturnedGate,
)
from asgireload.supervisor.plans import (
    ALL_PLACES,
    FIRST_PLACE,
    NO_PLACES,
    FailureAction,
    OnFailure,
    PlaceCount,
    Plans,
    ReloadPhase,
    Stage,
    make_plans,
)
from asgireload.supervisor.policy import BROKEN_MOMENT, Policy
from asgireload.supervisor.rollout import reads_traffic
from tests.supervisor.world import GOOD, Code, World

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"
POLICY = Policy(workers=4, surge=2, probation=3.0, boot_timeout=60.0)
DEVELOPMENT = for_development(Policy(workers=4))
RESTORE, SHOW = FailureAction.RESTORE, FailureAction.SHOW
GO_ON, HOLD = FailureAction.GO_ON, FailureAction.HOLD


def table(plan):
    """Return a row for each stage: name, slots, gate, time, surge, whether it promotes, and what follows a start, a
    death and the loss of the template that fail."""
    return [
        (
            stage.name,
            stage.places,
            stage.gate,
            stage.time,
            stage.surge,
            stage.promotes,
            (stage.on_failure.start, stage.on_failure.death, stage.on_failure.template),
        )
        for stage in plan
    ]


def test_first_load():
    assert table(make_plans(POLICY).first) == [
        ("prepare", NO_PLACES, LoadedGate(), None, None, False, (RESTORE, GO_ON, GO_ON)),
        ("start", ALL_PLACES, ReadyGate(), None, None, True, (RESTORE, GO_ON, GO_ON)),
        ("start", ALL_PLACES, HealthyGate(), None, None, True, (GO_ON, GO_ON, GO_ON)),
    ]


def test_rolling():
    back = (RESTORE, RESTORE, RESTORE)
    assert table(make_plans(POLICY).reload) == [
        ("prepare", NO_PLACES, LoadedGate(), None, None, False, (RESTORE, GO_ON, RESTORE)),
        ("proving", FIRST_PLACE, ReadyGate(), None, None, False, back),
        ("probation", FIRST_PLACE, AliveGate(3.0), None, None, False, back),
        ("roll", ALL_PLACES, HealthyGate(), None, 2, True, back),
    ]


@pytest.mark.parametrize("policy", [POLICY, DEVELOPMENT])
def test_restore(policy):
    assert table(make_plans(policy).restore) == [
        (
            "restore",
            ALL_PLACES,
            ReturnedGate(),
            policy.boot_timeout,
            None,
            True,
            (GO_ON, GO_ON, GO_ON),
        ),
    ]


def test_development():
    plans = make_plans(DEVELOPMENT)
    loaded = LoadedGate(quiet=BROKEN_MOMENT)
    back = (SHOW, RESTORE, SHOW)
    assert table(plans.first) == [
        ("prepare", NO_PLACES, loaded, None, None, False, (SHOW, GO_ON, GO_ON)),
        ("start", ALL_PLACES, ReadyGate(), None, None, True, (SHOW, GO_ON, GO_ON)),
        ("start", ALL_PLACES, HealthyGate(), None, None, True, (GO_ON, GO_ON, GO_ON)),
    ]
    assert table(plans.reload) == [
        ("prepare", NO_PLACES, loaded, None, None, False, (SHOW, GO_ON, SHOW)),
        ("proving", ALL_PLACES, ReadyGate(), None, None, False, back),
        ("roll", ALL_PLACES, HealthyGate(), None, 4, True, back),
    ]


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("first load", make_plans(POLICY).first),
        ("first load", make_plans(DEVELOPMENT).first),
        ("reload", make_plans(POLICY).reload),
        ("development", make_plans(DEVELOPMENT).reload),
    ],
)
def test_the_diagram_of_the_plans_is_true(name, plan):
    drawn = "".join(f"{stage.name} ─{gate_name(stage)}─▶ " for stage in plan)
    lines = ARCHITECTURE.read_text().splitlines()
    assert f"{name:<13}{drawn}commit" in lines


def test_the_diagram_of_going_back_is_true():
    (restore,) = make_plans(POLICY).restore
    assert f"  {restore.name} ─{gate_name(restore)}─▶ failed" in ARCHITECTURE.read_text()


def test_the_phases_that_are_documented_are_those_of_the_plans():
    rows = {
        stage.name: stage.phase.value
        for policy in (POLICY, DEVELOPMENT)
        for plan in (
            make_plans(policy).first,
            make_plans(policy).reload,
            make_plans(policy).restore,
        )
        for stage in plan
    }
    documented = {}
    for line in ARCHITECTURE.read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 4 and cells[1] in rows:
            documented[cells[1]] = cells[3].strip("`")
    assert documented == rows


def gate_name(stage):
    return type(stage.gate).__name__.removesuffix("Gate").lower()


@pytest.mark.parametrize("policy", [POLICY, DEVELOPMENT])
def test_newer_code_ends_what_has_not_served_yet(policy):
    plans = make_plans(policy)
    phases = {
        stage.phase
        for plan in (plans.first, plans.reload, plans.restore)
        for stage in plan
        if stage.can_be_superseded
    }
    assert phases == {ReloadPhase.PREPARING, ReloadPhase.PROVING}


@pytest.mark.parametrize(
    ("places", "of", "count"),
    [
        (NO_PLACES, 4, 0),
        (FIRST_PLACE, 4, 1),
        (ALL_PLACES, 4, 4),
        (PlaceCount(least=3), 2, 2),
        (PlaceCount(share=0.25), 4, 1),
        (PlaceCount(share=0.25), 5, 2),
        (PlaceCount(share=0.1), 30, 3),
        (PlaceCount(least=2, share=0.1), 4, 2),
    ],
)
def test_count_of_places(places, of, count):
    assert places.count(of) == count


# --- a canary stage -------------------------------------------------------------------------------


class FewErrors(Gate, frozen=True):
    """Of at least `requests` requests the new generation fails no greater share than the old one, and `more`."""

    reads_traffic = True
    requests: int = 100
    more: float = 0.01

    def judge(self, new, old):
        if new.traffic is None or old is None or old.traffic is None:
            return GateResult(GateOutcome.INCONCLUSIVE, "no traffic was seen")
        if min(new.traffic.requests, old.traffic.requests) < self.requests:
            return GateResult(GateOutcome.INCONCLUSIVE, f"{new.traffic.requests} requests only")
        share = new.traffic.errors_5xx / new.traffic.requests
        if share > old.traffic.errors_5xx / old.traffic.requests + self.more:
            return GateResult(GateOutcome.FAILED, f"{share:.0%} of its responses are 5xx")
        return PASSED


CANARY = Stage(
    name="canary",
    phase=ReloadPhase.PROBATION,
    places=PlaceCount(share=0.25),
    gate=FewErrors(),
    time=30.0,
    on_failure=OnFailure(start=RESTORE, death=RESTORE, template=RESTORE, inconclusive=HOLD),
    promotes=True,
)


def canary_world(code=GOOD):
    plans = make_plans(POLICY)
    with_canary = (*plans.reload[:2], CANARY, plans.reload[-1])
    plans = Plans(plans.first, with_canary, plans.restore)
    world = World(POLICY, lambda number: GOOD if number == 1 else code, plans=plans)
    world.run(5)
    world.lowest_accepting = 4
    world.reload()
    world.run(3)
    assert sorted(world.serving) == [1, 1, 1, 2]
    assert reads_traffic(world.fleet)
    return world


def observe(world, **by_generation):
    traffic = {1: Traffic(requests=1000), 2: Traffic()}
    traffic |= {int(name[1:]): value for name, value in by_generation.items()}
    world.submit(events.TrafficObserved(traffic))
    world.run(0.1)


def test_a_canary_that_answers_well_is_rolled_out():
    world = canary_world()
    observe(world)
    observe(world, g1=Traffic(requests=2000), g2=Traffic(requests=50))
    assert sorted(world.serving) == [1, 1, 1, 2]
    observe(world, g1=Traffic(requests=4000, errors_5xx=10), g2=Traffic(requests=900))
    assert not reads_traffic(world.fleet)
    world.run(20)
    assert world.serving == [2] * 4
    assert world.verdicts[-1] == (1, "committed")
    assert world.lowest_accepting == 4


def test_a_canary_that_answers_with_errors_is_taken_back():
    world = canary_world()
    observe(world)
    observe(world, g1=Traffic(requests=2000), g2=Traffic(requests=500, errors_5xx=100))
    world.run(20)
    assert world.serving == [1] * 4
    assert world.verdicts[-1] == (1, "failed")
    failure = world.fleet.history[0].failure
    assert (failure.stage, failure.summary) == ("canary", "20% of its responses are 5xx")
    assert world.lowest_accepting == 4


def test_a_canary_that_dies_is_taken_back():
    world = canary_world(Code(lives=10.0))
    world.run(30)
    assert world.serving == [1] * 4
    assert world.fleet.history[0].failure.stage == "canary"


def test_a_canary_without_traffic_is_held_until_the_next_reload():
    world = canary_world()
    world.run(100)
    assert sorted(world.serving) == [1, 1, 1, 2]
    assert any("is held at its stage canary: no traffic was seen" in line for line in world.lines)
    assert not reads_traffic(world.fleet)
    for number, worker in list(world.fleet.workers.items()):
        if worker.place == 2:
            world.kill_worker(number)
    world.run(1)
    assert sorted(world.serving) == [1, 1, 1, 2], "slots are filled as ever"
    world.reload()
    world.run(5)
    assert world.verdicts[-1] == (1, "superseded")
    assert sorted(world.serving) == [1, 1, 1, 3]


def test_traffic_is_read_only_for_a_gate_that_reads_it():
    world = World(POLICY)
    for _ in range(100):
        assert not reads_traffic(world.fleet)
        world.run(0.1)
    world.reload()
    for _ in range(200):
        assert not reads_traffic(world.fleet)
        world.run(0.1)
    assert world.verdicts[-1] == (1, "committed")
