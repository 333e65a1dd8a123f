"""Apply events to the picture of the children. Pure: returns steps and does none.

`apply()` records and judges; filling, promoting and retiring is left to `reconcile`.
"""

from msgspec.structs import replace

from asgireload.draining import DrainReason
from asgireload.errors import join_clauses
from asgireload.failures import Failure
from asgireload.ipc.exit_time import exit_deadline, failed_exit_timeout
from asgireload.ipc.messages import (
    AppFailed,
    AppLoaded,
    AppUnsafe,
    ChildStarted,
    ForkFailed,
    SuccessorSpent,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerReady,
    WorkerStage,
    WorkerWaits,
)
from asgireload.supervisor import rollout_transitions, stopping, transitions
from asgireload.supervisor.backoff import STEADY_AFTER, delay
from asgireload.supervisor.events import (
    ChildExited,
    ChildObserved,
    ChildSaid,
    CodeChanging,
    Event,
    HoldWorker,
    Log,
    OpenSlot,
    ReloadRequested,
    ScaleRequested,
    Step,
    StopRequested,
    TrafficObserved,
)
from asgireload.supervisor.fleet import (
    EXIT_KINDS,
    Child,
    Fleet,
    Generation,
    KillReason,
    Phase,
    Slot,
    Template,
    Worker,
)
from asgireload.supervisor.lifecycle import Change, State
from asgireload.supervisor.plans import FailureAction
from asgireload.supervisor.reloads import Outcome
from asgireload.supervisor.waiting import note_report

EARLY_DEATHS_LIMIT = 3
"""Crashes after which a generation on trial is reverted; 2 when fewer than three workers are wanted."""
DEBUGGER_GRACE = 5.0
"""Seconds that a draining worker gets after each observation that found it in a debugger: more than the interval
between two observations."""
CRASHES_SHOWN_AFTER = 2
"""Deaths of young workers in one slot after which a page shows the crash, if the policy shows failures."""
SERVING_STEADILY = 1.0
"""Seconds that a worker must be ready for the server to count as serving, for `give_up_after`."""


def apply(fleet: Fleet, event: Event, now: float) -> list[Step]:
    """Record `event`; return steps. Events of children that are not in the picture any more are ignored."""
    match event:
        case CodeChanging():
            return _code_changing(fleet, event, now)
        case TrafficObserved():
            if fleet.reload is not None:
                fleet.reload.window.note_traffic(event.by_generation, now)
            return []
        case ReloadRequested():
            return _reload_requested(fleet, event, now)
        case ScaleRequested():
            return _scale_requested(fleet, event)
        case StopRequested():
            return stopping.stop(fleet, now, exit_code=event.exit_code, at_once=event.at_once)
    child = fleet.children.get(event.child_id)
    if child is None:
        return []
    match event:
        case ChildSaid():
            return _said(fleet, child, event, now)
        case ChildObserved():
            return _observed(fleet, child, event, now)
        case ChildExited():
            return _exited(fleet, child, event, now)


# --- messages of children -------------------------------------------------------------------------


def _said(fleet: Fleet, child: Child, event: ChildSaid, now: float) -> list[Step]:
    message = event.message
    match message:
        case ChildStarted():
            child.advance(Change.STARTED)
            child.pid = message.pid
            return []
        case WorkerStage():
            child.stage = message.stage
            return []
        case WorkerReady():
            return _ready(fleet, child, message, now)
        case WorkerFailed():
            return _boot_has_failed(fleet, child, message, now)
        case ForkFailed():
            child.failure = Failure("boot", message.error, "", child.place)
            return _expect_exit(fleet, child, now)
        case WorkerDraining():
            if isinstance(child, Worker):
                child.stopped_accepting = True
            return _leaves_by_itself(fleet, child, now) if child.state is State.READY else []
        case WorkerDrained():
            _drained(fleet, child, message, now)
            return []
    if isinstance(child, Template):
        return _template_said(fleet, child, event, now)
    assert isinstance(child, Worker)
    match message:
        case WorkerWaits():
            note_report(fleet, child, message, now)
        case SuccessorSpent():
            child.spent_targets.add(message.successor)
        case _:
            raise AssertionError(message)
    return []


def _template_said(fleet: Fleet, template: Template, event: ChildSaid, now: float) -> list[Step]:
    message = event.message
    if not template.state.is_booting:
        return []  # the template was let go or killed before the message was read
    match message:
        case AppLoaded():
            return _loaded(fleet, template, message, event.detail, now)
        case AppUnsafe():
            return _unsafe(fleet, template, message, now)
        case AppFailed():
            return [
                *transitions.let_go(template, now),
                *_loading_failed(fleet, template, message.failure, now),
            ]
        case _:
            raise AssertionError(message)


# --- templates ------------------------------------------------------------------------------------


def _loaded(
    fleet: Fleet, template: Template, message: AppLoaded, detail: str, now: float
) -> list[Step]:
    template.advance(Change.READY)
    template.ready_at = now
    template.cleans_up = message.cleans_up
    template.deadline = None
    generation = fleet.generations[template.generation]
    generation.broken = generation.broken or message.failure
    if template.preload and message.failure is None:
        fleet.is_unsafe = False
    if fleet.reload is not None and fleet.reload.target == template.generation:
        fleet.reload.detail = detail
    if message.native_threads:
        names = ", ".join(message.native_threads)
        text = f"Libraries of the application run native threads that survive a fork: {names}"
        return [transitions.log_about(template, "debug", text)]
    return []


def _unsafe(fleet: Fleet, template: Template, message: AppUnsafe, now: float) -> list[Step]:
    generation = fleet.generations[template.generation]
    generation.unsafe_reasons = message.reasons
    fleet.is_unsafe = True
    if message.needs_loop:
        fleet.imports_in_loop = True
    text = (
        "The application cannot be shared by forking, so each worker imports it by itself: "
        + "; ".join(message.reasons)
        + ". Move this into the lifespan startup, or silence this with --no-preload."
    )
    warning = transitions.log_about(template, "warning", text)
    return [warning, *rollout_transitions.retry_without_preload(fleet, generation, now)]


def _template_exited(
    fleet: Fleet, template: Template, before: State, event: ChildExited, now: float
) -> list[Step]:
    """Handle the exit of a template. `before` is its state at that time."""
    generation = fleet.generations[template.generation]
    is_current = generation.template_id == template.child_id
    if is_current:
        generation.template_id = None
    is_late = before is State.DYING and template.killed_for is KillReason.BOOT_TIMEOUT
    if not (before.is_live or is_late) or not is_current or fleet.phase is not Phase.SERVING:
        return []
    if before is not State.READY:
        if is_late:
            summary = f"the application was not imported within {fleet.policy.boot_timeout:g} s"
        else:
            summary = f"the process ended while it imported the application: {event.description}"
        return _loading_failed(fleet, template, Failure("import", summary, event.fault), now)
    # A template that had loaded the application is gone; its workers continue.
    fleet.previous = [number for number in fleet.previous if number != template.generation]
    reload = fleet.reload
    if reload is not None and reload.target == template.generation and reload.refused is None:
        action = reload.stage.on_failure.template
        if action is not FailureAction.GO_ON:
            summary = f"the template died: {event.description}"
            failure = Failure("boot", summary, event.fault)
            return rollout_transitions.respond(fleet, action, failure, now)
    if template.generation != fleet.serving:
        return []
    text = (
        f"The template of generation {template.generation} died ({event.description}); its workers go on, "
        "and a new one is made when it is needed"
    )
    return [transitions.log_about(template, "error", text)]


def _loading_failed(fleet: Fleet, template: Template, failure: Failure, now: float) -> list[Step]:
    fleet.generations[template.generation].template_id = None
    reload = fleet.reload
    if reload is not None and reload.target == template.generation and reload.refused is None:
        action = reload.stage.on_failure.start
        if action is not FailureAction.GO_ON:
            return rollout_transitions.respond(fleet, action, failure, now)
    # A template without code that was to replace a lost one: `reconcile` starts another.
    return [transitions.log_about(template, "error", f"Template: {failure.summary}")]


# --- children that have places --------------------------------------------------------------------


def _ready(fleet: Fleet, child: Child, message: WorkerReady, now: float) -> list[Step]:
    child.advance(Change.READY)
    if child.state is not State.READY:
        return []
    child.ready_at = now
    child.deadline = None
    if isinstance(child, Worker):
        child.has_lifespan = message.has_lifespan
    generation = fleet.generations[child.generation]
    generation.proven = True
    generation.broken = generation.broken or message.failure
    transitions.note(fleet.reload, child, "ready", now)
    return []


def _boot_has_failed(fleet: Fleet, child: Child, message: WorkerFailed, now: float) -> list[Step]:
    if message.other_way and isinstance(child, Worker) and _may_turn(fleet, child):
        return _import_other_way(fleet, child, now)
    child.failure = replace(message.failure, slot=child.place)
    return _expect_exit(fleet, child, now)


def _expect_exit(fleet: Fleet, child: Child, now: float) -> list[Step]:
    """Wait for the exit of a failed child before the failure is judged, for a short time only."""
    if child.deadline is not None:
        child.deadline = min(child.deadline, now + failed_exit_timeout(fleet.policy.exit_timeout))
    return []


def _may_turn(fleet: Fleet, worker: Worker) -> bool:
    """Return whether the import may be tried the other way: in the worker's event loop, or before it runs."""
    has_turned = fleet.generations[worker.generation].has_turned
    return not has_turned or worker.imports_in_loop is not fleet.imports_in_loop


def _import_other_way(fleet: Fleet, worker: Worker, now: float) -> list[Step]:
    """Let the next worker import the application the other way: in its running event loop, or before it runs."""
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
        steps.append(Log("info", text, generation=worker.generation))
    # The partial import is of no use; the slot is filled again when the worker has ended.
    return steps + transitions.kill_child(worker, KillReason.DISCARDED, now)


def _leaves_by_itself(fleet: Fleet, child: Child, now: float) -> list[Step]:
    """Handle a child that drains because of a SIGTERM of unknown origin; its slot is filled meanwhile.

    An operator may send one SIGTERM, and expects no error for it. Code that sends it to its own process as soon as
    it is ready would be forked in a tight loop, so a young child that leaves counts as one that died young.
    """
    transitions.begin_drain(fleet.policy, child, DrainReason.RECYCLE, now)
    slot = fleet.slot_of(child)
    assert child.ready_at is not None
    age = now - child.ready_at
    if age >= STEADY_AFTER:
        slot.failures = 0
        return []
    summary = (
        f"{child.role.name} {child.pid} was told to leave by SIGTERM {age:.1f} s after it was ready"
    )
    failure = Failure("trial", summary, "", slot.index)
    steps = _fill_later(fleet, slot, child, failure, now, is_error=slot.failures > 0)
    generation = fleet.generations[child.generation]
    return steps + _count_early_death(fleet, generation, failure, now)


def _drained(fleet: Fleet, child: Child, message: WorkerDrained, now: float) -> None:
    child.drained = True
    if isinstance(child, Worker):
        child.stopped_accepting = True
        child.shutdown_failure = message.shutdown_failure
    if child.state is State.DRAINING:
        child.deadline = exit_deadline(fleet.policy.exit_timeout, child.drain_deadline, now)
        child.exit_seconds = child.deadline - now
    if child.reload is not None:
        child.reload.exchanges_cut += message.exchanges_cut
        child.reload.websockets_closed += message.websockets_closed
        child.reload.handed_over += message.handed_over
        child.reload.came_back += message.came_back


def _observed(fleet: Fleet, child: Child, event: ChildObserved, now: float) -> list[Step]:
    age = event.heartbeat_age
    if child.state is State.DRAINING and event.is_asleep and fleet.phase is Phase.SERVING:
        # A developer is debugging the old code; the new code serves beside it.
        child.deadline = max(child.deadline or now, now + DEBUGGER_GRACE)
    if child.state is not State.READY:
        return []
    is_patient = fleet.policy.is_patient
    if age is not None and age > fleet.policy.heartbeat_timeout and not is_patient:
        text = f"{child.role.title} {child.pid} has not turned its loop for {age:.1f} s and is replaced"
        return [
            transitions.log_about(child, "error", text),
            *transitions.kill_child(child, KillReason.STALLED, now, dump=True),
        ]
    if not child.recycle:
        if child.request_limit is not None and event.requests >= child.request_limit:
            child.recycle = f"{event.requests} requests"
        elif (
            fleet.policy.max_rss is not None
            and event.rss_bytes is not None
            and event.rss_bytes >= fleet.policy.max_rss
        ):
            child.recycle = f"{event.rss_bytes // 1048576} MiB of memory"
    return []


def _exited(fleet: Fleet, child: Child, event: ChildExited, now: float) -> list[Step]:
    fleet.remove(child)
    before = child.state
    child.advance(Change.EXITED)
    if isinstance(child, Template):
        return _template_exited(fleet, child, before, event, now)
    _count_exit(fleet, child, event)
    if child.role.serves and child.ready_at is not None:
        if now - child.ready_at >= SERVING_STEADILY:
            fleet.last_serving_at = now
    if child.drain_reason is not None:
        return _left_after_drain(fleet, child, event, now)
    if child.killed_for in (KillReason.DISCARDED, KillReason.STOP):
        return []
    if fleet.phase is not Phase.SERVING:
        return []
    slot = fleet.slot_of(child)
    generation = fleet.generations[child.generation]
    generation.deaths += 1
    if child.ready_at is None:
        failure = child.failure or _silent_failure(fleet, child, event)
        return _boot_failed(fleet, child, slot, generation, failure, now)
    return _crashed(fleet, child, slot, generation, event, now)


def _count_exit(fleet: Fleet, child: Child, event: ChildExited) -> None:
    if child.killed_for is KillReason.STALLED:
        kind = "stalled"
    elif child.killed_for is KillReason.DISCARDED:
        kind = "discarded"
    elif child.killed_for is not None:
        kind = "killed"
    elif child.drain_reason is not None and event.clean:
        kind = "clean"
    else:
        kind = "crashed"
    fleet.exits.setdefault(child.role.name, dict.fromkeys(EXIT_KINDS, 0))[kind] += 1


def _left_after_drain(fleet: Fleet, child: Child, event: ChildExited, now: float) -> list[Step]:
    killed = child.killed_for is not None
    name = f"{child.role.title} {child.pid}"
    failure = _shutdown_failure(child, event)
    steps: list[Step] = []
    if failure:
        _count_shutdown_failure(fleet, child)
        text = f"The lifespan shutdown of {child.role.name} {child.pid} did not succeed: {failure}"
        steps.append(transitions.log_about(child, "error", text))
    reload = child.reload
    if reload is not None:
        if child.killed_for is not None:
            reload.killed += 1
            transitions.note(reload, child, "killed", now, child.killed_for.value)
        elif event.clean or child.drained:
            reload.drained += 1
            transitions.note(reload, child, "drained", now)
        else:
            reload.crashed += 1
            transitions.note(reload, child, "crashed", now, event.description)
    if child.killed_for is KillReason.CROWDED:
        text = (
            f"{name} was ended before its time: {fleet.policy.old_generations} old generations still drained, "
            "and newer code is to be loaded"
        )
    elif child.killed_for is KillReason.EXIT_TIMEOUT:
        doing = f", while it was {event.doing}" if event.doing else ""
        text = (
            f"{name} had not exited {child.exit_seconds:.1f} s after it had drained and was"
            f" killed{doing}; if it needs longer, raise --exit-timeout"
        )
    elif killed and child.killed_for is not KillReason.STOP:
        policy = fleet.policy
        text = (
            f"{name} did not leave in time and was killed: its drain and its lifespan shutdown took"
            f" more than {policy.drain_timeout + policy.lifespan_timeout:g} s (--drain-timeout, --lifespan-timeout)"
        )
    elif not killed and not event.clean:
        text = f"{name} ended while it drained: {event.description}"
    else:
        return steps
    if event.fault:
        text += f"\n{event.fault}"
    return [transitions.log_about(child, "warning", text), *steps]


def _shutdown_failure(child: Child, event: ChildExited) -> str:
    """Return why the application's lifespan shutdown did not succeed; empty when it succeeded or is not judged.

    A shutdown is not judged when the server was stopped at once.
    """
    if not isinstance(child, Worker):
        return ""
    if child.drained:
        return child.shutdown_failure
    if not child.has_lifespan or child.killed_for is KillReason.STOP:
        return ""
    if child.killed_for is not None:
        return "the worker was killed before it was complete"
    return f"the worker ended before it was complete ({event.description})"


def _count_shutdown_failure(fleet: Fleet, child: Child) -> None:
    fleet.shutdown_failures += 1
    if fleet.phase is Phase.STOPPING:
        fleet.shutdown_failures_at_stop += 1
    if child.reload is not None:
        child.reload.shutdown_failures += 1


def _silent_failure(fleet: Fleet, child: Child, event: ChildExited) -> Failure:
    """Return the failure of a child that died, or was killed at its boot timeout, without a report."""
    if child.killed_for is KillReason.BOOT_TIMEOUT:
        summary = f"not ready within {fleet.policy.boot_timeout:g} s"
    else:
        summary = f"the {child.role.name} died before it was ready: {event.description}"
    return Failure(child.stage, summary, event.fault, child.place)


def _boot_failed(
    fleet: Fleet,
    child: Child,
    slot: Slot,
    generation: Generation,
    failure: Failure,
    now: float,
) -> list[Step]:
    reload = fleet.reload
    if reload is None or reload.target != generation.number or slot.next != generation.number:
        steps = _fill_later(fleet, slot, child, failure, now)
        return steps + _count_early_death(fleet, generation, failure, now)
    if _may_retry(fleet, child, generation):
        text = (
            f"The first forked worker failed without a word ({failure.summary}); "
            "trying once without preloading"
        )
        warning = transitions.log_about(child, "warning", text)
        return [warning, *rollout_transitions.retry_without_preload(fleet, generation, now)]
    action = reload.stage.on_failure.start
    if action is FailureAction.GO_ON:
        slot.serves, slot.next = generation.number, None
        return _fill_later(fleet, slot, child, failure, now)
    transitions.note(reload, child, "crashed", now, failure.summary)
    steps = rollout_transitions.respond(fleet, action, failure, now)
    if action is FailureAction.HOLD:
        steps += _fill_later(fleet, slot, child, failure, now)
    return steps


def _may_retry(fleet: Fleet, child: Child, generation: Generation) -> bool:
    template = fleet.templates.get(child.template_id) if child.template_id is not None else None
    return (
        fleet.policy.preload is None
        and child.failure is None
        and not generation.proven
        and not generation.retried
        and template is not None
        and template.preload
        and template.state is State.READY
    )


def _crashed(
    fleet: Fleet,
    child: Child,
    slot: Slot,
    generation: Generation,
    event: ChildExited,
    now: float,
) -> list[Step]:
    fleet.restarts[child.role.name] += 1
    assert child.ready_at is not None
    what = "stalled" if child.killed_for is KillReason.STALLED else event.description
    age = now - child.ready_at
    failure = Failure(
        "trial",
        f"{child.role.name} {child.pid} died {age:.1f} s after it was ready: {what}",
        event.fault,
        slot.index,
    )
    reload = fleet.reload
    action = FailureAction.GO_ON
    if reload is not None and reload.target == generation.number:
        if reload.refused is not None:
            return []
        action = reload.stage.on_failure.death
    steps: list[Step] = []
    if action is not FailureAction.GO_ON:
        assert reload is not None
        transitions.note(reload, child, "crashed", now, what)
        in_stage = replace(failure, stage=reload.stage.name)
        steps += rollout_transitions.respond(fleet, action, in_stage, now)
        if action is not FailureAction.HOLD:
            return steps
    if age >= STEADY_AFTER:
        slot.failures = 0
        if fleet.policy.shows_failures:
            fleet.own_reloads = 0
    steps += _fill_later(fleet, slot, child, failure, now)
    is_hopeless = fleet.own_reloads >= 1 or slot.failures > CRASHES_SHOWN_AFTER
    if fleet.policy.shows_failures and is_hopeless and fleet.reload is None and age < STEADY_AFTER:
        return steps + rollout_transitions.show_crash(fleet, failure, now)
    return steps + _count_early_death(fleet, generation, failure, now)


def _count_early_death(
    fleet: Fleet, generation: Generation, failure: Failure, now: float
) -> list[Step]:
    """Count the death of a worker of a generation on trial, or the failure to replace one; revert at the limit."""
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
    child: Child,
    failure: Failure,
    now: float,
    *,
    is_error: bool = True,
) -> list[Step]:
    """Let the slot be filled again after its backoff, and log the failure."""
    slot.failures += 1
    wait = delay(slot.failures, fleet.rng)
    slot.not_before = now + wait
    when = (
        f"a new {child.role.name} starts in {wait:.1f} s"
        if wait
        else f"a new {child.role.name} starts"
    )
    stage = "" if failure.stage == "trial" else f"{failure.stage}: "
    text = join_clauses(f"{stage}{failure.summary}", when)
    if failure.traceback:
        text += f"\n{failure.traceback}"
    level = "error" if is_error else "info"
    return [transitions.log_about(child, level, text)]


# --- commands -------------------------------------------------------------------------------------


def _code_changing(fleet: Fleet, event: CodeChanging, now: float) -> list[Step]:
    if fleet.phase is not Phase.SERVING:
        return []
    fleet.is_changing = True
    fleet.changed_at = now
    fleet.own_reloads = 0
    fleet.reload_not_before = now
    # Workers that were held for the full timeout serve again; hold them again for the newly saved code.
    steps: list[Step] = [
        HoldWorker(worker.child_id)
        for worker in fleet.workers.values()
        if worker.is_held and worker.state.is_live
    ]
    return steps + (_supersede(fleet, now) if event.gives_up else [])


def _supersede(fleet: Fleet, now: float) -> list[Step]:
    """Fail a reload whose code is still booting."""
    running = fleet.reload
    if running is None or not running.stage.can_be_superseded:
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
    steps: list[Step] = [Log("info", text)]
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
            # The opened slot gets connections again; `reconcile` checks whether a worker accepts them.
            fleet.steered_away -= {slot.index}
            steps.append(OpenSlot(slot.index))
    while len(fleet.slots) < wanted:
        slot = Slot(len(fleet.slots), serves=serves, next=upcoming)
        fleet.slots.append(slot)
        steps.append(OpenSlot(slot.index))
    return steps


def _generations_for_new_slot(fleet: Fleet) -> tuple[int | None, int | None]:
    """Return the generations that a new slot serves and changes to, during a reload or without one."""
    reload = fleet.reload
    if reload is not None and reload.refused is not None:
        return reload.source, None
    return fleet.serving, None
