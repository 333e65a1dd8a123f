"""How a reload begins, fails, is restored and is committed: changes of the picture, with the steps to carry out.

`rollout` and `observe` decide when; this module defines what happens. Nothing here waits or does I/O.
"""

from asgireload.failures import Failure
from asgireload.supervisor.backoff import delay
from asgireload.supervisor.events import Log, ReportOutcome, Step
from asgireload.supervisor.figures import Window
from asgireload.supervisor.fleet import Fleet, Generation, KillReason
from asgireload.supervisor.plans import FailureAction, ReloadPhase
from asgireload.supervisor.reloads import Outcome, Reload
from asgireload.supervisor.transitions import (
    discard_child,
    kill_child,
    let_go,
    start_template,
)

HISTORY_LIMIT = 100
"""Reloads kept in the history; a record takes a few kilobytes, including a traceback."""
ORIGIN_LIMIT = 100
"""Requests named in one record, so that a storm of signals does not grow the record without bound."""


def begin(fleet: Fleet, now: float) -> list[Step]:
    """Make the pending reload the running one: start a template for the next generation."""
    reload = fleet.pending
    assert reload is not None
    fleet.pending = None
    fleet.reload = reload
    fleet.last_generation += 1
    reload.source = fleet.serving
    reload.target = fleet.last_generation
    reload.outcome = Outcome.RUNNING
    reload.started_at = now
    fleet.generations[reload.target] = Generation(reload.target, None)
    reload.plan = fleet.plans.choose(reload.source)
    _begin_stage(fleet, reload, 0, now)
    steps: list[Step] = []
    if reload.reload_id:
        asked = ", ".join(dict.fromkeys(reload.origins))
        text = f"Reload {reload.reload_id} begins ({asked})"
        if reload.delayed_at is not None:
            text += f" after it waited {reload.waited(now):.1f} s for old workers to drain"
        steps.append(Log("info", text, generation=reload.target))
    if reload.shows is not None:
        fleet.generations[reload.target].broken = reload.shows
        return steps + start_template(fleet, reload.target, now, preload=True, failure=reload.shows)
    preload = fleet.policy.preload is not False
    if fleet.policy.remembers_unsafe and fleet.policy.preload is None and fleet.is_unsafe:
        preload = False
    return steps + start_template(fleet, reload.target, now, preload=preload)


def replace_lost_worker(fleet: Fleet, now: float) -> list[Step]:
    """Request a reload to replace a dead worker that no template can fork; the next such request backs off."""
    fleet.own_reloads += 1
    fleet.reload_not_before = now + delay(fleet.own_reloads + 1, fleet.rng)
    ask_reload(fleet, "a worker is missing", now)
    return []


def show_crash(fleet: Fleet, failure: Failure, now: float) -> list[Step]:
    """Request a reload whose generation only shows the crash, because the serving code keeps dying."""
    ask_reload(fleet, "a worker died", now).shows = failure
    return []


def ask_reload(fleet: Fleet, origin: str, now: float) -> Reload:
    """Add `origin` to the pending reload, and return the reload. Create the reload when there is none."""
    if fleet.pending is None:
        fleet.last_reload_id += 1
        fleet.pending = Reload(fleet.last_reload_id, now, [origin])
    elif len(fleet.pending.origins) < ORIGIN_LIMIT:
        fleet.pending.origins.append(origin)
    return fleet.pending


def retry_without_preload(fleet: Fleet, generation: Generation, now: float) -> list[Step]:
    """Restart the generation in a template that imports nothing, so that each worker imports the application."""
    steps = _begin_again(fleet, generation, now)
    generation.retried = True
    return steps + start_template(fleet, generation.number, now, preload=False)


def show_failure(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> list[Step]:
    """Restart the generation in a template that imports nothing and shows the failure."""
    steps = _begin_again(fleet, generation, now)
    generation.broken = failure
    return steps + start_template(fleet, generation.number, now, preload=True, failure=failure)


def _begin_again(fleet: Fleet, generation: Generation, now: float) -> list[Step]:
    """Kill or let go of the processes of a generation that is being loaded, and return to the first stage."""
    steps: list[Step] = []
    for worker in list(fleet.workers.values()):
        if worker.generation == generation.number and worker.state.is_live:
            steps += kill_child(worker, KillReason.DISCARDED, now)
    reload = fleet.reload
    is_refused = reload is None or reload.refused is not None
    for slot in fleet.slots:
        if slot.serves == generation.number and not is_refused:
            slot.next = generation.number  # the generation is proven there again
        elif slot.next == generation.number:
            slot.next = None
    if generation.template_id is not None:
        template = fleet.templates.get(generation.template_id)
        if template is not None:
            if template.ready_at is not None or generation.unsafe_reasons:
                # The template waits for commands, and ends what its import has started.
                steps += let_go(template, now)
            else:
                steps += kill_child(template, KillReason.DISCARDED, now)
    if reload is not None and not is_refused:
        _begin_stage(fleet, reload, 0, now)
    return steps


def begin_next_stage(fleet: Fleet, reload: Reload, now: float) -> list[Step]:
    """Go to the next stage of the plan; after the last stage conclude the reload."""
    if reload.row + 1 < len(reload.plan):
        _begin_stage(fleet, reload, reload.row + 1, now)
        return []
    if reload.refused is not None:
        # Every slot serves the source again, or the time for the restore is over.
        return _conclude(fleet, reload, reload.ending, now)
    return commit(fleet, now)


def _begin_stage(fleet: Fleet, reload: Reload, row: int, now: float) -> None:
    reload.row = row
    reload.phase = reload.stage.phase
    deaths = {number: known.deaths for number, known in fleet.generations.items()}
    reload.window = Window(now, deaths)
    reload.look_again_at = None


def respond(fleet: Fleet, action: FailureAction, failure: Failure, now: float) -> list[Step]:
    """Carry out the running stage's action for a failure. The caller carries out GO_ON itself."""
    reload = fleet.reload
    assert reload is not None
    assert reload.target is not None
    generation = fleet.generations[reload.target]
    match action:
        case FailureAction.RESTORE:
            return fail(fleet, failure, Outcome.FAILED, now)
        case FailureAction.SHOW:
            if generation.broken is None:
                return show_failure(fleet, generation, failure, now)
            return fail(fleet, failure, Outcome.FAILED, now)
        case FailureAction.HOLD:
            return _hold_rollout(reload, failure)
        case FailureAction.GO_ON:
            raise AssertionError(action)


def _hold_rollout(reload: Reload, failure: Failure) -> list[Step]:
    if reload.held_for is not None:
        return []
    reload.held_for = failure
    text = (
        f"Reload {reload.reload_id} is held at its stage {reload.stage.name}: {failure.summary}; "
        "it ends with the next reload"
    )
    return [Log("warning", text, generation=reload.target)]


def fail(fleet: Fleet, failure: Failure, ending: Outcome, now: float) -> list[Step]:
    """Give up the running reload: slots that have changed go back, and workers of the new generation leave."""
    reload = fleet.reload
    assert reload is not None
    assert reload.target is not None
    reload.failure = failure
    reload.ending = ending
    reload.held_for = None
    steps: list[Step] = []
    changed = [slot for slot in fleet.slots if slot.serves == reload.target and not slot.leaving]
    for slot in fleet.slots:
        if slot.next == reload.target:
            slot.next = None
            slot.not_before = now
    keep = {slot.index for slot in changed}
    for worker in list(fleet.workers.values()):
        if worker.generation == reload.target and worker.place not in keep:
            steps += discard_child(fleet, worker, now)
    if not changed:
        return steps + _conclude(fleet, reload, ending, now)
    if fleet.loaded_template(reload.source) is None:
        # The slots cannot go back: the previous generation has lost its template.
        return steps + _conclude(fleet, reload, ending, now)
    return steps + restore(fleet, reload, now)


def restore(fleet: Fleet, reload: Reload, now: float) -> list[Step]:
    """Let the slots go back to the reload's source, forking from the source's template."""
    reload.refused = reload.target
    reload.plan = fleet.plans.restore
    _begin_stage(fleet, reload, 0, now)
    for slot in fleet.slots:
        if slot.serves != reload.source:
            slot.failures = 0
    template = fleet.loaded_template(reload.source)
    if template is not None and template.preload:
        place = "from memory"
    else:
        place = "without preloading, so with what its files on disk say now"
    text = f"Generation {reload.target} is taken back: generation {reload.source} returns, {place}"
    return [Log("warning", text, generation=reload.target)]


def revert(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> list[Step]:
    """Revert a committed generation that keeps dying. The caller has checked that a revert is possible."""
    reload = next(
        (known for known in fleet.history if known.target == generation.number),
        None,
    )
    if reload is None:
        return []
    reload.failure = failure
    reload.ending = Outcome.REVERTED
    reload.source = fleet.previous[0]
    fleet.reload = reload
    return restore(fleet, reload, now)


def commit(fleet: Fleet, now: float) -> list[Step]:
    """Commit the target: every slot serves it, and no older worker accepts connections."""
    reload = fleet.reload
    assert reload is not None
    assert reload.target is not None
    target = fleet.generations[reload.target]
    target.committed_at = now
    if reload.source is not None:
        target.trial_until = now + fleet.policy.revert_window
        fleet.previous.insert(0, reload.source)
        del fleet.previous[fleet.policy.keep_generations :]
    fleet.serving = reload.target
    if target.broken is not None:
        reload.failure = target.broken
        return _conclude(fleet, reload, Outcome.FAILED, now)
    if not fleet.policy.shows_failures:
        fleet.own_reloads = 0
    return _conclude(fleet, reload, Outcome.COMMITTED, now)


def abandon(fleet: Fleet, now: float) -> list[Step]:
    """Conclude the running and the pending reload because the server stops, so that their waiters are notified."""
    steps: list[Step] = []
    for reload in (fleet.reload, fleet.pending):
        if reload is not None:
            steps += _conclude(fleet, reload, Outcome.ABANDONED, now)
    fleet.pending = None
    return steps


def _conclude(fleet: Fleet, reload: Reload, outcome: Outcome, now: float) -> list[Step]:
    """Record the outcome of a reload, and report it."""
    reload.phase = ReloadPhase.DONE
    reload.outcome = outcome
    reload.ended_at = now
    if fleet.reload is reload:
        fleet.reload = None
    if outcome is Outcome.REVERTED and reload.source is not None:
        fleet.serving = reload.source
        fleet.previous = [number for number in fleet.previous if number != reload.source]
    reload.serving = fleet.serving
    reload.uniform = outcome is not Outcome.ABANDONED and all(
        slot.serves == fleet.serving and slot.next is None
        for slot in fleet.slots
        if not slot.leaving
    )
    if reload not in fleet.history:
        fleet.history.insert(0, reload)
        del fleet.history[HISTORY_LIMIT:]
    if not reload.is_first_load:
        fleet.outcomes[outcome.value] = fleet.outcomes.get(outcome.value, 0) + 1
    steps: list[Step] = [ReportOutcome(reload.reload_id)]
    if outcome is Outcome.FAILED and fleet.serving != reload.target:
        # The first reload that replaces a lost template comes soon; later ones back off.
        fleet.own_reloads += 1
        fleet.reload_not_before = now + delay(fleet.own_reloads + 1, fleet.rng)
    if (
        fleet.serving is None
        and outcome is Outcome.FAILED
        and fleet.policy.waits_after_failed_start
    ):
        steps.append(Log("warning", "Nothing serves yet; waiting for the next change"))
    return steps
