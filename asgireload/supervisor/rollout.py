"""Carry the running reload forward: begin one that is due, prove it, roll it out, watch what goes back. Pure."""

from asgireload.supervisor import rollout_transitions, transitions
from asgireload.supervisor.drain_limits import describe_wait, has_room_for_reload, old_generations
from asgireload.supervisor.events import Log, Step
from asgireload.supervisor.fleet import (
    BROKEN_MOMENT,
    SUPERSEDED_PATIENCE,
    Fleet,
    KillReason,
    Slot,
    Worker,
)
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.reloads import Reload, ReloadPhase


def carry_reload(fleet: Fleet, now: float) -> list[Step]:
    reload = fleet.reload
    if reload is None:
        pending = fleet.pending
        if pending is None or not _is_due(fleet, pending, now):
            return []
        if not has_room_for_reload(fleet):
            return _wait_for_room(fleet, pending, now)
        return [] if _is_held_up(fleet, pending, now) else rollout_transitions.begin(fleet, now)
    match reload.phase:
        case ReloadPhase.PREPARING:
            _begin_proving(fleet, reload, now)
        case ReloadPhase.PROVING:
            return _prove(fleet, reload, now)
        case ReloadPhase.PROBATION:
            assert reload.probation_until is not None
            if now >= reload.probation_until:
                reload.probation_until = None
                reload.phase = ReloadPhase.ROLLING
        case ReloadPhase.ROLLING:
            return _roll(fleet, reload, now)
        case ReloadPhase.RESTORING:
            return _watch_restore(fleet, reload, now)
        case _:
            raise AssertionError(reload.phase)
    return []


def next_rollout_deadline(fleet: Fleet, now: float) -> float | None:
    """Return the moment at which `carry_reload` must be called again, event or not."""
    times: list[float | None] = []
    if fleet.reload is not None:
        times += [fleet.reload.probation_until, fleet.reload.restore_deadline]
        shown_at = _broken_until(fleet, fleet.reload)
        times.append(shown_at if shown_at > now else None)
    if fleet.pending is not None:
        until = _coalesce_until(fleet, fleet.pending)
        times.append(until if until > now else None)
        patience = fleet.pending.requested_at + SUPERSEDED_PATIENCE
        times.append(patience if patience > now and _is_importing_old_code(fleet) else None)
    return min((time for time in times if time is not None), default=None)


def _is_due(fleet: Fleet, pending: Reload, now: float) -> bool:
    return now >= _coalesce_until(fleet, pending)


def _is_held_up(fleet: Fleet, pending: Reload, now: float) -> bool:
    """Old code that is being imported could still write outdated bytecode, behind the eyes that look for it."""
    return _is_importing_old_code(fleet) and now < pending.requested_at + SUPERSEDED_PATIENCE


def _wait_for_room(fleet: Fleet, pending: Reload, now: float) -> list[Step]:
    """Say once that the reload waits for old workers. In development the workers of the oldest generation are
    ended instead."""
    if fleet.policy.development:
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
    """Development: something that was killed in the middle of its import has not ended yet."""
    return fleet.policy.development and any(
        child.state in (State.DRAINING, State.DYING) and child.ready_at is None
        for child in fleet.children.values()
    )


def _coalesce_until(fleet: Fleet, pending: Reload) -> float:
    return pending.requested_at + (0 if pending.is_first_load else fleet.policy.coalesce_window)


def _broken_until(fleet: Fleet, reload: Reload) -> float:
    """Return until when broken code must wait, for it may have been read in the middle of a change."""
    generation = fleet.generations.get(reload.target) if reload.target is not None else None
    if generation is None or generation.broken is None or reload.phase is not ReloadPhase.PREPARING:
        return float("-inf")
    return fleet.changed_at + BROKEN_MOMENT


def _begin_proving(fleet: Fleet, reload: Reload, now: float) -> None:
    if fleet.loaded_template(reload.target) is None or now < _broken_until(fleet, reload):
        return
    reload.phase = ReloadPhase.PROVING
    # The first load has nothing to protect, and in development only the newest code counts: then all slots
    # boot side by side.
    staying = [slot for slot in fleet.slots if not slot.leaving]
    is_trial = reload.source is not None and not fleet.policy.development
    for slot in staying[:1] if is_trial else staying:
        slot.next = reload.target
        slot.not_before = now  # the backoff was the old code's


def _prove(fleet: Fleet, reload: Reload, now: float) -> list[Step]:
    if reload.source is None:
        staying = [slot for slot in fleet.slots if not slot.leaving]
        if all(slot.serves == reload.target for slot in staying):
            return rollout_transitions.commit(fleet, now)
        return []
    assert reload.target is not None
    for slot in fleet.slots:
        if slot.next == reload.target and is_ready(fleet, slot, reload.target):
            reload.phase = ReloadPhase.PROBATION
            reload.probation_until = now + fleet.policy.probation
    return []


def _roll(fleet: Fleet, reload: Reload, now: float) -> list[Step]:
    staying = [slot for slot in fleet.slots if not slot.leaving]
    changing = sum(_is_changing(fleet, slot, reload) for slot in staying)
    for slot in staying:
        if changing >= fleet.policy.surge:
            break
        if slot.serves != reload.target and slot.next is None:
            slot.next = reload.target
            slot.not_before = now
            changing += 1
    done = all(slot.serves == reload.target and slot.next is None for slot in staying)
    if done and not any(_accepts_old(worker, reload) for worker in fleet.workers.values()):
        return rollout_transitions.commit(fleet, now)
    return []


def _is_changing(fleet: Fleet, slot: Slot, reload: Reload) -> bool:
    """Its new worker is to boot or boots; without `--drain-overlap` also: its old worker has not left."""
    if slot.next == reload.target:
        return True
    if slot.serves != reload.target or fleet.policy.drain_overlap:
        return False
    return any(worker.generation != reload.target for worker in fleet.children_of(slot))


def _accepts_old(worker: Worker, reload: Reload) -> bool:
    return worker.generation != reload.target and not worker.stopped_accepting


def _watch_restore(fleet: Fleet, reload: Reload, now: float) -> list[Step]:
    assert reload.restore_deadline is not None
    waiting = any(slot.next is not None for slot in fleet.slots if not slot.leaving)
    if waiting and now < reload.restore_deadline and _can_restore(fleet, reload):
        return []
    reload.restore_deadline = None
    return rollout_transitions.finish_restore(fleet, now)


def _can_restore(fleet: Fleet, reload: Reload) -> bool:
    """There is, or comes, a template of the source, or a worker of it that boots or serves."""
    source = fleet.generations.get(reload.source) if reload.source is not None else None
    return (source is not None and source.template_id is not None) or any(
        worker.generation == reload.source and worker.state.is_live
        for worker in fleet.workers.values()
    )


def is_ready(fleet: Fleet, slot: Slot, generation: int) -> bool:
    """A child of the generation is ready, be it one that shall be recycled."""
    return any(
        child.generation == generation and child.state is State.READY
        for child in fleet.children_of(slot)
    )
