"""Compare the picture of the children with the wanted state, and return the next steps. Pure; never waits.

`reconcile()` is called after every event and at every `next_deadline()`. It enforces deadlines, advances the
running reload, fills, promotes and empties slots, and retires templates that are not needed. It updates the picture
as if the steps were done, so a second call returns no steps.
"""

from asgireload.draining import DrainReason
from asgireload.errors import GaveUpError, StartupError
from asgireload.supervisor import rollout_transitions, stopping, transitions
from asgireload.supervisor.drain_limits import has_room_for_recycling
from asgireload.supervisor.events import (
    CloseSlot,
    HoldWorker,
    Log,
    ReleaseWorker,
    ReloadRequested,
    ShutListeners,
    SteerAway,
    Step,
)
from asgireload.supervisor.fleet import (
    ABORT_GRACE,
    Fleet,
    KillReason,
    Phase,
    Slot,
    Template,
    Worker,
)
from asgireload.supervisor.handover_targets import renew_targets
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.observe import SERVING_STEADILY, apply
from asgireload.supervisor.reloads import Outcome
from asgireload.supervisor.roles import BegunFrom
from asgireload.supervisor.rollout import (
    allows_promotion,
    carry_reload,
    is_ready,
    next_rollout_deadline,
)
from asgireload.supervisor.waiting import tell_waits

_PASSES = 1000
"""The limit of passes. Each pass advances the reload by at least one slot or stage, so the limit is not reached."""


def reconcile(fleet: Fleet, now: float) -> list[Step]:
    """Return the steps that are due at `now`, and update the picture as if they were done."""
    steps: list[Step] = []
    for _ in range(_PASSES):
        if fleet.phase is Phase.FINISHED:
            return steps
        before = _position(fleet)
        due = _expire(fleet, now) + tell_waits(fleet, now)
        if _has_failed_to_start(fleet):
            due += stopping.stop(fleet, now, exit_code=StartupError.exit_code, at_once=True)
        elif fleet.phase is Phase.STOPPING:
            due += _close_last_templates(fleet, now)
            due += _finish_stop(fleet)
        else:
            due += carry_reload(fleet, now)
            for slot in fleet.all_slots():
                due += _fill(fleet, slot, now)
            due += renew_targets(fleet)
            due += _hold(fleet)
            due += _steer(fleet)
            due += _retire_templates(fleet, now)
            due += _judge_outage(fleet, now)
        steps += due
        if not due and before == _position(fleet):
            return steps
    raise AssertionError("reconcile does not settle")


def _position(fleet: Fleet) -> tuple[object, ...]:
    """Return what a pass may change without returning a step."""
    reload = fleet.reload
    return (
        fleet.phase,
        reload and (reload.reload_id, reload.row, reload.refused, reload.held_for is not None),
        fleet.pending is not None,
        tuple((slot.serves, slot.next) for slot in fleet.all_slots()),
    )


def next_deadline(fleet: Fleet, now: float) -> float | None:
    """Return the moment at which `reconcile` must be called again, even without an event; None for never."""
    times = [child.deadline for child in fleet.children.values()]
    times.append(fleet.tell_waits_at)
    times += [slot.not_before for slot in fleet.all_slots() if slot.not_before > now]
    times += [
        child.ready_at + child.age_limit
        for child in fleet.children.values()
        if child.ready_at is not None and child.age_limit is not None and not child.recycle
    ]
    times.append(next_rollout_deadline(fleet, now))
    if fleet.reload_not_before > now:
        times.append(fleet.reload_not_before)
    if _is_out(fleet):
        times.append(fleet.last_serving_at + fleet.policy.give_up_after)
    known = [time for time in times if time is not None]
    return min(known) if known else None


# --- deadlines ------------------------------------------------------------------------------------


def _expire(fleet: Fleet, now: float) -> list[Step]:
    steps: list[Step] = []
    for child in fleet.children.values():
        if child.ready_at is not None and child.age_limit is not None and not child.recycle:
            if now >= child.ready_at + child.age_limit:
                child.recycle = f"an age of {now - child.ready_at:.0f} s"
        if child.deadline is None or child.deadline > now:
            continue
        if child.state.is_booting:
            steps += transitions.kill_child(child, KillReason.BOOT_TIMEOUT, now, dump=True)
        elif child.state is State.DRAINING:
            # The stacks of a draining child show what it waited for.
            is_exiting = child.drained or not child.role.drains
            why = KillReason.EXIT_TIMEOUT if is_exiting else KillReason.DRAIN_TIMEOUT
            steps += transitions.kill_child(child, why, now, dump=child.role.drains)
        else:
            steps += transitions.kill_child(child, KillReason.STOP, now)
    return steps


def _finish_stop(fleet: Fleet) -> list[Step]:
    steps: list[Step] = []
    # A worker that was killed may accept connections until its exit is collected.
    has_ended = all(worker.stopped_accepting for worker in fleet.workers.values())
    if has_ended and not fleet.listeners_are_shut:
        fleet.listeners_are_shut = True
        steps.append(ShutListeners())
    if not fleet.children:
        steps += stopping.finish(fleet)
    return steps


def _has_failed_to_start(fleet: Fleet) -> bool:
    """Return whether the first load has failed and the server does not wait for another one."""
    return (
        fleet.phase is Phase.SERVING
        and fleet.serving is None
        and bool(fleet.history)
        and fleet.history[0].outcome is Outcome.FAILED
        and not fleet.policy.waits_after_failed_start
    )


def _judge_outage(fleet: Fleet, now: float) -> list[Step]:
    """Stop the server when no worker has served for `give_up_after` seconds."""
    for child in fleet.children.values():
        if child.role.serves and child.state is State.READY and child.ready_at is not None:
            if now - child.ready_at >= SERVING_STEADILY:
                fleet.last_serving_at = now
    longest = fleet.policy.give_up_after
    if not _is_out(fleet):
        return []
    if now < fleet.last_serving_at + longest:
        return []
    text = f"No worker has served for {longest:g} s; giving up"
    return [
        Log("critical", text),
        *stopping.stop(fleet, now, exit_code=GaveUpError.exit_code, at_once=True),
    ]


def _is_out(fleet: Fleet) -> bool:
    """Return whether nothing serves any more and the time for that is limited."""
    return (
        fleet.phase is Phase.SERVING
        and fleet.serving is not None
        and not fleet.ready_count
        and fleet.policy.give_up_after > 0
    )


# --- slots ----------------------------------------------------------------------------------------


def _has_ready_successor(fleet: Fleet, slot: Slot, generation: int) -> bool:
    return any(
        child.generation == generation and child.state is State.READY and not child.recycle
        for child in fleet.children_of(slot)
    )


def _fill(fleet: Fleet, slot: Slot, now: float) -> list[Step]:
    if slot.leaving:
        return _empty(fleet, slot, now)
    if slot.next is not None and _may_promote(fleet, slot):
        slot.serves, slot.next = slot.next, None
        slot.failures = 0
    steps: list[Step] = []
    for generation in _owed(fleet, slot):
        steps += _keep_one(fleet, slot, generation, now)
    return steps + _retire(fleet, slot, now)


def _may_promote(fleet: Fleet, slot: Slot) -> bool:
    """Return whether a worker of the next generation is ready and the reload's stage promotes it."""
    assert slot.next is not None
    return is_ready(fleet, slot, slot.next) and allows_promotion(fleet, slot.next)


def _owed(fleet: Fleet, slot: Slot) -> list[int]:
    """Return the generations of which the slot must have a live worker.

    A slot that goes back from a refused generation needs no worker of that generation.
    """
    refused = fleet.reload.refused if fleet.reload is not None else None
    goes_back = refused is not None and slot.serves == refused
    wanted = [slot.next] if goes_back else [slot.serves, slot.next]
    return [generation for generation in wanted if generation is not None]


def _keep_one(fleet: Fleet, slot: Slot, generation: int, now: float) -> list[Step]:
    live = [
        child
        for child in fleet.children_of(slot)
        if child.generation == generation and child.state.is_live
    ]
    if any(not child.recycle for child in live) or now < slot.not_before:
        return []
    if live and (fleet.reload is not None or not has_room_for_recycling(fleet, slot.role)):
        return []
    template = fleet.loaded_template(generation)
    if template is None:
        return _miss_template(fleet, generation, now)
    steps: list[Step] = []
    if live:
        text = f"Recycling {slot.role.name} {live[0].pid} after {live[0].recycle}"
        steps.append(transitions.log_about(live[0], "info", text))
    return steps + transitions.fork_child(fleet, slot, template, now)


def _miss_template(fleet: Fleet, generation: int, now: float) -> list[Step]:
    """Handle a slot that needs a worker when no template can fork it."""
    known = fleet.generations[generation]
    if known.template_id is not None:
        return []
    reload = fleet.reload
    is_new = reload is not None and reload.target == generation
    if fleet.policy.template_becomes_worker and is_new:
        # The template has become the only worker, and now more workers are wanted.
        return transitions.start_template(
            fleet, generation, now, preload=not known.retried, failure=known.broken
        )
    if known.retried or fleet.policy.preload is False:
        if now < fleet.reload_not_before:
            return []
        fleet.reload_not_before = now + ABORT_GRACE
        return transitions.start_template(fleet, generation, now, preload=False)
    is_settled = reload is None or reload.held_for is not None
    if is_settled and fleet.pending is None and now >= fleet.reload_not_before:
        if fleet.policy.replaces_from_disk:
            return rollout_transitions.replace_lost_worker(fleet, now)
        return apply(fleet, ReloadRequested("lost template"), now)
    return []


def _retire(fleet: Fleet, slot: Slot, now: float) -> list[Step]:
    """Retire children that the slot does not need any more, once the generation that it serves is ready."""
    if slot.serves is None or not is_ready(fleet, slot, slot.serves):
        return []
    steps: list[Step] = []
    for child in fleet.children_of(slot):
        outdated = child.generation not in (slot.serves, slot.next)
        # Only for a successor of the same generation: on probation, old code must not replace the new.
        recycled = child.recycle != "" and _has_ready_successor(fleet, slot, child.generation)
        if not child.state.is_live or not (outdated or recycled):
            continue
        if outdated:
            steps += transitions.discard_child(fleet, child, now)
        elif child.state is State.READY:
            steps += transitions.discard_child(fleet, child, now, DrainReason.RECYCLE)
    return steps


def _steer(fleet: Fleet) -> list[Step]:
    """Keep new connections away from slots without a ready worker.

    Under `--accept per-slot` the connections would wait in the slot's own queue: until the slot is closed if it is
    scaled away, until its next worker is ready if it is in backoff.
    """
    serving = {worker.place for worker in fleet.workers.values() if worker.state is State.READY}
    away = frozenset(
        slot.index for slot in fleet.slots if slot.leaving or slot.index not in serving
    )
    if len(away) == len(fleet.slots):
        away = frozenset(slot.index for slot in fleet.slots if slot.leaving)
    if away == fleet.steered_away:
        return []
    fleet.steered_away = away
    return [SteerAway(away)]


def _empty(fleet: Fleet, slot: Slot, now: float) -> list[Step]:
    steps: list[Step] = []
    children = fleet.children_of(slot)
    for child in children:
        steps += transitions.discard_child(fleet, child, now, DrainReason.SCALE_DOWN)
    # Only the last slot may be removed: sockets of a SO_REUSEPORT group are numbered from the first.
    slots = fleet.slots_of(slot.role)
    if not children and slot is slots[-1]:
        slots.pop()
        if slot.role.serves:
            steps.append(CloseSlot(slot.index))
    return steps


def _hold(fleet: Fleet) -> list[Step]:
    """Development: hold requests that arrive after a save until the saved code serves. A worker that is booting is
    told as well, before it accepts anything."""
    if fleet.policy.hold_timeout <= 0:
        return []
    steps: list[Step] = []
    for worker in fleet.workers.values():
        if not worker.state.is_live:
            continue
        is_outdated = _is_outdated(fleet, worker)
        if is_outdated != worker.is_held:
            worker.is_held = is_outdated
            step = HoldWorker if is_outdated else ReleaseWorker
            steps.append(step(worker.child_id))
    return steps


def _is_outdated(fleet: Fleet, worker: Worker) -> bool:
    """Return whether newer code than the worker's has arrived or is expected."""
    reload = fleet.reload
    if fleet.is_changing or fleet.pending is not None:
        return True
    return reload is not None and reload.refused is None and worker.generation != reload.target


# --- templates ------------------------------------------------------------------------------------


def _is_last_to_leave(fleet: Fleet, template: Template) -> bool:
    """Return whether children of the template still use what the template removes at its end."""
    return template.cleans_up and any(
        child.role.begun_from is BegunFrom.TEMPLATE and child.generation == template.generation
        for child in fleet.children.values()
    )


def _close_last_templates(fleet: Fleet, now: float) -> list[Step]:
    """At a stop, close the channels of templates whose workers have ended."""
    steps: list[Step] = []
    for template in fleet.templates.values():
        if template.state.is_live and not _is_last_to_leave(fleet, template):
            steps += transitions.let_go(template, now)
    return steps


def _retire_templates(fleet: Fleet, now: float) -> list[Step]:
    needed = {fleet.serving, *fleet.previous}
    if fleet.reload is not None:
        needed |= {fleet.reload.source, fleet.reload.target}
    for slot in fleet.all_slots():
        needed |= {slot.serves, slot.next}
    steps: list[Step] = []
    for template in fleet.templates.values():
        generation = fleet.generations[template.generation]
        replaced = generation.template_id != template.child_id
        if _is_last_to_leave(fleet, template):
            continue
        if replaced or template.generation not in needed:
            if not replaced:
                generation.template_id = None
            steps += transitions.discard_child(fleet, template, now)
    # Forget generations that nothing refers to any more.
    alive = needed | {child.generation for child in fleet.children.values()}
    for number in [number for number in fleet.generations if number not in alive]:
        del fleet.generations[number]
    return steps
