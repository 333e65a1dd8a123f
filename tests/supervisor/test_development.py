"""Decisions under --reload: the newest code counts, requests wait for it, and a mistake is shown."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgireload.development.supervisor.policy import for_development
from asgireload.supervisor import events
from asgireload.supervisor.fleet import Phase
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import BROKEN_MOMENT, Policy
from tests.supervisor.world import GOOD, Code, World, started


def development(workers=1, **more):
    policy = Policy(workers=workers, boot_timeout=10.0, **more)
    return for_development(policy, hold_timeout=10.0)


def save(world, *, gives_up=True):
    world.submit(events.CodeChanging(gives_up))
    world.submit(events.ReloadRequested("changed: app.py", supersede=gives_up))


def of(codes):
    return lambda generation: codes.get(generation, GOOD)


@pytest.mark.parametrize("workers", [1, 3])
def test_requests_wait_from_the_save_until_the_new_code_serves(workers):
    world = started(development(workers))
    old = set(world.accepting)
    world.submit(events.CodeChanging(True))
    assert world.held == old
    world.submit(events.ReloadRequested("changed: app.py", supersede=True))
    world.run(0.5)
    assert world.held == old
    world.run(5)
    assert world.serving == [2] * workers
    assert not world.held & set(world.accepting)
    assert world.verdicts[-1] == (1, "committed")


def test_a_worker_that_is_starting_waits_for_what_is_saved_meanwhile():
    """It would begin with code that is outdated, before it could be told."""
    world = started(development(2))
    world.submit(events.ScaleRequested(3))
    young = set(world.fleet.workers) - set(world.accepting)
    assert len(young) == 1
    world.submit(events.CodeChanging(True))
    assert young <= world.held
    world.submit(events.ReloadRequested("changed: app.py", supersede=True))
    world.run(10)
    assert world.serving == [2] * 3
    assert not world.held & set(world.accepting)


@pytest.mark.parametrize("workers", [1, 3])
def test_all_workers_change_side_by_side(workers):
    world = started(development(workers), of({2: Code(boots=2.0)}))
    save(world)
    world.run(4)
    assert world.serving == [2] * workers


def test_the_only_worker_is_the_process_that_imported_the_code():
    world = started(development())
    save(world)
    world.run(5)
    assert not world.fleet.templates
    assert len(world.alive) == 1


def test_a_worker_that_dies_comes_back_with_what_is_on_disk():
    world = started(development())
    world.kill_worker(next(iter(world.accepting)))
    world.run(5)
    assert world.serving == [2]


@pytest.mark.parametrize("workers", [1, 2])
def test_code_that_keeps_dying_is_replaced_by_a_page_that_says_so(workers):
    world = started(development(workers), of({2: Code(lives=0.01), 3: Code(lives=0.01)}))
    save(world)
    world.run(8)
    assert len(world.serving) == workers
    assert world.verdicts[-1][1] == "failed"
    serving = world.fleet.generations[world.fleet.serving]
    assert "died" in serving.broken.summary
    world.releases = lambda number: GOOD
    save(world)
    world.run(5)
    assert world.verdicts[-1][1] == "committed"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "code",
    [
        Code(import_fails=True),
        Code(import_dies=True),
        Code(imports=None),
        Code(boot_fails=True),
        Code(boot_dies=True),
        Code(boots=None),
    ],
    ids=["import fails", "import dies", "import hangs", "start fails", "start dies", "start hangs"],
)
def test_a_mistake_is_served_with_one_failed_verdict_and_repaired_by_the_next_save(code, workers):
    world = started(development(workers), of({2: code}))
    save(world)
    world.run(60)
    assert world.serving == [2] * workers
    assert world.verdicts[1:] == [(1, "failed")]
    assert not world.held
    save(world)
    world.run(5)
    assert world.serving == [3] * workers
    assert world.verdicts[-1] == (2, "committed")


@pytest.mark.parametrize("code", [Code(import_fails=True), Code(import_dies=True)])
def test_a_mistake_at_the_first_start_is_served(code):
    world = World(development(2), of({1: code}))
    world.run(10)
    assert world.serving == [1, 1]
    assert world.verdicts == [(0, "failed")]
    save(world)
    world.run(5)
    assert world.serving == [2, 2]


def test_broken_code_is_not_shown_before_it_has_been_quiet_for_a_moment():
    """What does not import may be half of a change."""
    world = started(development(), of({2: Code(imports=0.001, import_fails=True)}))
    save(world)
    world.run(BROKEN_MOMENT - 0.01)
    assert world.serving == [1]
    save(world)
    world.run(5)
    assert world.serving == [3]
    assert (1, "superseded") in world.verdicts


def test_newer_code_waits_for_the_end_of_a_process_that_imports_older_code():
    """A superseded import is killed, and its death awaited, before the next one begins."""
    world = started(development())
    save(world)
    world.run(0.1)
    (importing,) = world.fleet.templates
    save(world)
    assert set(world.fleet.templates) == {importing}
    assert world.fleet.pending is not None
    world.run(0.02)
    assert importing not in world.alive
    assert set(world.fleet.templates) != {importing}
    world.run(5)
    assert world.serving == [3]


def test_newer_code_does_not_wait_for_ever_for_a_process_that_cannot_be_killed():
    world = started(development())
    save(world)
    world.run(0.1)
    for template in world.fleet.templates:
        world.alive.discard(template)  # its exit never comes
    save(world)
    world.run(20)
    assert world.serving == [3]


def test_a_change_in_the_middle_of_a_start_is_one_more_load():
    world = started(development(), of({2: Code(boots=1.0)}))
    save(world)
    world.run(1.5)
    save(world)
    world.run(5)
    assert world.serving == [3]
    assert [outcome for _, outcome in world.verdicts[1:]] == ["superseded", "committed"]


def test_an_application_that_cannot_be_forked_is_found_out_once():
    world = started(development(2), lambda generation: Code(unsafe=True))
    world.templates.clear()
    save(world)
    world.run(5)
    assert world.serving == [2, 2]
    assert [template.preload for template in world.templates.values()] == [False]


def test_a_load_that_fails_in_every_way_lets_the_old_code_go_on():
    world = started(development(), of({2: Code(import_dies=True)}))
    save(world)
    world.run(1.002)
    (template,) = [step for step in world.templates.values() if step.failure is not None]
    world.submit(events.ChildExited(template.child_id, "killed by SIGSEGV"))
    world.run(5)
    assert world.serving == [1]
    assert not world.held


codes = st.builds(
    Code,
    imports=st.sampled_from([None, 0.0, 0.01, 0.3, 2.0]),
    import_fails=st.booleans(),
    import_dies=st.booleans(),
    unsafe=st.booleans(),
    boots=st.sampled_from([None, 0.0, 0.05, 1.0]),
    boot_fails=st.booleans(),
    boot_dies=st.booleans(),
    lives=st.sampled_from([None, None, 0.0, 5.0]),
    drains=st.sampled_from([None, 0.0, 0.3]),
)
doings = st.lists(
    st.tuples(
        st.sampled_from(["save", "save on", "change", "reload", "kill", "kill template", "grow"]),
        st.sampled_from([0.0, 0.001, 0.05, 0.3, 2.0, 12.0]),
    ),
    max_size=12,
)


def act(world, action):
    match action:
        case "save":
            save(world)
        case "save on":
            save(world, gives_up=False)
        case "change":
            world.submit(events.CodeChanging(True))
        case "reload":
            world.reload()
        case "kill" if world.fleet.workers:
            world.kill_worker(next(iter(world.fleet.workers)))
        case "kill template" if world.fleet.templates:
            number = next(iter(world.fleet.templates))
            world.submit(events.ChildExited(number, "killed by SIGKILL"))
        case "grow" if world.fleet.wanted_count < 4:
            world.submit(events.ScaleRequested(world.fleet.wanted_count + 1))
        case _:
            pass


@given(st.integers(1, 3), st.lists(codes, min_size=1, max_size=3), doings)
@settings(max_examples=300, deadline=None)
def test_the_end_is_the_newest_code_everywhere_and_nobody_is_held(workers, releases, actions):
    """Whatever was saved and died before: good code that is saved last serves in every slot."""
    world = World(
        development(workers), lambda number: [Code(), *releases][min(number - 1, len(releases))]
    )
    world.run(3)
    for action, pause in actions:
        act(world, action)
        world.run(pause)
    world.releases = lambda number: Code()
    save(world)
    world.run(100)
    assert world.fleet.phase is Phase.SERVING
    ready = [w for w in world.fleet.workers.values() if w.state is State.READY]
    assert [w.generation for w in ready] == [world.fleet.serving] * world.fleet.wanted_count
    assert world.fleet.serving == world.fleet.last_generation
    assert not world.held
    world.submit(events.StopRequested())
    world.run(40)
    assert world.exit_code is not None
    assert not world.alive
