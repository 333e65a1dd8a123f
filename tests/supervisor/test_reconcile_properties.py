"""For any order of events: capacity is never undercut by us, every path ends, the end is uniform."""

from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.draining import DrainReason
from asgireload.supervisor import events
from asgireload.supervisor.fleet import Phase
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import Policy
from tests.supervisor.world import Code, World

delays = st.sampled_from([None, 0.0, 0.01, 0.3, 1.0, 2.5, 15.0])
codes = st.builds(
    Code,
    imports=delays,
    import_fails=st.booleans(),
    import_dies=st.booleans(),
    unsafe=st.booleans(),
    cleans_up=st.booleans(),
    boots=delays,
    boot_fails=st.booleans(),
    boot_dies=st.booleans(),
    needs_no_preload=st.booleans(),
    lives=st.sampled_from([None, None, None, 0.0, 0.5, 5.0, 40.0]),
    leaves=st.sampled_from([None, None, None, 0.0, 3.0]),
    drains=delays,
)
gentle = st.builds(Code, imports=delays, boots=delays, drains=delays, import_fails=st.booleans())
policies = st.builds(
    Policy,
    workers=st.integers(1, 4),
    surge=st.integers(1, 3),
    preload=st.sampled_from([None, True, False]),
    drain_overlap=st.booleans(),
    drain_generations=st.integers(1, 4),
    keep_generations=st.integers(0, 2),
    boot_timeout=st.just(10.0),
    give_up_after=st.sampled_from([0.0, 60.0]),
)
actions = st.lists(
    st.tuples(
        st.sampled_from(
            ["reload", "supersede", "kill", "kill template", "grow", "shrink", "stalled"]
        ),
        st.floats(0, 12),
    ),
    max_size=12,
)


def start(policy: Policy, releases: list[Code]) -> World:
    """The first release is good, the later ones as drawn, the last of them for ever."""
    world = World(policy, lambda number: [Code(), *releases][min(number - 1, len(releases))])
    world.run(5)
    return world


def act(world: World, action: str) -> None:
    workers = list(world.fleet.workers)
    match action:
        case "reload":
            world.reload()
        case "supersede":
            world.submit(events.ReloadRequested("change", supersede=True))
        case "kill" if workers:
            world.kill_worker(workers[0])
        case "kill template" if world.fleet.templates:
            number = next(iter(world.fleet.templates))
            world.submit(events.ChildExited(number, "killed by SIGKILL"))
        case "grow":
            world.submit(events.ScaleRequested(world.fleet.wanted_count + 1))
        case "shrink":
            world.submit(events.ScaleRequested(world.fleet.wanted_count - 1))
        case "stalled" if workers:
            world.submit(events.ChildObserved(workers[-1], 60.0, 0, None))
        case _:
            pass


@given(policies, st.lists(codes, min_size=1, max_size=3), actions)
@settings(max_examples=200, deadline=None)
def test_every_path_ends(policy, releases, doings):
    """No order of reloads, crashes and scalings wedges a reload, leaks a process or forbids a stop."""
    world = start(policy, releases)
    for action, pause in doings:
        act(world, action)
        world.run(pause)
    world.run(300)
    if world.fleet.phase is Phase.SERVING:
        assert all(
            worker.state
            in (State.READY, State.STARTING, State.BOOTING, State.DYING, State.DRAINING)
            for worker in world.fleet.workers.values()
        )
        draining = [w for w in world.fleet.workers.values() if w.state is State.DRAINING]
        assert all(world.now < (w.deadline or 0) for w in draining)
    world.submit(events.StopRequested())
    world.run(40)
    assert world.exit_code is not None
    assert not world.alive


@given(policies, st.lists(gentle, min_size=1, max_size=3), st.lists(st.floats(0, 12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_reloads_alone_never_undercut_capacity(policy, releases, pauses):
    """While nobody crashes, the accepting workers are never fewer than promised, good code or bad."""
    world = start(policy, releases)
    world.lowest_accepting = policy.workers
    for pause in pauses:
        world.reload()
        world.run(pause)
    # One reload runs and one may follow, of four workers, one at a time, that boot and never end by themselves.
    world.run(400)
    assert world.lowest_accepting == policy.workers
    assert len(set(world.serving)) == 1


@given(policies, st.lists(delays, min_size=1, max_size=5), st.lists(st.floats(0, 12), max_size=12))
@settings(max_examples=200, deadline=None)
def test_reloads_of_good_code_keep_to_the_limits_for_old_and_booting_workers(
    policy, drains, pauses
):
    """However long workers drain and however often a reload is asked for."""
    world = World(policy, lambda number: Code(drains=drains[number % len(drains)]))
    world.run(5)
    world.most_booting = 0
    for pause in pauses:
        world.reload()
        world.run(pause)
        assert world.fleet.reload is None or world.fleet.reload.phase.value != "restoring"
    generations = policy.drain_generations if policy.drain_overlap else 1
    assert world.most_replaced <= generations * policy.workers
    assert world.most_booting <= policy.surge
    # Without overlap each slot of each reload may drain for its whole time, one after the other.
    world.run(400)
    assert {outcome for _, outcome in world.verdicts} == {"committed"}
    assert world.fleet.pending is None
    assert not world.draining(DrainReason.RELOAD)


@given(policies, st.lists(codes, min_size=1, max_size=3), actions)
@settings(max_examples=200, deadline=None)
def test_the_end_is_uniform_when_good_code_follows(policy, releases, doings):
    """Whatever happened, a reload of good code afterwards leaves all slots with it."""
    world = start(policy, releases)
    for action, pause in doings:
        act(world, action)
        world.run(pause)
    world.run(300)
    if world.fleet.phase is not Phase.SERVING:
        return
    world.releases = lambda number: Code()
    world.reload()
    world.run(200)
    assert world.serving == [world.fleet.serving] * world.fleet.wanted_count
