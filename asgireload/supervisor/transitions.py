"""How children start and are told to leave: changes of the picture, with the steps that carry them out.

`reconcile` decides when; this module defines what happens. Nothing here waits or does I/O.
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
"""The largest share of the lifetime that is added at random, so that workers of one age are replaced one by one."""


def new_id(fleet: Fleet) -> int:
    """Return an id that no child of this supervisor has had."""
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
        # A single worker need not be forked, which would take time. When it dies, the code is loaded again.
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
    """Return the deadline of a boot; None when the policy allows for a debugger during import or startup."""
    return None if policy.is_patient else now + policy.boot_timeout


def fork_child(fleet: Fleet, slot: Slot, template: Template, now: float) -> list[Step]:
    """Add a child of the slot's role, forked from the template."""
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
    """Tell a ready child, whose role drains, to drain."""
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
    """Record that the child drains. Its deadline covers drain, lifespan shutdown and exit."""
    child.advance(Change.DRAIN)
    child.drain_reason = reason
    child.drain_deadline = now + policy.drain_timeout + policy.lifespan_timeout
    child.deadline = exit_deadline(policy.exit_timeout, child.drain_deadline, child.drain_deadline)


def let_go(child: Child, now: float) -> list[Step]:
    """Close the channel of a child whose role does not drain, so that it cleans up and ends by itself."""
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
    """End a child that is not needed: drain it or let it go if it is ready, else kill it.

    `reason` is the reason of a drain.
    """
    if child.state is State.READY:
        return drain_child(fleet, child, reason, now) if child.role.drains else let_go(child, now)
    if child.state.is_live:
        return kill_child(child, KillReason.DISCARDED, now)
    return []


# --- log lines and records of reloads ---------------------------------------------------------


def log_about(child: Child, level: str, text: str) -> Log:
    """Return a log line with the child's generation and, if it has one, its place."""
    return Log(level, text, slot=child.place, generation=child.generation, role=child.role)


def note(reload: Reload | None, child: Child, name: str, now: float, detail: str = "") -> None:
    """Add an event in a slot to the record of a reload. Only children that serve are recorded there."""
    if reload is not None and child.role.serves and child.place is not None:
        reload.note(child.place, name, now, child.generation, detail)
