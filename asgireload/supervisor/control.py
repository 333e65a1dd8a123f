"""The supervisor's interface to its admin server: snapshots and commands.

Implements `admin.port.ServerPort` over the picture of the children. Calls return at once, except `wait_reload`,
which waits on a future that the outcome of the reload resolves.
"""

import asyncio
import logging
from collections.abc import Callable

from asgireload.admin import port
from asgireload.errors import ControlError, TlsError
from asgireload.supervisor import snapshots
from asgireload.supervisor.capacity import DESCRIPTORS_OF_WORKER, Demand, look_for_room
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.events import Event, ReloadRequested, ScaleRequested, StopRequested
from asgireload.supervisor.fleet import Fleet, Phase
from asgireload.supervisor.reloads import Outcome, Reload
from asgireload.supervisor.roles import WORKER
from asgireload.supervisor.waiting import name_wait
from asgireload.supervisor.worker_handles import WorkerHandles

_logger = logging.getLogger("asgireload.error")


class Control:
    """Implementation of `admin.port.ServerPort`. `submit` applies an event and reconciles at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        workers: WorkerHandles,
        surroundings: snapshots.Surroundings,
        certificates: Certificates,
        submit: Callable[[Event], None],
        demand: Demand,
    ) -> None:
        self._loop = loop
        self._fleet = fleet
        self._workers = workers
        self._around = surroundings
        self._certificates = certificates
        self._submit = submit
        self._demand = demand
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    # --- snapshots --------------------------------------------------------------------------------

    def status(self) -> port.StatusSnapshot:
        return snapshots.take_status(self._fleet, self._around, self._loop.time())

    def metrics(self) -> port.MetricsSnapshot:
        return port.MetricsSnapshot(
            status=self.status(),
            counters=tuple(
                port.SlotCounters(slot=slot, generation=generation, values=values, role=role)
                for (role, slot, generation), values in sorted(
                    self._workers.counter_totals().items()
                )
            ),
            reload_outcomes=dict(self._fleet.outcomes),
            worker_exits=dict(self._fleet.exits[WORKER.name]),
            shutdown_failures=self._fleet.shutdown_failures,
        )

    def reloads(self) -> tuple[port.ReloadSnapshot, ...]:
        return tuple(self._snapshot(reload) for reload in self._known())

    def reload(self, reload_id: int) -> port.ReloadSnapshot | None:
        found = self._find(reload_id)
        return self._snapshot(found) if found is not None else None

    def _known(self) -> list[Reload]:
        fleet = self._fleet
        first = [reload for reload in (fleet.pending, fleet.reload) if reload is not None]
        return first + [reload for reload in fleet.history if reload not in first]

    def _find(self, reload_id: int) -> Reload | None:
        return next((known for known in self._known() if known.reload_id == reload_id), None)

    def _snapshot(self, reload: Reload) -> port.ReloadSnapshot:
        return snapshots.take_reload(self._fleet, reload, self._around, self._loop.time())

    # --- commands ---------------------------------------------------------------------------------

    def request_reload(self, origin: str) -> port.ReloadTicket:
        self._refuse_while_stopping()
        before = self._fleet.pending
        self._submit(ReloadRequested(origin))
        reload_id = before.reload_id if before is not None else self._fleet.last_reload_id
        found = self._find(reload_id)
        assert found is not None
        return port.ReloadTicket(
            id=reload_id,
            outcome=found.outcome.value,
            coalesced=before is not None,
            waits_for=name_wait(self._fleet, found, self._loop.time()),
        )

    async def wait_reload(self, reload_id: int) -> port.ReloadSnapshot:
        found = self._find(reload_id)
        if found is None:
            raise ControlError(f"there is no reload {reload_id}, or it is long over")
        if found.outcome in (Outcome.PENDING, Outcome.RUNNING):
            waiter: asyncio.Future[None] = self._loop.create_future()
            waiters = self._waiting.setdefault(reload_id, [])
            waiters.append(waiter)
            try:
                await waiter
            finally:
                waiters.remove(waiter)
        return self._snapshot(found)

    def outcome_reported(self, reload_id: int) -> None:
        """Wake the waiters of this reload."""
        for waiter in self._waiting.pop(reload_id, []):
            if not waiter.done():
                waiter.set_result(None)

    def scale(self, workers: int) -> None:
        self._refuse_while_stopping()
        most = self._fleet.policy.max_workers
        if not 1 <= workers <= most:
            raise ControlError(f"the number of workers must be from 1 to {most}, not {workers}")
        if workers > self._fleet.wanted_count:
            self._check_room(workers)
        self._submit(ScaleRequested(workers))

    def _check_room(self, workers: int) -> None:
        """Raise ControlError when the system's limits do not allow so many workers."""
        alive = len(self._workers.all())
        sockets = self._demand.per_slot * len(self._fleet.slots)
        held = DESCRIPTORS_OF_WORKER * alive + sockets
        reason = look_for_room(workers, held, alive, self._demand)
        if reason is not None:
            raise ControlError(reason)

    def reload_certificates(self, origin: str) -> tuple[port.CertificateSnapshot, ...]:
        self._refuse_while_stopping()
        if not self._certificates.is_spoken:
            raise ControlError("no address of this server speaks TLS: there are no certificates")
        try:
            self._workers.renew_certificates(always=True)
        except TlsError as error:
            _logger.error(  # noqa: TRY400 - the message is enough
                "%s: the new certificates cannot be used, so the old ones stay in use: %s",
                origin,
                error,
            )
            raise
        _logger.info("%s: certificates were read again", origin)
        return self._certificates.snapshots()

    def stop(self) -> None:
        self._submit(StopRequested())

    def _refuse_while_stopping(self) -> None:
        if self._fleet.phase is not Phase.SERVING:
            raise ControlError("the server is stopping")
