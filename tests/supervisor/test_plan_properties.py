"""For any plan, made of any rows, what holds for ours: no order of events wedges it, and capacity is kept."""

from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.supervisor import events
from asgireload.supervisor.fleet import Phase
from asgireload.supervisor.gates import (
    AliveGate,
    Gate,
    GateOutcome,
    GateResult,
    HealthyGate,
    ReadyGate,
)
from asgireload.supervisor.plans import (
    ALL_PLACES,
    FailureAction,
    OnFailure,
    PlaceCount,
    Plans,
    ReloadPhase,
    Stage,
    make_plans,
)
from asgireload.supervisor.policy import Policy
from tests.supervisor.test_reconcile_properties import act, actions, codes, gentle, policies
from tests.supervisor.world import Code, World


class UndecidedGate(Gate, frozen=True):
    def judge(self, new, old):
        return GateResult(GateOutcome.INCONCLUSIVE, "nobody knows")


class RefusingGate(Gate, frozen=True):
    def judge(self, new, old):
        return GateResult(GateOutcome.FAILED, "never")


gates = st.sampled_from(
    [
        ReadyGate(),
        ReadyGate(workers=2),
        AliveGate(0.0),
        AliveGate(1.0),
        AliveGate(4.0),
        HealthyGate(),
        UndecidedGate(),
        RefusingGate(),
    ]
)


def rows(on_failure):
    """Any stage. What a gate waits for may never come, so each has a time."""
    return st.builds(
        Stage,
        name=st.just("any"),
        phase=st.sampled_from(
            [ReloadPhase.PROVING, ReloadPhase.PROBATION, ReloadPhase.ROLLING],
        ),
        places=st.builds(PlaceCount, st.integers(0, 3), st.sampled_from([0.0, 0.2, 0.5, 1.0])),
        gate=gates,
        on_failure=on_failure,
        time=st.sampled_from([0.0, 0.05, 2.0, 6.0]),
        surge=st.sampled_from([None, 1, 2]),
        promotes=st.booleans(),
        can_be_superseded=st.booleans(),
    )


@st.composite
def plans(draw, allowed=tuple(FailureAction)):
    """A plan that loads the code first and ends with a row that changes every slot; between them anything."""
    action = st.sampled_from(allowed)
    on_failure = st.builds(OnFailure, action, action, action, action)
    middle = draw(st.lists(rows(on_failure), max_size=4))
    last = Stage(
        name="last",
        phase=ReloadPhase.ROLLING,
        places=ALL_PLACES,
        gate=HealthyGate(),
        on_failure=draw(on_failure),
        time=draw(st.sampled_from([5.0, 60.0])),
        surge=draw(st.sampled_from([None, 1, 2])),
        promotes=True,
    )
    ours = make_plans(Policy(boot_timeout=10.0))
    return Plans(ours.first, (ours.reload[0], *middle, last), ours.restore)


def start(policy: Policy, plan: Plans, releases: list[Code]) -> World:
    """The first release is good, the later ones as drawn, the last of them for ever."""
    release = [Code(), *releases]
    world = World(policy, lambda number: release[min(number - 1, len(releases))], plans=plan)
    world.run(5)
    return world


@given(policies, plans(), st.lists(codes, min_size=1, max_size=3), actions)
@settings(max_examples=100, deadline=None)
def test_every_path_ends(policy, plan, releases, doings):
    """A reload is over or held after some time, and a stop leaves nothing behind."""
    world = start(policy, plan, releases)
    for action, pause in doings:
        act(world, action)
        world.run(pause)
    world.run(300)
    running = world.fleet.reload
    assert running is None or running.held_for or world.now - running.started_at < 150
    world.submit(events.StopRequested())
    world.run(40)
    assert world.exit_code is not None
    assert not world.alive


without_show = (FailureAction.RESTORE, FailureAction.GO_ON, FailureAction.HOLD)


@given(
    policies,
    plans(without_show),
    st.lists(gentle, min_size=1, max_size=3),
    st.lists(st.floats(0, 12), max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_reloads_alone_never_undercut_capacity(policy, plan, releases, pauses):
    """While nobody crashes, the accepting workers are never fewer than promised, good code or bad.

    To show a failure is left out: it ends what serves the code that is shown to have failed.
    """
    world = start(policy, plan, releases)
    world.lowest_accepting = policy.workers
    for pause in pauses:
        world.reload()
        world.run(pause)
    world.run(400)
    assert world.lowest_accepting == policy.workers


@given(policies, plans(), st.lists(codes, min_size=1, max_size=3), actions)
@settings(max_examples=100, deadline=None)
def test_the_end_is_uniform_when_good_code_follows(policy, plan, releases, doings):
    """Whatever happened and was held: a reload of good code by a plan of ours leaves all slots with it."""
    world = start(policy, plan, releases)
    for action, pause in doings:
        act(world, action)
        world.run(pause)
    world.run(300)
    if world.fleet.phase is not Phase.SERVING:
        return
    world.releases = lambda number: Code()
    world.fleet.plans = make_plans(policy)
    world.reload()
    world.run(200)
    assert world.fleet.reload is None
    assert world.serving == [world.fleet.serving] * world.fleet.wanted_count
