"""Make the snapshots for the admin server from the picture of the children. Pure."""

from collections.abc import Callable, Sequence

import msgspec

from asgireload import __version__
from asgireload.admin import port
from asgireload.errors import join_clauses
from asgireload.failures import Failure
from asgireload.ipc.scoreboard import Field
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.counter_totals import Values
from asgireload.supervisor.drain_limits import draining_of
from asgireload.supervisor.fleet import Fleet, Phase, Template, Worker
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.reloads import Outcome, Reload
from asgireload.supervisor.roles import WORKER
from asgireload.supervisor.waiting import describe_open, describe_waiting, name_wait

STALLED = "stalled"
"""The state that is shown for a ready worker whose event loop is blocked."""


class Surroundings(msgspec.Struct, frozen=True):
    """What a snapshot contains beyond the picture."""

    pid: int
    app: str
    listeners: tuple[str, ...]
    accept: str
    wall_offset: float
    """Wall clock minus monotonic clock, in seconds."""
    record_of: Callable[[int], Values | None]
    resident_bytes: Callable[[int], int | None]
    certificates: Certificates | None = None
    stalled_after: float = float("inf")
    """Seconds without a heartbeat after which a ready worker is shown as stalled."""
    directory: str = ""
    app_dir: str = ""
    admin_socket: str = ""
    pid_file: str = ""


def take_status(fleet: Fleet, around: Surroundings, now: float) -> port.StatusSnapshot:
    last = fleet.history[0] if fleet.history else None
    workers = tuple(
        _worker(worker, around, now)
        for worker in sorted(
            fleet.workers.values(), key=lambda worker: (worker.place, worker.child_id)
        )
    )
    ready = sum(worker.state == State.READY.value for worker in workers)
    stalled = [worker for worker in workers if worker.state == STALLED]
    broken = _broken(fleet)
    return port.StatusSnapshot(
        version=__version__,
        pid=around.pid,
        state=name_state(fleet, ready),
        message=_message(fleet, last, stalled, now),
        app=around.app,
        started_at=fleet.started_at + around.wall_offset,
        uptime=now - fleet.started_at,
        generation=fleet.serving,
        workers_wanted=fleet.wanted_count,
        workers_ready=ready,
        workers_old=sum(worker.state is State.DRAINING for worker in fleet.workers.values()),
        listeners=around.listeners,
        accept=around.accept,
        restarts_total=fleet.restarts[WORKER.name],
        # A reverted reload was already counted when it was committed.
        reloads_total=sum(fleet.outcomes.values()) - fleet.outcomes.get("reverted", 0),
        workers=workers,
        templates=tuple(
            _template(template, fleet, around) for template in fleet.templates.values()
        ),
        current_reload=take_reload(fleet, fleet.reload, around, now) if fleet.reload else None,
        pending_reload=take_reload(fleet, fleet.pending, around, now) if fleet.pending else None,
        last_reload=take_reload(fleet, last, around, now) if last else None,
        certificates=around.certificates.snapshots() if around.certificates else (),
        certificates_error=around.certificates.error if around.certificates else None,
        waits_for=describe_waiting(fleet, now),
        broken=broken,
        directory=around.directory,
        app_dir=around.app_dir,
        admin_socket=around.admin_socket,
        pid_file=around.pid_file,
    )


def name_state(fleet: Fleet, ready: int) -> str:
    """Return starting, serving, degraded, failing, reloading or stopping. `ready`: ready workers not stalled."""
    if fleet.phase is not Phase.SERVING:
        return "stopping"
    if fleet.serving is None:
        return "starting"
    if _broken(fleet) is not None:
        return "failing"
    if fleet.reload is not None:
        return "reloading"
    return "serving" if ready >= fleet.wanted_count else "degraded"


def _broken(fleet: Fleet) -> Failure | None:
    """Return why the serving generation shows an error page instead of the application (development)."""
    generation = fleet.generations.get(fleet.serving) if fleet.serving is not None else None
    return generation.broken if generation is not None else None


def _message(
    fleet: Fleet, last: Reload | None, stalled: Sequence[port.WorkerSnapshot], now: float
) -> str:
    serving = fleet.serving
    said = f"serving generation {serving}" if serving is not None else "nothing serves yet"
    broken = _broken(fleet)
    if broken is not None:
        said = f"every request is answered with an error page: {broken.stage}: {broken.summary}"
    for worker in stalled:
        said += (
            f"; worker {worker.pid} has not turned its loop for {worker.heartbeat_age or 0:.0f} s"
        )
    running = fleet.reload
    if running is not None and running.target is not None:
        said += f"; generation {running.target}: {running.phase.value}"
    elif (
        last is not None
        and last.failure is not None
        and last.outcome is not Outcome.COMMITTED
        and broken is None
    ):
        said += f"; generation {last.target} {last.outcome.value}: {last.failure.summary}"
    waiting = describe_waiting(fleet, now)
    if waiting:
        said = join_clauses(said, f"{waiting[0].lower()}{waiting[1:]}")
    return said


def _worker(worker: Worker, around: Surroundings, now: float) -> port.WorkerSnapshot:
    values = around.record_of(worker.child_id)
    beat = values[Field.HEARTBEAT] if values else 0
    heartbeat_age = max(0.0, now - beat / 1e9) if beat else None
    is_stalled = (
        worker.state is State.READY
        and heartbeat_age is not None
        and heartbeat_age >= around.stalled_after
    )
    return port.WorkerSnapshot(
        slot=worker.place,
        generation=worker.generation,
        pid=worker.pid,
        state=STALLED if is_stalled else worker.state.value,
        ready_at=worker.ready_at + around.wall_offset if worker.ready_at is not None else None,
        age=now - worker.asked_at,
        heartbeat_age=heartbeat_age,
        connections=values[Field.CONNECTIONS] if values else 0,
        websockets=values[Field.WEBSOCKETS] if values else 0,
        exchanges=values[Field.EXCHANGES] if values else 0,
        requests_total=values[Field.REQUESTS_TOTAL] if values else 0,
        rss_bytes=around.resident_bytes(worker.pid) if worker.pid is not None else None,
        waits_for=describe_open(worker, now),
        role=worker.role.name,
    )


def _template(template: Template, fleet: Fleet, around: Surroundings) -> port.TemplateSnapshot:
    if template.state.is_booting:
        state = "loading"
    elif not template.state.is_live:
        state = "leaving"
    else:
        state = "sleeping" if template.generation in fleet.previous else "serving"
    generation = fleet.generations[template.generation]
    return port.TemplateSnapshot(
        generation=template.generation,
        pid=template.pid,
        state=state,
        preload=template.preload,
        unsafe_reasons=generation.unsafe_reasons,
    )


def take_reload(
    fleet: Fleet, reload: Reload, around: Surroundings, now: float
) -> port.ReloadSnapshot:
    started = reload.started_at
    ended = reload.ended_at
    return port.ReloadSnapshot(
        id=reload.reload_id,
        outcome=reload.outcome.value,
        phase=reload.phase.value,
        origins=tuple(reload.origins),
        from_generation=reload.source,
        to_generation=reload.target,
        requested_at=reload.requested_at + around.wall_offset,
        started_at=started + around.wall_offset if started is not None else None,
        ended_at=ended + around.wall_offset if ended is not None else None,
        duration=(ended or now) - started if started is not None else None,
        serving_generation=reload.serving,
        uniform=reload.uniform,
        failure=reload.failure,
        slots=_slots(reload),
        waited=reload.waited(now),
        waits_for=name_wait(fleet, reload, now),
        workers_draining=draining_of(fleet, reload.reload_id),
        workers_drained=reload.drained,
        workers_killed=reload.killed,
        workers_crashed=reload.crashed,
        exchanges_cut=reload.exchanges_cut,
        websockets_closed=reload.websockets_closed,
        handed_over=reload.handed_over,
        came_back=reload.came_back,
        shutdown_failures=reload.shutdown_failures,
    )


def _slots(reload: Reload) -> tuple[port.SlotSteps, ...]:
    by_slot: dict[int, list[port.Step]] = {}
    for step in reload.steps:
        by_slot.setdefault(step.slot, []).append(
            port.Step(
                name=step.name,
                seconds=round(step.at - (reload.started_at or step.at), 4),
                generation=step.generation,
                detail=step.detail,
            )
        )
    return tuple(
        port.SlotSteps(slot=slot, steps=tuple(steps)) for slot, steps in sorted(by_slot.items())
    )
