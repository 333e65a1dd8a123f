"""Decisions about reloads, crashes and stops, played out with invented children and time."""

import pytest

from asgireload.development.supervisor.policy import OLD_GENERATIONS, for_development
from asgireload.draining import DrainReason
from asgireload.ipc.messages import WorkerDrained, WorkerDraining
from asgireload.supervisor import events, transitions
from asgireload.supervisor.fleet import Phase
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.policy import Policy
from tests.supervisor.world import GOOD, Code, World, started


def after_first(code: Code):
    return lambda generation: GOOD if generation == 1 else code


BROKEN = {
    "import error": Code(import_fails=True),
    "death at import": Code(import_dies=True),
    "endless import": Code(imports=None),
    "lifespan fails": Code(boot_fails=True),
    "lifespan hangs": Code(boots=None),
    "death at boot": Code(boot_dies=True),
    "dies at once": Code(lives=0.0),
    "dies during probation": Code(lives=0.5),
    "dies during the roll": Code(lives=1.3),
}


def test_first_load_boots_all_slots_side_by_side():
    world = World(Policy(workers=4))
    world.run(1.2)
    assert world.serving == [1, 1, 1, 1]
    assert world.verdicts == [(0, "committed")]


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
def test_first_load_of_broken_code_ends_with_status_3_or_keeps_trying_once_it_has_served(code):
    """Broken code at the first boot must end the server, and leave nothing behind."""
    world = World(Policy(workers=2, boot_timeout=10), lambda generation: code)
    world.run(60)
    if code.lives is None:
        assert world.exit_code == 3
    else:
        assert world.fleet.phase is Phase.SERVING


def test_in_development_a_broken_first_load_waits_for_the_next_change():
    code = {1: Code(import_fails=True)}
    world = World(for_development(Policy(workers=2)), lambda number: code.get(number, GOOD))
    world.run(10)
    assert world.exit_code is None
    assert world.verdicts == [(0, "failed")]
    world.reload("file change")
    world.run(5)
    assert world.serving == [2, 2]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("surge", [1, 2])
@pytest.mark.parametrize("overlap", [False, True])
def test_reload_never_has_fewer_accepting_workers_than_promised(workers, surge, overlap):
    world = started(Policy(workers=workers, surge=surge, drain_overlap=overlap))
    world.reload()
    world.run(30)
    assert world.serving == [2] * workers
    assert world.verdicts[-1] == (1, "committed")
    assert world.lowest_accepting == workers
    assert world.most_booting <= surge
    if not overlap:
        assert world.most_workers <= workers + surge


@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
def test_broken_release_leaves_every_slot_with_the_old_generation(code):
    """Whatever the new code does, the generation that serves goes on, and the verdict says so."""
    world = started(Policy(workers=4, boot_timeout=10), after_first(code))
    world.reload()
    world.run(60)
    assert world.serving == [1] * 4
    assert world.verdicts[-1] == (1, "failed")
    assert world.lowest_accepting == 4 or code.lives == 1.3
    assert world.fleet.history[0].failure is not None
    assert world.fleet.history[0].uniform
    world.reload()
    world.run(60)
    assert world.verdicts[-1] == (2, "failed")


@pytest.mark.parametrize("lives", [3.0, 20.0, 50.0])
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_release_that_dies_in_its_first_minute_is_taken_back(lives, workers):
    """A release that turns ready and then dies must not crash-loop: the old one comes back from memory."""
    world = started(Policy(workers=workers), after_first(Code(lives=lives)))
    world.reload()
    world.run(300)
    assert world.serving == [1] * workers
    assert world.fleet.serving == 1
    assert world.verdicts[-1] == (1, "reverted")
    assert world.fleet.history[0].failure is not None


def test_release_that_dies_after_its_trial_is_only_respawned():
    world = started(Policy(workers=1), after_first(Code(lives=100.0)))
    world.reload()
    world.run(350)
    assert world.fleet.serving == 2
    assert world.fleet.restarts["worker"] >= 2


def test_crash_during_a_roll_of_a_worker_that_is_not_part_of_it_is_respawned_at_once():
    world = started(Policy(workers=4), after_first(Code(boots=30.0)))
    world.reload()
    world.run(10)
    victim = next(number for number, worker in world.fleet.workers.items() if worker.place == 3)
    world.kill_worker(victim)
    world.run(0.5)
    assert world.serving == [1, 1, 1, 1]


def test_crash_of_the_old_worker_in_the_slot_that_proves_new_code_is_respawned_at_once():
    world = started(Policy(workers=1), after_first(Code(boots=30.0)))
    world.reload()
    world.run(10)
    (victim,) = [n for n, worker in world.fleet.workers.items() if worker.state is State.READY]
    world.kill_worker(victim)
    world.run(0.5)
    assert world.serving == [1]
    world.run(60)
    assert world.serving == [2]


def test_crashes_without_reload_come_back_with_the_same_generation():
    """The deploy on disk is irrelevant until somebody asks for a reload."""
    world = started(Policy(workers=4), after_first(Code(import_fails=True)))
    for number in list(world.fleet.workers):
        world.kill_worker(number)
    world.run(1)
    assert world.serving == [1] * 4
    assert all(step.generation == 1 for step in world.workers.values())


def test_lifespan_that_fails_on_respawn_is_retried_with_growing_delay_and_recovers():
    """A dependency that is down must not end the healthy workers; the slot recovers alone."""
    down = {"now": False}
    world = started(Policy(workers=2), lambda n: Code(boot_fails=True) if down["now"] else GOOD)
    down["now"] = True
    forks = len(world.workers)
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(60)
    assert world.serving == [1]
    assert 4 <= len(world.workers) - forks <= 12
    down["now"] = False
    world.run(35)
    assert world.serving == [1, 1]


def test_gives_up_only_when_nothing_has_served_for_the_whole_time():
    down = {"now": False}
    world = started(
        Policy(workers=2, give_up_after=100.0),
        lambda n: Code(boot_fails=True) if down["now"] else GOOD,
    )
    down["now"] = True
    for number in list(world.fleet.workers):
        world.kill_worker(number)
    world.run(90)
    assert world.exit_code is None
    world.run(20)
    assert world.exit_code == 4


def test_requests_for_reload_are_coalesced_into_one_running_and_one_pending():
    """Fifty triggers in a second: one runs, at most one waits, all get an id, the newest code serves."""
    world = started()
    for _ in range(50):
        world.reload("SIGHUP")
        world.run(0.02)
    assert world.fleet.last_reload_id == 2
    assert world.fleet.pending is not None
    assert sum(len(r.origins) for r in (world.fleet.reload, world.fleet.pending) if r) == 50
    world.run(60)
    assert world.verdicts == [(0, "committed"), (1, "committed"), (2, "committed")]
    assert world.serving == [3] * 4


def test_two_requests_in_one_instant_get_the_same_reload():
    world = started()
    world.reload("one")
    world.reload("two")
    world.run(60)
    assert world.fleet.last_reload_id == 1
    assert world.fleet.history[0].origins == ["one", "two"]


def test_reload_asked_for_during_the_first_boot_follows_it():
    world = World(Policy(workers=2))
    world.reload()
    world.run(30)
    assert world.serving == [2, 2]
    assert world.verdicts == [(0, "committed"), (1, "committed")]


def test_newer_code_supersedes_a_reload_that_still_boots():
    codes = {2: Code(imports=None)}
    world = started(Policy(workers=2), lambda number: codes.get(number, GOOD))
    world.submit(events.ReloadRequested("change"))
    world.run(5)
    world.submit(events.ReloadRequested("change", supersede=True))
    world.run(10)
    assert world.verdicts[-2:] == [(1, "superseded"), (2, "committed")]
    assert world.serving == [3, 3]


def test_stop_during_a_reload_is_acted_on_at_once():
    world = started(Policy(workers=4), after_first(Code(imports=None)))
    world.reload()
    world.run(2)
    world.submit(events.StopRequested())
    world.run(3)
    assert world.exit_code == 0
    assert world.verdicts[-1] == (1, "abandoned")


def test_stop_ends_within_thirty_seconds_although_nothing_drains():
    """The default grace period of Kubernetes must suffice."""
    world = started(releases=lambda number: Code(drains=None))
    world.submit(events.StopRequested())
    world.run(29)
    assert world.exit_code == 0


def test_listeners_are_shut_when_no_worker_accepts_and_not_only_at_the_end():
    world = started(releases=lambda number: Code(drains=None))
    world.submit(events.StopRequested())
    assert not world.are_listeners_shut
    world.run(1)
    assert world.are_listeners_shut
    assert world.exit_code is None


def test_stop_at_once_kills_what_drains():
    world = started(releases=lambda number: Code(drains=None))
    world.submit(events.StopRequested())
    world.run(1)
    world.submit(events.StopRequested(at_once=True))
    world.run(0.1)
    assert world.exit_code == 0


def test_a_worker_is_told_whether_another_serves_in_its_slot():
    world = started(Policy(workers=2))
    assert [step.succeeds for step in world.workers.values()] == [False, False]
    world.reload()
    world.run(30)
    assert [step.succeeds for step in world.workers.values()] == [False, False, True, True]
    world.kill_worker(next(iter(world.accepting)))
    world.run(5)
    assert [step.succeeds for step in world.workers.values()][4:] == [False]


def test_only_an_import_beside_workers_that_serve_gives_way():
    world = started(Policy(workers=2, changes_give_way=True))
    world.reload()
    world.run(30)
    assert [step.gives_way for step in world.templates.values()] == [False, True]


def test_workers_that_take_a_place_and_those_that_leave_it_give_way():
    world = started(Policy(workers=2, changes_give_way=True))
    world.reload()
    world.run(30)
    assert [step.gives_way for step in world.workers.values()] == [False, False, True, True]
    assert [step.gives_way for step in world.drains] == [True, True]
    world.kill_worker(next(iter(world.accepting)))
    world.run(5)
    assert [step.gives_way for step in world.workers.values()][4:] == [False]
    world.submit(events.StopRequested())
    world.run(30)
    assert [step.gives_way for step in world.drains][2:] == [False, False]


@pytest.mark.parametrize(
    "policy",
    [
        Policy(workers=2, changes_give_way=True, preload=False),
        Policy(workers=2, changes_give_way=False),
    ],
    ids=["each worker imports for itself", "normal priority"],
)
def test_import_that_does_not_give_way(policy):
    world = started(policy)
    world.reload()
    world.run(30)
    assert not any(step.gives_way for step in world.templates.values())
    is_normal = not policy.changes_give_way
    assert [step.gives_way for step in world.workers.values()][2:] == [not is_normal] * 2


def test_scaling_up_and_down():
    world = started(Policy(workers=2))
    world.submit(events.ScaleRequested(5))
    world.run(1)
    assert world.serving == [1] * 5
    world.submit(events.ScaleRequested(1))
    world.run(2)
    assert world.serving == [1]
    assert len(world.fleet.slots) == 1
    world.submit(events.ScaleRequested(0))
    assert world.fleet.wanted_count == 1


def test_scaling_in_the_middle_of_a_reload_ends_uniform():
    world = started(Policy(workers=2))
    world.reload()
    world.run(2.5)
    world.submit(events.ScaleRequested(4))
    world.run(20)
    assert world.serving == [2] * 4
    world.reload()
    world.run(2.5)
    world.submit(events.ScaleRequested(1))
    world.run(20)
    assert world.serving == [3]


def test_application_that_cannot_be_forked_is_loaded_again_without_preloading():
    world = World(Policy(workers=2), lambda number: Code(unsafe=True))
    world.run(5)
    assert world.serving == [1, 1]
    assert [step.preload for step in world.templates.values()] == [True, False]
    assert any("a thread" in line for line in world.lines)


def test_first_worker_that_dies_silently_is_tried_once_without_preloading():
    world = World(Policy(workers=2), lambda number: Code(needs_no_preload=True))
    world.run(5)
    assert world.serving == [1, 1]
    assert world.verdicts == [(0, "committed")]


def test_stalled_worker_is_dumped_and_replaced():
    world = started(Policy(workers=2))
    number = next(iter(world.fleet.workers))
    world.submit(events.ChildObserved(number, heartbeat_age=31.0, requests=0, rss_bytes=None))
    world.run(1)
    assert world.serving == [1, 1]
    assert number not in world.fleet.workers
    assert world.fleet.exits["worker"]["stalled"] == 1


@pytest.mark.parametrize(
    "seen", [{"requests": 1000, "rss_bytes": None}, {"requests": 0, "rss_bytes": 10**9}]
)
@pytest.mark.parametrize("overlap", [False, True])
def test_recycling_starts_the_successor_first_and_one_at_a_time(seen, overlap):
    """With overlap the next one does not wait for the drain of the one before."""
    world = started(
        Policy(workers=3, max_requests=1000, max_rss=10**9, drain_overlap=overlap),
    )
    for number in list(world.fleet.workers):
        world.submit(events.ChildObserved(number, heartbeat_age=0.1, **seen))
    world.run(10)
    assert world.serving == [1] * 3
    assert world.lowest_accepting == 3
    assert world.most_booting == 1
    assert world.most_workers == (5 if overlap else 4)
    reasons = [worker.drain_reason for worker in world.fleet.workers.values()]
    assert DrainReason.RELOAD not in reasons


def test_workers_of_one_age_are_recycled_one_after_another():
    world = started(Policy(workers=3, worker_lifetime=100.0))
    first = set(world.fleet.workers)
    world.run(120)
    assert not first & set(world.fleet.workers)
    assert world.lowest_accepting == 3


def test_template_that_dies_changes_nothing_until_a_worker_is_owed():
    """Nobody has asked for new code; only when a slot must be filled a reload has to make a template."""
    world = started(Policy(workers=2))
    (template,) = world.fleet.templates
    world.submit(events.ChildExited(template, "killed by SIGKILL"))
    world.run(20)
    assert world.serving == [1, 1]
    assert world.fleet.last_reload_id == 0
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(20)
    assert world.serving == [2, 2]
    assert world.fleet.history[0].origins == ["lost template"]


def test_lost_template_with_broken_code_on_disk_keeps_the_workers_that_are_left():
    world = started(Policy(workers=2), after_first(Code(import_fails=True)))
    (template,) = world.fleet.templates
    world.submit(events.ChildExited(template, "killed by SIGKILL"))
    world.run(5)
    assert world.serving == [1, 1]
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(60)
    assert world.serving == [1]
    assert len(world.templates) < 20


def test_only_the_last_generation_is_kept_asleep():
    world = started(Policy(workers=2))
    for _ in range(5):
        world.reload()
        world.run(20)
    assert sorted(template.generation for template in world.fleet.templates.values()) == [5, 6]
    assert len(world.fleet.generations) == 2


def test_a_slow_drain_holds_the_next_slot_unless_overlap_is_allowed():
    slow = Code(drains=15.0)
    world = started(Policy(workers=4, drain_overlap=False), lambda number: slow)
    world.reload()
    world.run(10)
    assert world.serving.count(2) == 1
    world = started(Policy(workers=4), lambda number: slow)
    world.reload()
    world.run(10)
    assert world.serving == [2] * 4


def test_old_generations_are_bounded_in_development():
    """Saved code does not wait: the workers of the oldest generation are ended."""
    policy = for_development(Policy(workers=2, surge=2))
    world = started(policy, lambda number: Code(drains=15.0))
    old = []
    for _ in range(12):
        world.reload()
        world.run(1)
        old.append(len({worker.generation for worker in world.fleet.workers.values()}) - 1)
    assert max(old) == OLD_GENERATIONS
    assert world.fleet.exits["worker"]["killed"] > 0
    assert any("was ended before its time" in text for text in world.lines)
    # Each request has become a reload of its own.
    assert len(world.verdicts) > 7


def test_generation_that_cannot_be_respawned_is_taken_back():
    """It was committed, crashed once, and cannot boot any more, as with a stale lock: the old one can."""
    codes = {2: GOOD}
    world = started(Policy(workers=1), lambda number: codes.get(number, GOOD))
    world.reload()
    world.run(5)
    assert world.serving == [2]
    codes[2] = Code(boot_fails=True)
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(10)
    assert world.serving == [1]
    assert world.verdicts[-1] == (1, "reverted")


def test_worker_that_was_told_to_leave_by_somebody_else_is_replaced_while_it_drains():
    """SIGTERM to a worker: its slot is filled at once, and nothing counts as a crash."""
    world = started(Policy(workers=1), lambda number: Code(drains=15.0))
    number = next(iter(world.fleet.workers))
    world.submit(events.ChildSaid(number, WorkerDraining()))
    world.run(0.5)
    assert world.serving == [1]
    world.submit(events.ChildSaid(number, WorkerDrained(0, 0)))
    world.submit(events.ChildExited(number, "exit status 0", clean=True))
    assert world.fleet.restarts["worker"] == 0
    assert world.fleet.exits["worker"]["clean"] == 1


def test_only_a_worker_that_leaves_again_and_again_is_an_error():
    world = started(Policy(workers=1))
    number = next(iter(world.fleet.workers))
    for is_error in (False, True):
        world.submit(events.ChildSaid(number, WorkerDraining()))
        assert "was told to leave by SIGTERM" in world.lines[-1]
        assert bool(world.errors) is is_error
        world.run(5)
        number = max(world.fleet.workers)


def test_worker_that_is_due_for_recycling_in_its_probation_does_not_hold_the_roll():
    code = {1: GOOD, 2: GOOD}
    world = started(Policy(workers=2, max_requests=10), lambda number: code[number])
    world.reload()
    world.run(1.5)
    code[1] = Code(boot_fails=True)
    for worker in list(world.fleet.workers.values()):
        world.submit(events.ChildObserved(worker.child_id, 0.1, 100, None))
    world.run(60)
    assert world.serving == [2, 2]
    assert world.verdicts[-1] == (1, "committed")


def test_reload_with_the_fix_does_not_wait_for_the_backoff_of_the_broken_code():
    codes = {1: GOOD}
    world = started(Policy(workers=1), lambda number: codes.get(number, GOOD))
    codes[1] = Code(boot_fails=True)
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(60)
    assert world.serving == []
    world.reload()
    world.run(2.5)
    assert world.serving == [2]


def drained_without_exit(policy):
    """Return a world in which the old worker of a reload drains after two seconds and never exits."""
    world = started(policy, lambda number: Code(drains=None))
    old = next(iter(world.fleet.workers))
    world.reload()
    world.run(3)
    world.submit(events.ChildSaid(old, WorkerDrained(0, 0)))
    return world, old


def test_worker_that_has_drained_has_what_is_left_of_the_drain_for_its_exit():
    world, old = drained_without_exit(Policy(workers=1, drain_timeout=20, lifespan_timeout=5))
    assert world.verdicts[-1] == (1, "committed"), "a reload does not wait for exit work"
    world.run(20)
    assert old in world.fleet.workers
    world.run(8)
    assert old not in world.fleet.workers
    line = next(line for line in world.lines if "was killed" in line)
    assert "--exit-timeout" in line
    assert "lifespan" not in line
    assert world.fleet.exits["worker"]["killed"] == 1


def test_worker_that_drained_until_its_deadline_has_a_moment_for_its_exit():
    world = started(Policy(workers=1), lambda number: Code(drains=None))
    old = next(iter(world.fleet.workers))
    world.reload()
    world.run(3)
    deadline = world.fleet.workers[old].drain_deadline
    world.run(deadline + 0.5 - world.now)
    world.submit(events.ChildSaid(old, WorkerDrained(0, 0)))
    world.run(1.4)
    assert old in world.fleet.workers
    world.run(0.2)
    assert old not in world.fleet.workers


@pytest.mark.parametrize("timeout", [2, 60])
def test_exit_timeout_begins_when_a_worker_has_drained(timeout):
    world, old = drained_without_exit(Policy(workers=1, exit_timeout=timeout))
    world.run(timeout - 0.1)
    assert old in world.fleet.workers
    world.run(0.2)
    assert old not in world.fleet.workers
    assert any(
        f"had not exited {timeout:.1f} s after it had drained" in line for line in world.lines
    )


def test_last_word_of_a_worker_that_is_killed_gives_it_no_more_time():
    world = started(Policy(workers=1, exit_timeout=60), lambda number: Code(drains=None))
    (old,) = world.fleet.workers.values()
    world.submit(events.StopRequested())
    world.submit(events.StopRequested(at_once=True))
    due = old.deadline
    world.submit(events.ChildSaid(old.child_id, WorkerDrained(0, 0)))
    assert old.deadline == due


def test_connections_are_kept_away_from_slots_without_a_worker():
    """With a socket for each slot they would wait there for as long as the backoff lasts."""
    down = {"now": False}
    world = started(Policy(workers=3), lambda n: Code(boot_fails=True) if down["now"] else GOOD)
    assert world.fleet.steered_away == frozenset()
    down["now"] = True
    for worker in list(world.fleet.workers.values()):
        if worker.place == 1:
            world.kill_worker(worker.child_id)
    world.run(20)
    assert world.fleet.steered_away == {1}
    down["now"] = False
    world.run(35)
    assert world.fleet.steered_away == frozenset()
    world.submit(events.ScaleRequested(1))
    assert world.fleet.steered_away == {1, 2}
    world.run(5)
    assert world.fleet.steered_away == frozenset()


def test_a_reload_steers_nothing():
    world = started(Policy(workers=3))
    before = list(world.steered)
    world.reload()
    world.run(20)
    assert world.serving == [2] * 3
    assert world.steered == before


@pytest.mark.parametrize("workers", [1, 3])
def test_release_whose_workers_keep_leaving_by_themselves_is_taken_back(workers):
    """Workers that send themselves SIGTERM are no crash, but must not be forked in a tight loop either."""
    world = started(Policy(workers=workers), after_first(Code(leaves=0.05)))
    world.reload()
    forks = len(world.workers)
    world.run(60)
    assert len(world.workers) - forks < 60
    assert world.serving == [1] * workers
    assert world.fleet.serving == 1


@pytest.mark.parametrize("keeps", [0, 1])
def test_a_template_that_cleans_up_ends_after_its_last_worker(keeps):
    """`World` looks at each end of a template: temporary files of an import are its workers', too."""
    code = Code(cleans_up=True, drains=5.0)
    world = started(Policy(workers=2, keep_generations=keeps), lambda generation: code)
    for _ in range(3):
        world.reload()
        world.run(4)
    generations = {template.generation for template in world.fleet.templates.values()}
    assert {worker.generation for worker in world.fleet.workers.values()} <= generations
    world.run(20)
    assert len(world.fleet.templates) == 1 + keeps
    world.submit(events.StopRequested())
    world.run(0.1)
    assert world.exit_code is None
    assert world.fleet.templates
    world.run(20)
    assert world.exit_code == 0


def test_a_template_that_does_not_end_is_killed():
    world = started(Policy(workers=1), lambda generation: Code(unsafe=True))
    template = next(iter(world.fleet.templates.values()))
    steps = transitions.let_go(template, world.now)
    assert steps == [events.LetGo(template.child_id)]
    assert world.now < template.deadline < world.now + 15


# --- where an import runs -------------------------------------------------------------------------


def test_import_that_needs_a_running_loop_runs_in_that_of_each_worker():
    world = started(Policy(workers=2), lambda number: Code(needs_loop=True))
    assert len(world.serving) == 2
    assert world.import_tries == 0
    assert any("needs a running event loop" in line for line in world.lines)


@pytest.mark.parametrize("workers", [1, 3])
def test_import_that_starts_a_loop_runs_before_that_of_each_worker(workers):
    world = started(Policy(workers=workers, preload=False), lambda number: Code(starts_loop=True))
    assert len(world.serving) == workers
    assert world.import_tries <= workers
    assert world.exit_code is None
    tries = world.import_tries
    world.reload()
    world.run(30)
    assert world.verdicts[-1] == (1, "committed")
    assert world.import_tries == tries, "what was found out is remembered"
    assert sum("starts an event loop itself" in line for line in world.lines) == 1
    exits = world.fleet.exits["worker"]
    assert exits["discarded"] == tries, "who looks for workers that had to be killed finds none"
    assert exits["killed"] == 0


def test_way_is_turned_again_for_code_that_needs_the_other_one():
    codes = {1: Code(starts_loop=True), 2: Code(needs_loop=True)}
    world = started(Policy(workers=2, preload=False), lambda number: codes.get(number, GOOD))
    world.reload()
    world.run(30)
    assert world.verdicts[-1] == (1, "committed")
    assert world.serving == [2, 2]
    world.kill_worker(next(iter(world.fleet.workers)))
    world.run(10)
    assert world.serving == [2, 2]


def test_unsafe_import_that_starts_a_loop_runs_before_that_of_each_worker():
    world = started(Policy(workers=2), lambda number: Code(unsafe=True, starts_loop=True))
    assert len(world.serving) == 2


def test_import_that_fails_both_ways_fails_the_reload():
    codes = {2: Code(starts_loop=True, needs_loop=True)}
    world = started(Policy(workers=2, preload=False), lambda number: codes.get(number, GOOD))
    world.reload()
    world.run(30)
    assert world.verdicts[-1] == (1, "failed")
    assert world.serving == [1, 1]
    assert world.import_tries == 2
