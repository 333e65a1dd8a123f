"""Handles on workers: fork them, pass them descriptors and messages, and observe them."""

import logging
from collections.abc import Callable, Collection, Sequence

import msgspec

from asgireload.ipc.messages import (
    AnyMessage,
    AppImported,
    ChildStarted,
    Drain,
    ForkWorker,
    HandOver,
    MoveTo,
    SuccessorSpent,
    TakeOver,
    UseCertificates,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerImported,
    WorkerReady,
    WorkerStage,
    WorkerWaits,
)
from asgireload.ipc.scoreboard import Field
from asgireload.net.addresses import ListenerTraits
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.counter_totals import Key, Values
from asgireload.supervisor.cpu_priority import CpuPlace, to_spread
from asgireload.supervisor.events import ChildObserved, ChildSaid, DrainChild, ForkChild
from asgireload.supervisor.handles import Ends, Handle, Handles, inode_of
from asgireload.supervisor.lifecycle import Change
from asgireload.supervisor.scoreboard_records import HeldRecord, ScoreboardRecords
from asgireload.supervisor.template_handles import TemplateHandle

_logger = logging.getLogger("asgireload.error")


class WorkerInputs(msgspec.Struct, frozen=True):
    """What every worker gets from the supervisor. The caller closes the descriptors."""

    descriptors_for: Callable[[int], Sequence[int]]
    """Return the descriptors of the sockets that a slot accepts from."""
    traits: tuple[ListenerTraits, ...]
    """The traits of each of these sockets, in the same order."""
    certificates: Certificates
    """Already loaded."""
    silent_after: float
    """Seconds without a heartbeat after which a worker's event loop is taken to be blocked."""
    may_give_way: bool = True
    """Whether processes may change their CPU priority. False when a system call filter refuses that or kills."""


class WorkerHandle(Handle):
    """A handle on a child that was forked from a template and has a place and a scoreboard record."""

    def __init__(
        self, step: ForkChild, ends: Ends, held: HeldRecord, workers: "WorkerHandles"
    ) -> None:
        inode = inode_of(ends.theirs)
        super().__init__(
            step.role, step.child_id, ends.channel, inode=inode, fault_file=ends.fault_file
        )
        self.step = step
        self.held = held
        self.template: TemplateHandle | None = None
        """The template that the worker was forked from; None when it was already gone."""
        self.has_spoken = False
        """The worker has reported that it is ready, or why it is not."""
        self.gives_way_at_end = False
        """Lower its CPU priority once it has drained and only has to exit."""
        self.told_to_move_at = float("-inf")
        self._workers = workers

    def hear(self, message: AnyMessage, descriptors: list[int]) -> ChildSaid | None:
        return self._workers.hear(self, message, descriptors)

    def give_back(self, description: str, *, clean: bool) -> None:
        self._workers.give_back(self, clean=clean)


class WorkerHandles:
    """Has workers forked, and handles their messages."""

    def __init__(self, handles: Handles, records: ScoreboardRecords, inputs: WorkerInputs) -> None:
        self._handles = handles
        self._records = records
        self._inputs = inputs
        self._certified_generation: int | None = None
        """The newest generation for which certificates were read."""

    def all(self) -> list[WorkerHandle]:
        return [handle for handle in self._handles.all() if isinstance(handle, WorkerHandle)]

    def _get(self, child_id: int) -> WorkerHandle | None:
        handle = self._handles.get(child_id)
        return handle if isinstance(handle, WorkerHandle) else None

    # --- start ------------------------------------------------------------------------------------

    def fork(self, step: ForkChild) -> None:
        """Have a template fork a worker. On failure report its exit."""
        if not self._records.has_room:
            why = "more workers live than the scoreboard has records"
            self._handles.report_not_started(step.child_id, why)
            return
        try:
            ends = self._handles.open(step.role)
        except OSError as error:
            self._handles.report_not_started(step.child_id, error)
            return
        held = self._records.take((step.role.name, step.place, step.generation))
        handle = WorkerHandle(step, ends, held, self)
        self._handles.add(handle)
        # After this block the worker holds the only other end, so its exit causes end of file.
        with ends.theirs:
            template = self._handles.get(step.template_id)
            if isinstance(template, TemplateHandle):
                handle.template = template
                self._ask_template(template, handle, ends)

    def _ask_template(self, template: TemplateHandle, handle: WorkerHandle, ends: Ends) -> None:
        step, inputs = handle.step, self._inputs
        certificates = inputs.certificates.descriptor
        request = ForkWorker(
            step.child_id,
            step.place,
            handle.held.number,
            inputs.traits,
            has_tls=certificates is not None,
            succeeds=step.succeeds,
            gives_way=step.gives_way and inputs.may_give_way,
            import_in_loop=step.import_in_loop,
            has_other_way=step.has_other_way,
        )
        if step.gives_way and template.pid is not None:
            # The worker inherits the template's priority.
            self._handles.cpu_priority.lower(template.pid)
        assert ends.fault_file is not None
        descriptors = [
            ends.theirs.fileno(),
            ends.fault_file,
            *(() if certificates is None else (certificates,)),
            *inputs.descriptors_for(step.place),
        ]
        try:
            template.channel.post(request, descriptors)
        except OSError as error:
            # The worker's end is closed then, so end of file follows and is handled.
            _logger.error("Descriptors could not be passed to a template: %s", error)  # noqa: TRY400 - the message is enough
        if template.step.becomes_worker:
            self._handles.move_process(template, handle)

    # --- drain ------------------------------------------------------------------------------------

    def drain(self, step: DrainChild) -> None:
        """Tell a worker to drain, and name its targets. Nothing happens when the worker is gone."""
        handle = self._get(step.child_id)
        if handle is None:
            return
        self.pair(step.child_id, step.targets)
        handle.advance(Change.DRAIN)
        handle.gives_way_at_end = step.gives_way
        handle.channel.post(Drain(step.reason.value, step.timeout, reports=True))

    def pair(self, child_id: int, targets: tuple[int, ...]) -> None:
        """Open a passage between a worker and each of its handover targets."""
        beside = False
        for target_id in targets:
            worker, target = self._get(child_id), self._get(target_id)
            if worker is not None and target is not None:
                self._pair(worker, target, beside=beside)
                beside = True

    def _pair(self, worker: WorkerHandle, target: WorkerHandle, *, beside: bool) -> None:
        try:
            one, other = self._handles.system.socket_pair()
            with one, other:
                # In this order: if the target does not get its end, the worker sees end of file.
                worker.channel.post(HandOver(target.step.child_id, beside), [one.fileno()])
                target.channel.post(TakeOver(), [other.fileno()])
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the message is enough
                "The connections of worker %d are not handed over: %s", worker.step.child_id, error
            )

    # --- messages and exit ------------------------------------------------------------------------

    def hear(
        self, handle: WorkerHandle, message: AnyMessage, descriptors: list[int]
    ) -> ChildSaid | None:
        """Do what the message asks of the parent; return the event for the decisions, or None."""
        priority = self._handles.cpu_priority
        match message:
            case ChildStarted():
                self._set_priority(handle, message.pid)
            case AppImported() | WorkerImported():
                if handle.template is not None and handle.template.origin is not None:
                    handle.template.origin.record(message, descriptors)
                return None
            case WorkerReady() | WorkerFailed():
                handle.has_spoken = True
                if isinstance(message, WorkerReady):
                    handle.advance(Change.READY)
                if handle.pid is not None:
                    priority.restore(handle.pid)
            case WorkerDrained():
                if handle.gives_way_at_end and handle.pid is not None:
                    priority.lower(handle.pid)
            case WorkerStage() | WorkerDraining() | WorkerWaits() | SuccessorSpent():
                pass
            case _:
                raise AssertionError(message)
        return ChildSaid(handle.step.child_id, message)

    def _set_priority(self, handle: WorkerHandle, pid: int) -> None:
        """Set the CPU priority of a new worker, which has inherited that of its template.

        A worker with `gives_way` gets low priority itself, and that of the template is restored. Other workers get
        normal priority, because the template's may have been lowered for another fork.
        """
        priority = self._handles.cpu_priority
        if not handle.step.gives_way:
            priority.restore_inherited(pid)
            return
        template = handle.template
        if template is not None and template.pid is not None and self._handles.holds(template):
            priority.restore(template.pid)
        priority.lower(pid)

    def give_back(self, handle: WorkerHandle, *, clean: bool) -> None:
        """Release what belongs to a worker that is gone."""
        if not clean:
            # The worker may have served, and its replacement must not boot with low priority.
            self._handles.cpu_priority.restore_all()
        is_silent = not handle.has_spoken and not handle.is_killed
        if is_silent and handle.template is not None and handle.template.origin is not None:
            handle.template.origin.distrust(next_too=True)
        self._records.give_back(handle.held)

    def spread(self, lowered: Collection[int]) -> int:
        """Move serving workers that share a CPU to CPUs that only have low priority work (see `cpu_priority`).

        `lowered` are the pids of processes with low priority. Return how many workers were looked at.
        """
        system = self._handles.system
        workers: dict[int, WorkerHandle] = {}
        serving: dict[int, CpuPlace] = {}
        for handle in self.all():
            if handle.pid is not None and handle.pid not in lowered:
                cpu = system.cpu_of(handle.pid)
                if cpu is not None:
                    workers[handle.pid] = handle
                    serving[handle.pid] = CpuPlace(cpu, handle.told_to_move_at)
        if len({place.cpu for place in serving.values()}) < len(serving):
            rooms = {cpu for pid in lowered if (cpu := system.cpu_of(pid)) is not None}
            now = system.clock()
            for pid, cpu in to_spread(rooms, serving, now).items():
                workers[pid].told_to_move_at = now
                workers[pid].channel.post(MoveTo(cpu))
        return len(serving)

    # --- messages to all --------------------------------------------------------------------------

    def tell_all(self, message: AnyMessage) -> None:
        """Send a message without descriptors to every worker."""
        for handle in self.all():
            handle.channel.post(message)

    def renew_certificates(self, *, always: bool = False) -> bool:
        """Read the certificates again and send them to every worker; return whether they have changed.

        `always` sends them even when they are the same, because a context factory may use them differently. Raise
        TlsError when the files cannot be used; then nothing changes.
        """
        certificates = self._inputs.certificates
        is_new = certificates.load()
        descriptor = certificates.descriptor
        if (is_new or always) and descriptor is not None:
            for handle in self.all():
                try:
                    handle.channel.post(UseCertificates(), [descriptor])
                except OSError as error:
                    _logger.error(  # noqa: TRY400 - the message is enough
                        "The worker of slot %d keeps its certificates, new ones could not be passed: %s",
                        handle.step.place,
                        error,
                    )
        return is_new

    def renew_for(self, generation: int) -> None:
        """Read the certificates again for a new generation: a reload checks them as it checks the code.

        The first generation uses what was read at the start. Another template of a known generation reads
        nothing, even if the files have changed. Raise TlsError when the files cannot be used.
        """
        known = self._certified_generation
        if known is not None and generation > known:
            self.renew_certificates()
        if known is None or generation > known:
            self._certified_generation = generation

    # --- observe ----------------------------------------------------------------------------------

    def observe(
        self, child_id: int, *, with_memory: bool, with_sleep: bool = False
    ) -> ChildObserved | None:
        """Return a periodic observation of one worker, or None when it is gone."""
        handle = self._get(child_id)
        if handle is None:
            return None
        memory = None
        if with_memory and handle.pid is not None:
            memory = self._handles.system.resident_bytes(handle.pid)
        values = handle.held.record.values
        beat = values[Field.HEARTBEAT]
        age = max(0.0, self._handles.system.clock() - beat / 1e9) if beat else None
        return ChildObserved(
            child_id,
            age,
            values[Field.REQUESTS_TOTAL],
            memory,
            is_asleep=with_sleep and self._is_asleep(handle, age),
        )

    def _is_asleep(self, handle: WorkerHandle, age: float | None) -> bool:
        """Return whether the worker's event loop is blocked while the process uses no CPU."""
        if handle.pid is None or age is None or age < self._inputs.silent_after:
            return False
        return self._handles.system.is_sleeping(handle.pid)

    def record_of(self, child_id: int) -> Values | None:
        handle = self._get(child_id)
        return handle.held.record.snapshot() if handle is not None else None

    def counter_totals(self) -> dict[Key, Values]:
        """Return the counts of all workers, including those that have exited."""
        return self._records.totals(handle.held for handle in self.all())
