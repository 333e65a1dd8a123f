"""How a reload begins, fails, goes back and is committed: changes of the picture, with the steps they ask for.

`reconcile` decides when; this file says what follows. Nothing here waits or does I/O.
"""

from asgireload.draining import DrainReason
from asgireload.errors import ShutdownError
from asgireload.ipc.exit_time import exit_deadline
from asgireload.supervisor.backoff import delay
from asgireload.supervisor.events import (
    CloseTemplate,
    DrainWorker,
    Finish,
    ForkWorker,
    KillTemplate,
    KillWorker,
    Say,
    SpeakVerdict,
    StartTemplate,
    Step,
    StopAccepting,
)
from asgireload.supervisor.fleet import (
    ABORT_GRACE,
    TEMPLATE_END_GRACE,
    Fleet,
    Generation,
    KillReason,
    Phase,
    Policy,
    Slot,
    Template,
    TemplateState,
    Worker,
)
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.reloads import Failure, Outcome, Reload, ReloadPhase
from asgireload.supervisor.succession import choose_successors

HISTORY_LIMIT = 100
"""Reloads remembered; a record is a few kilobytes, a traceback included."""
ORIGIN_LIMIT = 100
"""Requests named in one record; a storm of signals must not grow it without bound."""
LIFETIME_JITTER = 0.1
"""Workers of one age are replaced over a tenth of their lifetime, not all at once."""


def new_id(fleet: Fleet) -> int:
    """Return a number that no child of this supervisor has had."""
    fleet.last_child_id += 1
    return fleet.last_child_id


# --- children -------------------------------------------------------------------------------------


def start_template(
    fleet: Fleet, generation: int, now: float, *, preload: bool, failure: Failure | None = None
) -> list[Step]:
    template = Template(
        template_id=new_id(fleet),
        generation=generation,
        preload=preload,
        state=TemplateState.LOADING,
        deadline=_boot_deadline(fleet.policy, now),
        # Where there is one worker a fork would only take time. If it dies, the code is loaded again.
        becomes_worker=fleet.policy.development and preload and fleet.wanted_count == 1,
    )
    fleet.templates[template.template_id] = template
    fleet.generations[generation].template_id = template.template_id
    gives_way = fleet.policy.changes_give_way and preload and fleet.ready_count > 0
    return [
        StartTemplate(
            template.template_id,
            generation,
            preload,
            failure,
            becomes_worker=template.becomes_worker,
            gives_way=gives_way,
        )
    ]


def _boot_deadline(policy: Policy, now: float) -> float | None:
    """Code that waits in a debugger while it is imported or started is not late."""
    return None if policy.is_patient else now + policy.boot_timeout


def fork_worker(fleet: Fleet, slot: Slot, template: Template, now: float) -> list[Step]:
    policy = fleet.policy
    worker = Worker(
        worker_id=new_id(fleet),
        slot=slot.index,
        generation=template.generation,
        template_id=template.template_id,
        state=State.STARTING,
        asked_at=now,
        deadline=_boot_deadline(policy, now),
        imports_in_loop=fleet.imports_in_loop,
    )
    if policy.max_requests is not None:
        worker.request_limit = policy.max_requests + fleet.rng.randint(
            0, policy.max_requests_jitter
        )
    if policy.worker_lifetime is not None:
        worker.age_limit = policy.worker_lifetime * (1 + fleet.rng.uniform(0, LIFETIME_JITTER))
    fleet.add_worker(worker)
    if template.becomes_worker:
        del fleet.templates[template.template_id]
        fleet.generations[template.generation].template_id = None
    if fleet.reload is not None:
        fleet.reload.note(slot.index, "fork", now, template.generation)
    succeeds = any(other.state is State.READY for other in fleet.workers_of(slot.index))
    return [
        ForkWorker(
            worker.worker_id,
            template.template_id,
            slot.index,
            template.generation,
            succeeds=succeeds,
            gives_way=succeeds and fleet.policy.changes_give_way,
            import_in_loop=fleet.imports_in_loop,
            has_other_way=not fleet.generations[template.generation].has_turned,
        )
    ]


def drain_worker(fleet: Fleet, worker: Worker, reason: DrainReason, now: float) -> list[Step]:
    """Tell a ready worker to leave."""
    policy = fleet.policy
    begin_drain(policy, worker, reason, now)
    if reason is DrainReason.RELOAD and fleet.reload is not None:
        worker.reload = fleet.reload
        fleet.reload.note(worker.slot, "retire", now, worker.generation)
    worker.successors = choose_successors(fleet, worker)
    return [
        DrainWorker(
            worker.worker_id,
            reason,
            policy.drain_timeout,
            worker.successors,
            gives_way=bool(worker.successors) and policy.changes_give_way,
        )
    ]


def begin_drain(policy: Policy, worker: Worker, reason: DrainReason, now: float) -> None:
    """Note that the worker drains; its deadline covers drain, lifespan shutdown and exit."""
    worker.state = advance(worker.state, Change.DRAIN)
    worker.drain_reason = reason
    worker.drain_deadline = now + policy.drain_timeout + policy.lifespan_timeout
    worker.deadline = exit_deadline(
        policy.exit_timeout, worker.drain_deadline, worker.drain_deadline
    )


def kill_worker(worker: Worker, why: KillReason, now: float, *, dump: bool = False) -> list[Step]:
    worker.state = advance(worker.state, Change.KILL)
    worker.killed_for = worker.killed_for or why
    worker.deadline = now + ABORT_GRACE
    return [KillWorker(worker.worker_id, dump)]


def kill_template(template: Template, now: float, *, dump: bool = False) -> list[Step]:
    template.deadline = now + ABORT_GRACE
    template.dumped = template.dumped or dump
    return [KillTemplate(template.template_id, dump)]


def close_template(template: Template, now: float) -> list[Step]:
    """Let a template end by itself, with what its import has made cleaned up."""
    template.state = TemplateState.LEAVING
    template.deadline = now + TEMPLATE_END_GRACE
    return [CloseTemplate(template.template_id)]


def discard_worker(fleet: Fleet, worker: Worker, now: float) -> list[Step]:
    """Let go a worker that is not needed: politely if it has served, else at once."""
    if worker.state is State.READY:
        return drain_worker(fleet, worker, DrainReason.RELOAD, now)
    if worker.state.is_live:
        return kill_worker(worker, KillReason.DISCARDED, now)
    return []


# --- reloads --------------------------------------------------------------------------------------


def begin(fleet: Fleet, now: float) -> list[Step]:
    """Turn the pending reload into the running one: start a template for the next generation."""
    reload = fleet.pending
    assert reload is not None
    fleet.pending = None
    fleet.reload = reload
    fleet.last_generation += 1
    reload.source = fleet.serving
    reload.target = fleet.last_generation
    reload.phase = ReloadPhase.PREPARING
    reload.outcome = Outcome.RUNNING
    reload.started_at = now
    fleet.generations[reload.target] = Generation(reload.target, None)
    steps: list[Step] = []
    if reload.reload_id:
        asked = ", ".join(dict.fromkeys(reload.origins))
        text = f"Reload {reload.reload_id} begins ({asked})"
        if reload.delayed_at is not None:
            text += f" after it waited {reload.waited(now):.1f} s for old workers to drain"
        steps.append(Say("info", text, generation=reload.target))
    if reload.shows is not None:
        fleet.generations[reload.target].broken = reload.shows
        return steps + start_template(fleet, reload.target, now, preload=True, failure=reload.shows)
    preload = fleet.policy.preload is not False
    if fleet.policy.development and fleet.policy.preload is None and fleet.is_unsafe:
        # It was so a moment ago; finding out anew would cost each save a second load.
        preload = False
    return steps + start_template(fleet, reload.target, now, preload=preload)


def replace_lost_worker(fleet: Fleet, now: float) -> list[Step]:
    """Development: the only worker has died, and it was its own template: load what is there now."""
    fleet.own_reloads += 1
    fleet.reload_not_before = now + delay(fleet.own_reloads + 1, fleet.rng)
    ask_reload(fleet, "a worker is missing", now)
    return []


def show_crash(fleet: Fleet, failure: Failure, now: float) -> list[Step]:
    """Development: what serves keeps dying, so the next generation only says so."""
    ask_reload(fleet, "a worker died", now).shows = failure
    return []


def ask_reload(fleet: Fleet, origin: str, now: float) -> Reload:
    """Return the pending reload, new or not, with one more who asks for it."""
    if fleet.pending is None:
        fleet.last_reload_id += 1
        fleet.pending = Reload(fleet.last_reload_id, now, [origin])
    elif len(fleet.pending.origins) < ORIGIN_LIMIT:
        fleet.pending.origins.append(origin)
    return fleet.pending


def retry_without_preload(fleet: Fleet, generation: Generation, now: float) -> list[Step]:
    """Start the generation again in a template that imports nothing; workers import by themselves."""
    steps = _begin_again(fleet, generation, now)
    generation.retried = True
    return steps + start_template(fleet, generation.number, now, preload=False)


def show_failure(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> list[Step]:
    """Start the generation again in a template that imports nothing and shows why it could not."""
    steps = _begin_again(fleet, generation, now)
    generation.broken = failure
    return steps + start_template(fleet, generation.number, now, preload=True, failure=failure)


def _begin_again(fleet: Fleet, generation: Generation, now: float) -> list[Step]:
    """Let go of what there is of a generation that is being loaded."""
    steps: list[Step] = []
    for worker in list(fleet.workers.values()):
        if worker.generation == generation.number and worker.state.is_live:
            steps += kill_worker(worker, KillReason.DISCARDED, now)
    for slot in fleet.slots:
        if slot.next == generation.number:
            slot.next = None
    if generation.template_id is not None:
        template = fleet.templates.get(generation.template_id)
        if template is not None:
            if template.was_loaded or generation.unsafe_reasons:
                # It waits for orders, and ends what its import has started.
                steps += close_template(template, now)
            else:
                template.state = TemplateState.LEAVING
                steps += kill_template(template, now)
    if fleet.reload is not None:
        fleet.reload.phase = ReloadPhase.PREPARING
        fleet.reload.probation_until = None
    return steps


def fail(fleet: Fleet, failure: Failure, ending: Outcome, now: float) -> list[Step]:
    """Give the running reload up: what has changed goes back, what is new leaves."""
    reload = fleet.reload
    assert reload is not None
    assert reload.target is not None
    reload.failure = failure
    reload.ending = ending
    steps: list[Step] = []
    changed = [slot for slot in fleet.slots if slot.serves == reload.target and not slot.leaving]
    for slot in fleet.slots:
        if slot.next == reload.target:
            slot.next = None
            slot.not_before = now
    keep = {slot.index for slot in changed}
    for worker in list(fleet.workers.values()):
        if worker.generation == reload.target and worker.slot not in keep:
            steps += discard_worker(fleet, worker, now)
    if not changed:
        return steps + _conclude(fleet, reload, ending, now)
    if fleet.loaded_template(reload.source) is None:
        # Nothing to go back to: the generation that served has lost its template.
        return steps + _conclude(fleet, reload, ending, now)
    return steps + restore(fleet, changed, reload, now)


def restore(fleet: Fleet, slots: list[Slot], reload: Reload, now: float) -> list[Step]:
    """Let `slots` go back to the reload's source, all at once, from its template."""
    reload.phase = ReloadPhase.RESTORING
    reload.restore_deadline = now + fleet.policy.boot_timeout
    for slot in slots:
        slot.next = reload.source
        slot.not_before = now
        slot.failures = 0
    template = fleet.loaded_template(reload.source)
    if template is not None and template.preload:
        place = "from memory"
    else:
        place = "without preloading, so with what its files on disk say now"
    text = f"Generation {reload.target} is taken back: generation {reload.source} returns, {place}"
    return [Say("warning", text, generation=reload.target)]


def finish_restore(fleet: Fleet, now: float) -> list[Step]:
    """Every slot serves the source again, or the time for it is over."""
    assert fleet.reload is not None
    return _conclude(fleet, fleet.reload, fleet.reload.ending, now)


def revert(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> list[Step]:
    """Take back a committed generation that keeps dying. The caller has checked that one can go back."""
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
    slots = [slot for slot in fleet.slots if not slot.leaving]
    return restore(fleet, slots, reload, now)


def commit(fleet: Fleet, now: float) -> list[Step]:
    """Every slot serves the target and nothing old accepts connections."""
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
    if not fleet.policy.development:
        fleet.own_reloads = 0
    return _conclude(fleet, reload, Outcome.COMMITTED, now)


def abandon(fleet: Fleet, now: float) -> list[Step]:
    """The server stops: whoever waits for a reload is told so."""
    steps: list[Step] = []
    for reload in (fleet.reload, fleet.pending):
        if reload is not None:
            steps += _conclude(fleet, reload, Outcome.ABANDONED, now)
    fleet.pending = None
    return steps


def _conclude(fleet: Fleet, reload: Reload, outcome: Outcome, now: float) -> list[Step]:
    """Speak the verdict."""
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
    steps: list[Step] = [SpeakVerdict(reload.reload_id)]
    if outcome is Outcome.FAILED and fleet.serving != reload.target:
        # The first try of our own to replace a lost template comes soon, later ones back off.
        fleet.own_reloads += 1
        fleet.reload_not_before = now + delay(fleet.own_reloads + 1, fleet.rng)
    if fleet.serving is None and outcome is Outcome.FAILED and fleet.policy.development:
        steps.append(Say("warning", "Nothing serves yet; waiting for the next change"))
    return steps


def stop(fleet: Fleet, now: float, *, exit_code: int, at_once: bool) -> list[Step]:
    """Begin to stop, or, when stopping already, hurry."""
    steps: list[Step] = []
    if fleet.phase is Phase.SERVING:
        fleet.phase = Phase.STOPPING
        fleet.exit_code = exit_code
        steps += [StopAccepting(), *abandon(fleet, now)]
        for worker in list(fleet.workers.values()):
            if worker.state is State.READY and not at_once:
                steps += drain_worker(fleet, worker, DrainReason.STOP, now)
            elif worker.state.is_live:
                steps += kill_worker(worker, KillReason.STOP, now)
        for template in fleet.templates.values():
            if not template.cleans_up:
                template.state = TemplateState.LEAVING
                steps += kill_template(template, now)
            # The others end after their workers: `reconcile` sees to that.
    if at_once:
        for worker in fleet.workers.values():
            if worker.state not in (State.DYING, State.GONE):
                steps += kill_worker(worker, KillReason.STOP, now)
    return steps


def finish(fleet: Fleet) -> list[Step]:
    """Everything has left: end with an exit code that says how the stop went."""
    fleet.phase = Phase.FINISHED
    steps: list[Step] = []
    failures = fleet.shutdown_failures_at_stop
    if failures and fleet.exit_code == 0:
        fleet.exit_code = ShutdownError.exit_code
        which = "one worker" if failures == 1 else f"{failures} workers"
        text = f"The exit code is {fleet.exit_code}, because the lifespan shutdown of {which} did not succeed"
        steps.append(Say("error", text))
    return [*steps, Finish(fleet.exit_code)]
