"""The state machine that carries a reload through the stages of its plan. Pure; independent of particular plans.

Each pass lets the slots of the running stage change, as many at a time as the stage allows, and asks the gate of
the stage whether the next stage begins. After the last stage the reload is concluded.
"""

from asgireload.failures import Failure
from asgireload.supervisor import rollout_transitions, transitions
from asgireload.supervisor.drain_limits import describe_wait, has_room_for_reload, old_generations
from asgireload.supervisor.events import Log, Step
from asgireload.supervisor.figures import GenerationFigures
from asgireload.supervisor.fleet import (
    SUPERSEDED_PATIENCE,
    Fleet,
    KillReason,
    Slot,
)
from asgireload.supervisor.gates import GateOutcome, GateResult
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.plans import FailureAction
from asgireload.supervisor.reloads import Outcome, Reload


def carry_reload(fleet: Fleet, now: float) -> list[Step]:
    """Begin the pending reload, or advance the running one."""
    reload = fleet.reload
    if reload is None:
        return _begin_pending(fleet, now)
    if reload.held_for is not None:
        return _end_held(fleet, reload, reload.held_for, now)
    _change_slots(fleet, reload, now)
    result = _judge_stage(fleet, reload, now)
    if result.outcome is GateOutcome.PASSED:
        return rollout_transitions.begin_next_stage(fleet, reload, now)
    action = _choose_action(reload, result, now)
    if action is None:
        return []
    if action is FailureAction.GO_ON:
        return rollout_transitions.begin_next_stage(fleet, reload, now)
    failure = Failure(
        reload.stage.name, result.reason or f"not done within {reload.stage.time:g} s"
    )
    return rollout_transitions.respond(fleet, action, failure, now)


def next_rollout_deadline(fleet: Fleet, now: float) -> float | None:
    """Return the moment at which `carry_reload` must be called again, even without an event."""
    times: list[float | None] = []
    if fleet.reload is not None and fleet.reload.held_for is None:
        times.append(fleet.reload.look_again_at)
        times.append(_stage_deadline(fleet.reload))
    if fleet.pending is not None:
        until = _coalesce_until(fleet, fleet.pending)
        times.append(until if until > now else None)
        patience = fleet.pending.requested_at + SUPERSEDED_PATIENCE
        times.append(patience if patience > now and _is_importing_old_code(fleet) else None)
    return min((time for time in times if time is not None), default=None)


def allows_promotion(fleet: Fleet, generation: int) -> bool:
    """Return whether a slot may serve the generation as soon as a worker of that generation is ready in it."""
    reload = fleet.reload
    return reload is None or reload.towards != generation or reload.stage.promotes


def reads_traffic(fleet: Fleet) -> bool:
    """Return whether the gate of the running stage needs the traffic of workers."""
    reload = fleet.reload
    return reload is not None and reload.held_for is None and reload.stage.gate.reads_traffic


def is_ready(fleet: Fleet, slot: Slot, generation: int) -> bool:
    """Return whether the slot has a ready worker of the generation, even if the worker is to be recycled."""
    return any(
        worker.generation == generation and worker.state is State.READY
        for worker in fleet.children_of(slot)
    )


# --- before a reload begins -----------------------------------------------------------------------


def _begin_pending(fleet: Fleet, now: float) -> list[Step]:
    pending = fleet.pending
    if pending is None or now < _coalesce_until(fleet, pending):
        return []
    if not has_room_for_reload(fleet):
        return _wait_for_room(fleet, pending, now)
    if _is_importing_old_code(fleet) and now < pending.requested_at + SUPERSEDED_PATIENCE:
        return []
    return rollout_transitions.begin(fleet, now)


def _coalesce_until(fleet: Fleet, pending: Reload) -> float:
    return pending.requested_at + (0 if pending.is_first_load else fleet.policy.coalesce_window)


def _wait_for_room(fleet: Fleet, pending: Reload, now: float) -> list[Step]:
    """Log once that the reload waits for old workers, or kill the workers of the oldest generation."""
    if fleet.policy.old_generations is not None:
        oldest = min(old_generations(fleet))
        steps: list[Step] = []
        for worker in fleet.workers.values():
            if worker.generation == oldest and worker.state is State.DRAINING:
                steps += transitions.kill_child(worker, KillReason.CROWDED, now)
        return steps
    if pending.delayed_at is not None:
        return []
    pending.delayed_at = now
    return [Log("info", f"Reload {pending.reload_id} waits for {describe_wait(fleet, now)}")]


def _is_importing_old_code(fleet: Fleet) -> bool:
    """Return whether the policy waits for processes that were killed during an import, and one has not ended."""
    return fleet.policy.awaits_superseded and any(
        child.state in (State.DRAINING, State.DYING) and child.ready_at is None
        for child in fleet.children.values()
    )


def _end_held(fleet: Fleet, reload: Reload, why: Failure, now: float) -> list[Step]:
    """Conclude a held reload when the next one is due."""
    pending = fleet.pending
    if pending is None or now < _coalesce_until(fleet, pending):
        return []
    return rollout_transitions.fail(fleet, why, Outcome.SUPERSEDED, now)


# --- the running stage ----------------------------------------------------------------------------


def _change_slots(fleet: Fleet, reload: Reload, now: float) -> None:
    """Let further slots of the stage change, up to the stage's surge at a time."""
    stage = reload.stage
    staying = [slot for slot in fleet.slots if not slot.leaving]
    chosen = staying[: stage.places.count(len(staying))]
    waiting = [slot for slot in chosen if slot.serves != reload.towards and slot.next is None]
    if stage.surge is not None and waiting:
        changing = sum(_is_changing(fleet, slot, reload) for slot in staying)
        waiting = waiting[: max(0, stage.surge - changing)]
    for slot in waiting:
        slot.next = reload.towards
        slot.not_before = now  # the backoff was for the old code


def _is_changing(fleet: Fleet, slot: Slot, reload: Reload) -> bool:
    """Return whether the new worker is still to boot or boots; without `--drain-overlap`, also whether the old
    worker has not exited."""
    if slot.next == reload.towards:
        return True
    if slot.serves != reload.towards or fleet.policy.drain_overlap:
        return False
    return any(worker.generation != reload.towards for worker in fleet.children_of(slot))


def _judge_stage(fleet: Fleet, reload: Reload, now: float) -> GateResult:
    """Ask the gate of the running stage, and record when to ask it again."""
    assert reload.towards is not None
    gate = reload.stage.gate
    new = _figures_of(fleet, reload, reload.towards, now)
    old = None
    if gate.reads_traffic:
        other = reload.source if reload.refused is None else reload.refused
        old = _figures_of(fleet, reload, other, now) if other is not None else None
    result = gate.judge(new, old)
    reload.look_again_at = result.look_again_at
    return result


def _choose_action(reload: Reload, result: GateResult, now: float) -> FailureAction | None:
    """Return the action that follows from a gate that has not passed; None for no action yet."""
    stage = reload.stage
    if result.outcome is GateOutcome.FAILED:
        return stage.on_failure.start
    deadline = _stage_deadline(reload)
    if deadline is None or now < deadline:
        return None
    if result.outcome is GateOutcome.INCONCLUSIVE:
        return stage.on_failure.inconclusive
    return stage.on_failure.start


def _stage_deadline(reload: Reload) -> float | None:
    time = reload.stage.time
    return reload.window.opened_at + time if time is not None else None


def _figures_of(fleet: Fleet, reload: Reload, number: int, now: float) -> GenerationFigures:
    known = fleet.generations.get(number)
    window = reload.window
    staying = [slot for slot in fleet.slots if not slot.leaving]
    kept = {slot.index for slot in staying}
    ready = others_accepting = 0
    can_start = known is not None and known.template_id is not None
    for worker in fleet.workers.values():
        if worker.generation != number:
            others_accepting += not worker.stopped_accepting
            continue
        can_start = can_start or worker.state.is_live
        ready += worker.state is State.READY and worker.place in kept
    traffic = window.traffic_of(number)
    return GenerationFigures(
        number,
        window.opened_at,
        now,
        is_loaded=fleet.loaded_template(number) is not None,
        is_broken=known is not None and known.broken is not None,
        changed_at=fleet.changed_at,
        can_start=can_start,
        places=len(staying),
        serving=sum(slot.serves == number and slot.next is None for slot in staying),
        changing=sum(slot.next == number for slot in staying),
        ready=ready,
        others_accepting=others_accepting,
        deaths=known.deaths - window.deaths.get(number, 0) if known is not None else 0,
        traffic=traffic,
        traffic_seconds=window.traffic_seconds,
    )
