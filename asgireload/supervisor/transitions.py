"""How children begin and are told to leave: changes of the picture, with the steps they ask for.

`reconcile` decides when; this file says what follows. Nothing here waits or does I/O.
"""

from asgireload.draining import DrainReason
from asgireload.ipc.exit_time import exit_deadline
from asgireload.supervisor.events import (
    CloseTemplate,
    DrainWorker,
    ForkWorker,
    KillTemplate,
    KillWorker,
    StartTemplate,
    Step,
)
from asgireload.supervisor.fleet import (
    ABORT_GRACE,
    TEMPLATE_END_GRACE,
    Fleet,
    KillReason,
    Policy,
    Slot,
    Template,
    TemplateState,
    Worker,
)
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.reloads import Failure
from asgireload.supervisor.succession import choose_successors

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
