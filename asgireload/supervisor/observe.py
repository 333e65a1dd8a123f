"""What an event means for the picture. Pure: it may ask for steps, it does none.

`apply()` only records and judges; filling slots, promoting and retiring is left to `reconcile`.
"""

from asgireload.draining import DrainReason
from asgireload.errors import join_clauses
from asgireload.ipc.exit_time import exit_deadline, failed_exit_timeout
from asgireload.supervisor import rollout_transitions, stopping, transitions
from asgireload.supervisor.backoff import STEADY_AFTER, delay
from asgireload.supervisor.events import (
    CodeChanging,
    Event,
    HoldWorker,
    OpenSlot,
    ReloadRequested,
    Say,
    ScaleRequested,
    Step,
    StopRequested,
    SuccessorSpent,
    TemplateExited,
    TemplateFailed,
    TemplateLoaded,
    TemplateUnsafe,
    WorkerDrained,
    WorkerExited,
    WorkerFailed,
    WorkerObserved,
    WorkerReachedStage,
    WorkerReady,
    WorkerStarted,
    WorkerStoppedAccepting,
    WorkerWaits,
)
from asgireload.supervisor.fleet import (
    OLD_GENERATIONS,
    Fleet,
    Generation,
    KillReason,
    Phase,
    Slot,
    Template,
    TemplateState,
    Worker,
)
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.reloads import Failure, Outcome, ReloadPhase
from asgireload.supervisor.waiting import note_report

EARLY_DEATHS_LIMIT = 3
"""Crashes of a generation under trial that take it back; 2 where fewer than three workers serve."""
DEBUGGER_GRACE = 5.0
"""Seconds that a draining worker gets beyond the last look that found it in a debugger: more than lie
between two looks."""
CRASHES_SHOWN_AFTER = 2
"""Development: deaths of young workers in one slot, after which a page says so instead of another try."""
SERVING_STEADILY = 1.0
"""Seconds a worker must be ready for the server to count as serving, for `give_up_after`."""


def apply(fleet: Fleet, event: Event, now: float) -> list[Step]:
    """Record `event`. Children that the picture does not know any more are ignored."""
    match event:
        case TemplateLoaded():
            return _template_loaded(fleet, event)
        case TemplateUnsafe():
            return _template_unsafe(fleet, event, now)
        case TemplateFailed():
            return _template_failed(fleet, event, now)
        case TemplateExited():
            return _template_exited(fleet, event, now)
        case CodeChanging():
            return _code_changing(fleet, event, now)
        case ReloadRequested():
            return _reload_requested(fleet, event, now)
        case ScaleRequested():
            return _scale_requested(fleet, event)
        case StopRequested():
            return stopping.stop(fleet, now, exit_code=event.exit_code, at_once=event.at_once)
        case _:
            worker = fleet.workers.get(event.worker_id)
            return _worker_event(fleet, worker, event, now) if worker is not None else []


# --- templates ------------------------------------------------------------------------------------


def _template_loaded(fleet: Fleet, event: TemplateLoaded) -> list[Step]:
    template = fleet.templates.get(event.template_id)
    if template is None or template.state is not TemplateState.LOADING:
        return []
    template.state = TemplateState.LOADED
    template.was_loaded = True
    template.cleans_up = event.cleans_up
    template.deadline = None
    generation = fleet.generations[template.generation]
    generation.broken = generation.broken or event.broken
    if template.preload and event.broken is None:
        fleet.is_unsafe = False
    if fleet.reload is not None and fleet.reload.target == template.generation:
        fleet.reload.detail = event.detail
    if event.native_threads:
        names = ", ".join(event.native_threads)
        return [
            Say(
                "debug",
                f"Libraries of the application run native threads that survive a fork: {names}",
                generation=template.generation,
            )
        ]
    return []


def _template_unsafe(fleet: Fleet, event: TemplateUnsafe, now: float) -> list[Step]:
    template = fleet.templates.get(event.template_id)
    if template is None or template.state is not TemplateState.LOADING:
        return []
    generation = fleet.generations[template.generation]
    generation.unsafe_reasons = event.reasons
    fleet.is_unsafe = True
    if event.needs_loop:
        fleet.imports_in_loop = True
    warning = Say(
        "warning",
        "The application cannot be shared by forking, so each worker imports it by itself: "
        + "; ".join(event.reasons)
        + ". Move this into the lifespan startup, or silence this with --no-preload.",
        generation=template.generation,
    )
    return [warning, *rollout_transitions.retry_without_preload(fleet, generation, now)]


def _template_failed(fleet: Fleet, event: TemplateFailed, now: float) -> list[Step]:
    template = fleet.templates.get(event.template_id)
    if template is None or template.state is not TemplateState.LOADING:
        return []
    template.state = TemplateState.LEAVING
    failure = Failure(event.stage, event.summary, event.traceback)
    return [
        *transitions.close_template(template, now),
        *_loading_failed(fleet, template, failure, now),
    ]


def _template_exited(fleet: Fleet, event: TemplateExited, now: float) -> list[Step]:
    template = fleet.templates.pop(event.template_id, None)
    if template is None:
        return []
    generation = fleet.generations[template.generation]
    current = generation.template_id == template.template_id
    if current:
        generation.template_id = None
    if template.state is TemplateState.LEAVING or not current or fleet.phase is not Phase.SERVING:
        return []
    if template.state is TemplateState.LOADING:
        if template.dumped:
            summary = f"the application was not imported within {fleet.policy.boot_timeout:g} s"
        else:
            summary = f"the process ended while it imported the application: {event.description}"
        return _loading_failed(fleet, template, Failure("import", summary, event.fault), now)
    # A template that had loaded is gone. Its workers live on.
    fleet.previous = [number for number in fleet.previous if number != template.generation]
    reload = fleet.reload
    if (
        reload is not None
        and reload.target == template.generation
        and reload.source is not None
        and reload.phase is not ReloadPhase.RESTORING
    ):
        failure = Failure("boot", f"the template died: {event.description}", event.fault)
        return _refuse(fleet, generation, failure, now)
    if template.generation != fleet.serving:
        return []
    text = (
        f"The template of generation {template.generation} died ({event.description}); its workers go on, "
        "and a new one is made when it is needed"
    )
    return [Say("error", text, generation=template.generation)]


def _loading_failed(fleet: Fleet, template: Template, failure: Failure, now: float) -> list[Step]:
    fleet.generations[template.generation].template_id = None
    reload = fleet.reload
    if reload is None or reload.target != template.generation:
        # A template without code that was to replace a lost one: tried again by reconcile.
        return [Say("error", f"Template: {failure.summary}", generation=template.generation)]
    return _refuse(fleet, fleet.generations[template.generation], failure, now)


def _refuse(fleet: Fleet, generation: Generation, failure: Failure, now: float) -> list[Step]:
    """The generation that is being loaded cannot be started. In development that is shown, once."""
    if fleet.policy.development and generation.broken is None:
        return rollout_transitions.show_failure(fleet, generation, failure, now)
    return rollout_transitions.fail(fleet, failure, Outcome.FAILED, now)


# --- workers --------------------------------------------------------------------------------------


def _worker_event(fleet: Fleet, worker: Worker, event: Event, now: float) -> list[Step]:
    match event:
        case WorkerStarted():
            worker.state = advance(worker.state, Change.STARTED)
            worker.pid = event.pid
        case WorkerReachedStage():
            worker.stage = event.stage
        case WorkerReady():
            return _worker_ready(fleet, worker, event, now)
        case WorkerFailed():
            if event.other_way and _may_turn(fleet, worker):
                return _import_other_way(fleet, worker, now)
            worker.failure = Failure(event.stage, event.summary, event.traceback, worker.slot)
            if worker.deadline is not None:
                # The verdict waits for its exit: threads and exit handlers get a moment and no more.
                timeout = failed_exit_timeout(fleet.policy.exit_timeout)
                worker.deadline = min(worker.deadline, now + timeout)
        case WorkerStoppedAccepting():
            worker.stopped_accepting = True
            if worker.state is State.READY:
                return _leaves_by_itself(fleet, worker, now)
        case WorkerWaits():
            note_report(fleet, worker, event.waits, now)
        case SuccessorSpent():
            worker.spent_successors.add(event.successor)
        case WorkerDrained():
            _worker_drained(fleet, worker, event, now)
        case WorkerExited():
            return _worker_exited(fleet, worker, event, now)
        case WorkerObserved():
            return _worker_observed(fleet, worker, event, now)
        case _:
            raise AssertionError(event)
    return []


def _worker_ready(fleet: Fleet, worker: Worker, event: WorkerReady, now: float) -> list[Step]:
    worker.state = advance(worker.state, Change.READY)
    if worker.state is not State.READY:
        return []
    worker.ready_at = now
    worker.has_lifespan = event.has_lifespan
    worker.deadline = None
    generation = fleet.generations[worker.generation]
    generation.proven = True
    generation.broken = generation.broken or event.broken
    if fleet.reload is not None:
        fleet.reload.note(worker.slot, "ready", now, worker.generation)
    return []


def _may_turn(fleet: Fleet, worker: Worker) -> bool:
    """Whether the import is to be tried in the way that this worker has not tried."""
    has_turned = fleet.generations[worker.generation].has_turned
    return not has_turned or worker.imports_in_loop is not fleet.imports_in_loop


def _import_other_way(fleet: Fleet, worker: Worker, now: float) -> list[Step]:
    """Let the next worker import the application in its running event loop, or before it runs."""
    steps: list[Step] = []
    if worker.imports_in_loop is fleet.imports_in_loop:
        fleet.imports_in_loop = not fleet.imports_in_loop
        fleet.generations[worker.generation].has_turned = True
        if fleet.imports_in_loop:
            text = (
                "The import needs a running event loop, so workers import the application in theirs"
            )
        else:
            text = "The import starts an event loop itself, so workers import the application before theirs runs"
        steps.append(Say("info", text, generation=worker.generation))
    # What it has half imported is of no use; its slot is filled again when it has ended.
    return steps + transitions.kill_worker(worker, KillReason.DISCARDED, now)


def _leaves_by_itself(fleet: Fleet, worker: Worker, now: float) -> list[Step]:
    """The worker got SIGTERM, from whomever: it drains, and its slot is filled meanwhile.

    An operator does that once, and wants no error for it. Code that does it to itself as soon as it is ready would
    be forked in a tight loop, so a worker that leaves young counts like one that died young.
    """
    transitions.begin_drain(fleet.policy, worker, DrainReason.RECYCLE, now)
    slot = next(slot for slot in fleet.slots if slot.index == worker.slot)
    assert worker.ready_at is not None
    age = now - worker.ready_at
    if age >= STEADY_AFTER:
        slot.failures = 0
        return []
    summary = f"worker {worker.pid} was told to leave by SIGTERM {age:.1f} s after it was ready"
    failure = Failure("trial", summary, "", slot.index)
    steps = _fill_later(fleet, slot, worker, failure, now, is_error=slot.failures > 0)
    generation = fleet.generations[worker.generation]
    return steps + _count_early_death(fleet, generation, failure, now)


def _worker_drained(fleet: Fleet, worker: Worker, event: WorkerDrained, now: float) -> None:
    worker.stopped_accepting = True
    worker.drained = True
    worker.shutdown_failure = event.shutdown_failure
    if worker.state is State.DRAINING:
        worker.deadline = exit_deadline(fleet.policy.exit_timeout, worker.drain_deadline, now)
        worker.exit_seconds = worker.deadline - now
    if worker.reload is not None:
        worker.reload.exchanges_cut += event.exchanges_cut
        worker.reload.websockets_closed += event.websockets_closed
        worker.reload.handed_over += event.handed_over
        worker.reload.came_back += event.came_back


def _worker_observed(fleet: Fleet, worker: Worker, event: WorkerObserved, now: float) -> list[Step]:
    age = event.heartbeat_age
    if worker.state is State.DRAINING and event.is_asleep and fleet.phase is Phase.SERVING:
        # The developer looks at something in the old code; the new code serves beside it.
        worker.deadline = max(worker.deadline or now, now + DEBUGGER_GRACE)
    if worker.state is not State.READY:
        return []
    is_patient = fleet.policy.is_patient
    if age is not None and age > fleet.policy.heartbeat_timeout and not is_patient:
        text = f"Worker {worker.pid} has not turned its loop for {age:.1f} s and is replaced"
        return [
            Say("error", text, slot=worker.slot, generation=worker.generation),
            *transitions.kill_worker(worker, KillReason.STALLED, now, dump=True),
        ]
    if not worker.recycle:
        if worker.request_limit is not None and event.requests >= worker.request_limit:
            worker.recycle = f"{event.requests} requests"
        elif (
            fleet.policy.max_rss is not None
            and event.rss_bytes is not None
            and event.rss_bytes >= fleet.policy.max_rss
        ):
            worker.recycle = f"{event.rss_bytes // 1048576} MiB of memory"
    return []


def _worker_exited(fleet: Fleet, worker: Worker, event: WorkerExited, now: float) -> list[Step]:
    fleet.remove_worker(worker)
    worker.state = advance(worker.state, Change.EXITED)
    _count_exit(fleet, worker, event)
    if worker.ready_at is not None and now - worker.ready_at >= SERVING_STEADILY:
        fleet.last_serving_at = now
    if worker.drain_reason is not None:
        return _left_after_drain(fleet, worker, event, now)
    if worker.killed_for in (KillReason.DISCARDED, KillReason.STOP):
        return []
    if fleet.phase is not Phase.SERVING:
        return []
    slot = next(slot for slot in fleet.slots if slot.index == worker.slot)
    generation = fleet.generations[worker.generation]
    if worker.ready_at is None:
        failure = worker.failure or _silent_failure(fleet, worker, event)
        return _boot_failed(fleet, worker, slot, generation, failure, now)
    return _crashed(fleet, worker, slot, generation, event, now)


def _count_exit(fleet: Fleet, worker: Worker, event: WorkerExited) -> None:
    if worker.killed_for is KillReason.STALLED:
        kind = "stalled"
    elif worker.killed_for is KillReason.DISCARDED:
        kind = "discarded"
    elif worker.killed_for is not None:
        kind = "killed"
    elif worker.drain_reason is not None and event.clean:
        kind = "clean"
    else:
        kind = "crashed"
    fleet.exits[kind] += 1


def _left_after_drain(fleet: Fleet, worker: Worker, event: WorkerExited, now: float) -> list[Step]:
    killed = worker.killed_for is not None
    failure = _shutdown_failure(worker, event)
    steps: list[Step] = []
    if failure:
        _count_shutdown_failure(fleet, worker)
        text = f"The lifespan shutdown of worker {worker.pid} did not succeed: {failure}"
        steps.append(Say("error", text, slot=worker.slot, generation=worker.generation))
    reload = worker.reload
    if reload is not None:
        if worker.killed_for is not None:
            reload.killed += 1
            reload.note(worker.slot, "killed", now, worker.generation, worker.killed_for.value)
        elif event.clean or worker.drained:
            reload.drained += 1
            reload.note(worker.slot, "drained", now, worker.generation)
        else:
            reload.crashed += 1
            reload.note(worker.slot, "crashed", now, worker.generation, event.description)
    if worker.killed_for is KillReason.CROWDED:
        text = (
            f"Worker {worker.pid} was ended before its time: {OLD_GENERATIONS} old generations still drained, "
            "and newer code is to be loaded"
        )
    elif worker.killed_for is KillReason.EXIT_TIMEOUT:
        doing = f", while it was {event.doing}" if event.doing else ""
        text = (
            f"Worker {worker.pid} had not exited {worker.exit_seconds:.1f} s after it had drained and was"
            f" killed{doing}; if it needs longer, raise --exit-timeout"
        )
    elif killed and worker.killed_for is not KillReason.STOP:
        policy = fleet.policy
        text = (
            f"Worker {worker.pid} did not leave in time and was killed: its drain and its lifespan shutdown took"
            f" more than {policy.drain_timeout + policy.lifespan_timeout:g} s (--drain-timeout, --lifespan-timeout)"
        )
    elif not killed and not event.clean:
        text = f"Worker {worker.pid} ended while it drained: {event.description}"
    else:
        return steps
    if event.fault:
        text += f"\n{event.fault}"
    return [Say("warning", text, slot=worker.slot, generation=worker.generation), *steps]


def _shutdown_failure(worker: Worker, event: WorkerExited) -> str:
    """Return why the application's lifespan shutdown did not succeed; empty: it did, or nobody can complain.

    Whoever stops the server at once does without it.
    """
    if worker.drained:
        return worker.shutdown_failure
    if not worker.has_lifespan or worker.killed_for is KillReason.STOP:
        return ""
    if worker.killed_for is not None:
        return "the worker was killed before it was complete"
    return f"the worker ended before it was complete ({event.description})"


def _count_shutdown_failure(fleet: Fleet, worker: Worker) -> None:
    fleet.shutdown_failures += 1
    if fleet.phase is Phase.STOPPING:
        fleet.shutdown_failures_at_stop += 1
    if worker.reload is not None:
        worker.reload.shutdown_failures += 1


def _silent_failure(fleet: Fleet, worker: Worker, event: WorkerExited) -> Failure:
    """The worker died, or was killed for being late, without a word of its own."""
    if worker.killed_for is KillReason.BOOT_TIMEOUT:
        summary = f"not ready within {fleet.policy.boot_timeout:g} s"
    else:
        summary = f"the worker died before it was ready: {event.description}"
    return Failure(worker.stage, summary, event.fault, worker.slot)


def _boot_failed(
    fleet: Fleet,
    worker: Worker,
    slot: Slot,
    generation: Generation,
    failure: Failure,
    now: float,
) -> list[Step]:
    reload = fleet.reload
    if reload is None or reload.target != generation.number or slot.next != generation.number:
        steps = _fill_later(fleet, slot, worker, failure, now)
        return steps + _count_early_death(fleet, generation, failure, now)
    if _may_retry(fleet, worker, generation):
        text = (
            f"The first forked worker failed without a word ({failure.summary}); "
            "trying once without preloading"
        )
        warning = Say("warning", text, slot=slot.index, generation=generation.number)
        return [warning, *rollout_transitions.retry_without_preload(fleet, generation, now)]
    if reload.source is None and any(other.serves == generation.number for other in fleet.slots):
        # The first load, and others serve already: this slot is filled like after a crash.
        slot.serves, slot.next = generation.number, None
        return _fill_later(fleet, slot, worker, failure, now)
    reload.note(slot.index, "crashed", now, generation.number, failure.summary)
    return _refuse(fleet, generation, failure, now)


def _may_retry(fleet: Fleet, worker: Worker, generation: Generation) -> bool:
    template = fleet.templates.get(worker.template_id)
    return (
        fleet.policy.preload is None
        and worker.failure is None
        and not generation.proven
        and not generation.retried
        and template is not None
        and template.preload
        and template.state is TemplateState.LOADED
    )


def _crashed(
    fleet: Fleet,
    worker: Worker,
    slot: Slot,
    generation: Generation,
    event: WorkerExited,
    now: float,
) -> list[Step]:
    fleet.restarts += 1
    assert worker.ready_at is not None
    what = "stalled" if worker.killed_for is KillReason.STALLED else event.description
    age = now - worker.ready_at
    failure = Failure(
        "trial",
        f"worker {worker.pid} died {age:.1f} s after it was ready: {what}",
        event.fault,
        slot.index,
    )
    reload = fleet.reload
    if reload is not None and reload.target == generation.number and reload.source is not None:
        if reload.phase in (ReloadPhase.PROBATION, ReloadPhase.ROLLING):
            reload.note(slot.index, "crashed", now, generation.number, what)
            stage = "probation" if reload.phase is ReloadPhase.PROBATION else "roll"
            failure = Failure(stage, failure.summary, failure.traceback, slot.index)
            return rollout_transitions.fail(fleet, failure, Outcome.FAILED, now)
        if reload.phase is ReloadPhase.RESTORING:
            return []
    if age >= STEADY_AFTER:
        slot.failures = 0
        if fleet.policy.development:
            fleet.own_reloads = 0
    steps = _fill_later(fleet, slot, worker, failure, now)
    is_hopeless = fleet.own_reloads >= 1 or slot.failures > CRASHES_SHOWN_AFTER
    if fleet.policy.development and is_hopeless and fleet.reload is None and age < STEADY_AFTER:
        return steps + rollout_transitions.show_crash(fleet, failure, now)
    return steps + _count_early_death(fleet, generation, failure, now)


def _count_early_death(
    fleet: Fleet, generation: Generation, failure: Failure, now: float
) -> list[Step]:
    """A worker of a generation under trial died, or could not be replaced: too often, and it goes back."""
    if generation.number != fleet.serving or generation.trial_until is None:
        return []
    if now >= generation.trial_until:
        return []
    generation.early_deaths += 1
    generation.trial_until = now + fleet.policy.revert_window
    limit = EARLY_DEATHS_LIMIT if fleet.wanted_count >= EARLY_DEATHS_LIMIT else 2
    if generation.early_deaths < limit or not _can_revert(fleet):
        return []
    return rollout_transitions.revert(fleet, generation, failure, now)


def _can_revert(fleet: Fleet) -> bool:
    return (
        fleet.reload is None
        and bool(fleet.previous)
        and fleet.loaded_template(fleet.previous[0]) is not None
    )


def _fill_later(
    fleet: Fleet,
    slot: Slot,
    worker: Worker,
    failure: Failure,
    now: float,
    *,
    is_error: bool = True,
) -> list[Step]:
    """Let the slot be filled again, after its backoff."""
    slot.failures += 1
    wait = delay(slot.failures, fleet.rng)
    slot.not_before = now + wait
    when = f"a new worker starts in {wait:.1f} s" if wait else "a new worker starts"
    stage = "" if failure.stage == "trial" else f"{failure.stage}: "
    text = join_clauses(f"{stage}{failure.summary}", when)
    if failure.traceback:
        text += f"\n{failure.traceback}"
    level = "error" if is_error else "info"
    return [Say(level, text, slot=slot.index, generation=worker.generation)]


# --- commands -------------------------------------------------------------------------------------


def _code_changing(fleet: Fleet, event: CodeChanging, now: float) -> list[Step]:
    if fleet.phase is not Phase.SERVING:
        return []
    fleet.is_changing = True
    fleet.changed_at = now
    fleet.own_reloads = 0
    fleet.reload_not_before = now
    # Workers that were held too long have gone on; for what is saved now they wait again.
    steps: list[Step] = [
        HoldWorker(worker.worker_id)
        for worker in fleet.workers.values()
        if worker.is_held and worker.state.is_live
    ]
    return steps + (_supersede(fleet, now) if event.gives_up else [])


def _supersede(fleet: Fleet, now: float) -> list[Step]:
    """Give up a reload whose code is still booting."""
    running = fleet.reload
    if running is None or running.phase not in (ReloadPhase.PREPARING, ReloadPhase.PROVING):
        return []
    failure = Failure("import", "newer code arrived while this one was starting")
    return rollout_transitions.fail(fleet, failure, Outcome.SUPERSEDED, now)


def _reload_requested(fleet: Fleet, event: ReloadRequested, now: float) -> list[Step]:
    if fleet.phase is not Phase.SERVING:
        return []
    fleet.is_changing = False
    rollout_transitions.ask_reload(fleet, event.origin, now).shows = None
    return _supersede(fleet, now) if event.supersede else []


def _scale_requested(fleet: Fleet, event: ScaleRequested) -> list[Step]:
    wanted = max(1, min(event.workers, fleet.policy.max_workers))
    if wanted == fleet.wanted_count or fleet.phase is not Phase.SERVING:
        return []
    text = f"Scaling from {fleet.wanted_count} to {wanted} workers"
    steps: list[Step] = [Say("info", text)]
    if wanted < fleet.wanted_count:
        for slot in fleet.slots[wanted:]:
            slot.leaving = True
            slot.next = None
        return steps
    serves, upcoming = _generations_for_new_slot(fleet)
    for slot in fleet.slots[:wanted]:
        if slot.leaving:
            slot.leaving = False
            slot.serves, slot.next = serves, upcoming
            # Opening gives it connections again; reconcile looks whether anybody takes them.
            fleet.steered_away -= {slot.index}
            steps.append(OpenSlot(slot.index))
    while len(fleet.slots) < wanted:
        slot = Slot(len(fleet.slots), serves=serves, next=upcoming)
        fleet.slots.append(slot)
        steps.append(OpenSlot(slot.index))
    return steps


def _generations_for_new_slot(fleet: Fleet) -> tuple[int | None, int | None]:
    """What a new slot serves and what it changes to, in the middle of a reload or not."""
    reload = fleet.reload
    if reload is not None and reload.phase is ReloadPhase.RESTORING:
        return reload.source, None
    if fleet.serving is None and reload is not None and reload.phase is ReloadPhase.PROVING:
        return None, reload.target
    return fleet.serving, None
