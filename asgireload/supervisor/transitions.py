"""How children begin and are told to leave: changes of the picture, with the steps they ask for.

`reconcile` decides when; this file says what follows. Nothing here waits or does I/O.
"""

from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.exit_time import exit_deadline
from asgireload.supervisor.events import (
    DrainChild,
    ForkChild,
    KillChild,
    LetGo,
    Log,
    StartTemplate,
    Step,
)
from asgireload.supervisor.fleet import (
    ABORT_GRACE,
    Child,
    Fleet,
    KillReason,
    Slot,
    Template,
    Worker,
)
from asgireload.supervisor.handover_targets import choose_targets
from asgireload.supervisor.lifecycle import Change, State
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.reloads import Reload
from asgireload.supervisor.roles import TEMPLATE, WORKER

LIFETIME_JITTER = 0.1
"""Workers of one age are replaced over a tenth of their lifetime, not all at once."""


def new_id(fleet: Fleet) -> int:
    """Return a number that no child of this supervisor has had."""
    fleet.last_child_id += 1
    return fleet.last_child_id


def start_template(
    fleet: Fleet, generation: int, now: float, *, preload: bool, failure: Failure | None = None
) -> list[Step]:
    template = Template(
        child_id=new_id(fleet),
        role=TEMPLATE,
        generation=generation,
        preload=preload,
        asked_at=now,
        deadline=_boot_deadline(fleet.policy, now),
        # Where there is one worker a fork would only take time. If it dies, the code is loaded again.
        becomes_worker=fleet.policy.template_becomes_worker and preload and fleet.wanted_count == 1,
    )
    fleet.add(template)
    fleet.generations[generation].template_id = template.child_id
    gives_way = fleet.policy.changes_give_way and preload and fleet.ready_count > 0
    return [
        StartTemplate(
            template.child_id,
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


def fork_child(fleet: Fleet, slot: Slot, template: Template, now: float) -> list[Step]:
    """Have a child of the slot's role forked from the template."""
    policy = fleet.policy
    succeeds = any(other.state is State.READY for other in fleet.children_of(slot))
    child = _new_child(fleet, slot, template, now)
    if policy.max_requests is not None:
        child.request_limit = policy.max_requests + fleet.rng.randint(0, policy.max_requests_jitter)
    if policy.worker_lifetime is not None:
        child.age_limit = policy.worker_lifetime * (1 + fleet.rng.uniform(0, LIFETIME_JITTER))
    fleet.add(child)
    if template.becomes_worker:
        template.advance(Change.TURNED)
        fleet.remove(template)
        fleet.generations[template.generation].template_id = None
    note(fleet.reload, child, "fork", now)
    return [
        ForkChild(
            child.child_id,
            slot.role,
            template.child_id,
            slot.index,
            template.generation,
            succeeds=succeeds,
            gives_way=succeeds and fleet.policy.changes_give_way,
            import_in_loop=fleet.imports_in_loop,
            has_other_way=not fleet.generations[template.generation].has_turned,
        )
    ]


def _new_child(fleet: Fleet, slot: Slot, template: Template, now: float) -> Child:
    make: type[Child] = Worker if slot.role == WORKER else Child
    child = make(
        child_id=new_id(fleet),
        role=slot.role,
        place=slot.index,
        generation=template.generation,
        template_id=template.child_id,
        asked_at=now,
        deadline=_boot_deadline(fleet.policy, now),
    )
    if isinstance(child, Worker):
        child.imports_in_loop = fleet.imports_in_loop
    return child


def drain_child(fleet: Fleet, child: Child, reason: DrainReason, now: float) -> list[Step]:
    """Tell a ready child to leave. Its role drains."""
    policy = fleet.policy
    begin_drain(policy, child, reason, now)
    if reason is DrainReason.RELOAD and fleet.reload is not None:
        child.reload = fleet.reload
        note(fleet.reload, child, "retire", now)
    targets: tuple[int, ...] = ()
    if isinstance(child, Worker):
        targets = child.targets = choose_targets(fleet, child)
    return [
        DrainChild(
            child.child_id,
            reason,
            policy.drain_timeout,
            targets,
            gives_way=bool(targets) and policy.changes_give_way,
        )
    ]


def begin_drain(policy: Policy, child: Child, reason: DrainReason, now: float) -> None:
    """Note that the child drains; its deadline covers drain, lifespan shutdown and exit."""
    child.advance(Change.DRAIN)
    child.drain_reason = reason
    child.drain_deadline = now + policy.drain_timeout + policy.lifespan_timeout
    child.deadline = exit_deadline(policy.exit_timeout, child.drain_deadline, child.drain_deadline)


def let_go(child: Child, now: float) -> list[Step]:
    """Let a child end by itself whose role does not drain, with what it has made cleaned up."""
    assert child.role.end_timeout is not None
    child.advance(Change.DRAIN)
    child.deadline = now + child.role.end_timeout
    return [LetGo(child.child_id)]


def kill_child(child: Child, why: KillReason, now: float, *, dump: bool = False) -> list[Step]:
    child.advance(Change.KILL)
    child.killed_for = child.killed_for or why
    child.deadline = now + ABORT_GRACE
    return [KillChild(child.child_id, dump)]


def discard_child(
    fleet: Fleet, child: Child, now: float, reason: DrainReason = DrainReason.RELOAD
) -> list[Step]:
    """Let go of a child that is not needed: politely if it is ready, else at once.

    `reason`: why one that drains does.
    """
    if child.state is State.READY:
        return drain_child(fleet, child, reason, now) if child.role.drains else let_go(child, now)
    if child.state.is_live:
        return kill_child(child, KillReason.DISCARDED, now)
    return []


# --- what is told of them -------------------------------------------------------------------------


def log_about(child: Child, level: str, text: str) -> Log:
    """Return a line for the log that names the place of a child, if it has one, and its generation."""
    return Log(level, text, slot=child.place, generation=child.generation, role=child.role)


def note(reload: Reload | None, child: Child, name: str, now: float, detail: str = "") -> None:
    """Note in the record of a reload what happened in a slot. Only slots that serve are told of there."""
    if reload is not None and child.role.serves and child.place is not None:
        reload.note(child.place, name, now, child.generation, detail)
