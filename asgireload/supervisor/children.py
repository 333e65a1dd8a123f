"""The supervisor's hands: start templates, have workers forked, pass messages, send signals, collect exits.

It carries out the steps of `reconcile` that concern processes and turns what children say and how they
end into events. It decides nothing and waits for nobody.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from asgireload.config import Config
from asgireload.development.supervisor.fork_source_processes import Layer, Plan, Spare
from asgireload.development.supervisor.preload_cache import Foundation
from asgireload.errors import TlsError
from asgireload.ipc.channel import Channel
from asgireload.ipc.heartbeat import silent_after
from asgireload.ipc.linux import ProcessHandle, process_state, processor_of, resident_bytes
from asgireload.ipc.messages import (
    AnyMessage,
    AppFailed,
    AppImported,
    AppLoaded,
    AppUnsafe,
    AssetsChanged,
    BaseMisfit,
    BookmarkTaken,
    Drain,
    ForkFailed,
    ForkWorker,
    HandOver,
    Hold,
    Mistake,
    MoveTo,
    Release,
    SuccessorSpent,
    TakeOver,
    TemplateStarted,
    UseCertificates,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerImported,
    WorkerReady,
    WorkerStage,
    WorkerStarted,
    WorkerWaits,
)
from asgireload.ipc.scoreboard import CAPACITY, Field, Record, Scoreboard
from asgireload.net.addresses import ListenerTraits
from asgireload.supervisor import events
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.fault import make_fault_file, read_fault_file
from asgireload.supervisor.giving_way import GivingWay, Place, patience_for, to_spread
from asgireload.supervisor.head_start import Begun, HeadStart
from asgireload.supervisor.leftovers import Leftovers
from asgireload.supervisor.orders import order_of
from asgireload.supervisor.out_of_memory import OutOfMemory, read_counters
from asgireload.supervisor.releases import Releases
from asgireload.supervisor.reloads import Failure
from asgireload.supervisor.spawning import (
    TEMPLATE_MODULE,
    describe_exit,
    leave_deleted_directory,
    spawn,
)
from asgireload.supervisor.tally import Tally, Values

MOST_ASSETS = 64
"""Changed files of which pages are told by name; more of them are a build or a checkout."""
MANY_ASSETS = "many files"
"""Stands for more: no page has a file of this name, so each loads itself again."""

_logger = logging.getLogger("asgireload.error")


class _Template(msgspec.Struct, eq=False):
    step: events.StartTemplate
    channel: Channel
    theirs: socket.socket
    """Its end of the channel, until it has been passed on."""
    fault_file: int
    inode: int
    """Of its end of the channel."""
    process: ProcessHandle | None = None
    """None: not started yet, or forked and not heard of."""
    layer: Layer | None = None
    """What it was forked from."""
    has_loaded: bool = False
    is_killed: bool = False

    @property
    def template_id(self) -> int:
        return self.step.template_id


class _Worker(msgspec.Struct):
    worker_id: int
    template_id: int
    slot: int
    generation: int
    record_index: int
    record: Record
    channel: Channel
    inode: int
    """Of its end of the channel."""
    fault_file: int
    layer: Layer | None
    """What its template was forked from."""
    process: ProcessHandle | None = None
    has_spoken: bool = False
    """It is ready, or has said why it is not."""
    is_killed: bool = False
    gives_way: bool = False
    """Until it is ready."""
    gives_way_at_end: bool = False
    """From when it has nothing to do but to end."""
    told_to_move_at: float = float("-inf")
    """On the loop's clock."""


class Children:
    """All templates and workers of this supervisor, by the numbers that the decisions use.

    `on_event` is called from the loop, never from within `perform` steps.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        directory: str,
        scoreboard: Scoreboard,
        listeners_of: Callable[[int], Sequence[int]],
        on_event: Callable[[events.Event], None],
        certificates: Certificates,
        traits: tuple[ListenerTraits, ...],
        foundation: Foundation,
        head_start: HeadStart,
        *,
        may_give_way: bool,
    ) -> None:
        """`listeners_of(slot)` returns the descriptors of the sockets that the slot accepts from, each
        with its `traits`. The certificates have been loaded, and are the caller's to close, as are the
        scoreboard, the foundation, and the head start when no template has taken it.
        `may_give_way`: whether priorities may be looked at and changed."""
        self._loop = loop
        self._config = config
        self._directory = directory
        self._releases = Releases(os.path.join(directory, config.app_dir))
        self._listeners_of = listeners_of
        self._on_event = on_event
        self._certificates = certificates
        self._traits = traits
        self._foundation = foundation
        self._head_start = head_start
        self._may_give_way = may_give_way
        self._giving_way = GivingWay(
            loop,
            patience_for(config.boot_timeout),
            self._spread_workers,
            is_allowed=may_give_way,
        )
        self._certified_generation: int | None = None
        """The newest generation that certificates were read for."""
        self._scoreboard = scoreboard
        self._free_records = list(range(CAPACITY - 1, -1, -1))
        self._templates: dict[int, _Template] = {}
        self._workers: dict[int, _Worker] = {}
        self._leftovers = Leftovers(loop)
        self._out_of_memory = OutOfMemory(read_counters())
        self.tally = Tally()

    # --- templates --------------------------------------------------------------------------------

    def start_template(self, step: events.StartTemplate) -> None:
        try:
            self._certify(step.generation)
        except TlsError as error:
            failed = events.TemplateFailed(step.template_id, str(error), "", stage="tls")
            gone = events.TemplateExited(step.template_id, "it was not started")
            self._loop.call_soon(self._on_event, failed)
            self._loop.call_soon(self._on_event, gone)
            return
        self._releases.look(step.generation)
        template = self._open_template(step)
        if template is not None:
            self._foundation.provide(
                step.template_id,
                lambda plan: self._launch(template, plan),
                imports=step.failure is None,
                preload=step.preload,
            )

    def _open_template(self, step: events.StartTemplate) -> _Template | None:
        """Make what belongs to a template; the process is still to come."""
        try:
            with contextlib.ExitStack() as opened:
                fault_file = make_fault_file("template")
                opened.callback(os.close, fault_file)
                channel, theirs = Channel.pair()
                template = _Template(step, channel, theirs, fault_file, _inode_of(theirs))
                opened.pop_all()
        except OSError as error:
            self._not_started(step.template_id, f"could not be started: {error}")
            return None
        self._templates[step.template_id] = template
        self._attach_template(template)
        return template

    def _not_started(self, template_id: int, why: str) -> None:
        self._loop.call_soon(self._on_event, events.TemplateExited(template_id, why))

    def _launch(self, template: _Template, plan: Plan) -> None:
        """Start the process, and tell it what to do."""
        step = template.step
        if self._templates.get(template.template_id) is not template:
            return  # it was killed while it waited
        order = order_of(step, plan, self._config, self._directory)
        has_order = False
        try:
            template.layer = plan.layer
            if plan.spare is not None:
                self._take_spare(template, plan.spare)
            elif plan.layer is not None:
                plan.fork(template.theirs)
            elif (begun := self._head_start.take(order)) is not None:
                has_order = self._take_begun(template, begun)
            else:
                leave_deleted_directory()
                process = spawn(TEMPLATE_MODULE, template.theirs.fileno())
                template.process = ProcessHandle(process)
                if step.gives_way:
                    self._giving_way.begin(process)
        except OSError as error:
            self._forget_template(template)
            self._not_started(template.template_id, f"could not be started: {error}")
            return
        template.theirs.close()
        if not has_order:
            template.channel.post(order, [self._scoreboard.descriptor, template.fault_file])

    def _take_begun(self, template: _Template, begun: Begun) -> bool:
        """Let what has begun before the supervisor stood be the template; return whether it has its order."""
        has_order = begun.order is not None
        if has_order:
            os.close(template.fault_file)
            template.fault_file = begun.fault_file
        try:
            spare = Spare(Channel(begun.socket), ProcessHandle(begun.pid))
        except OSError:
            begun.socket.close()  # then it ends by itself
            raise
        self._take_spare(template, spare)
        return has_order

    def _take_spare(self, template: _Template, spare: Spare) -> None:
        """Let a process that waits already be the template."""
        template.channel.close()
        template.channel, template.process = spare.channel, spare.process
        self._attach_template(template)

    def _attach_template(self, template: _Template) -> None:
        template.channel.attach(
            self._loop,
            lambda message, descriptors: self._template_said(template, message, descriptors),
            lambda: self._template_closed(template),
        )

    def _launch_anew(self, template: _Template) -> None:
        """Start the same template in a fresh interpreter: what it was forked from may be at fault."""
        self._forget_template(template)
        anew = self._open_template(template.step)
        if anew is not None:
            self._launch(anew, Plan())

    def _forget_template(self, template: _Template) -> None:
        """Give back what belongs to it; a process that it still has is killed."""
        del self._templates[template.template_id]
        template.channel.close()
        template.theirs.close()
        if template.process is not None:
            self._leftovers.end_below(template.process.pid)
            template.process.send(signal.SIGKILL)
            template.process.close()
        os.close(template.fault_file)

    def close_template(self, template_id: int) -> None:
        """Let it go: it ends when its channel is closed."""
        if (template := self._templates.get(template_id)) is not None:
            template.is_killed = True
            if template.process is None:
                self.kill_template(template_id, dump=False)
            else:
                self._giving_way.end(template.process.pid)
                template.channel.close()

    def kill_template(self, template_id: int, *, dump: bool) -> None:
        template = self._templates.get(template_id)
        if template is None:
            return
        template.is_killed = True
        if template.process is None:
            template.channel.deliver()  # its number may be there, unread
        if template.process is not None:
            # Even to die takes a process time.
            self._giving_way.end(template.process.pid)
            self._leftovers.end_below(template.process.pid)
            template.process.send(signal.SIGABRT if dump else signal.SIGKILL)
        elif self._templates.get(template_id) is template:
            # Not forked yet, or it ends when it says its number to nobody; unless it hangs before.
            self._forget_template(template)
            self._leftovers.end_holder(template.inode, self.pids())
            self._foundation.template_gone(template_id)
            self._not_started(template_id, "it was not started")

    def template_pid(self, template_id: int) -> int | None:
        template = self._templates.get(template_id)
        return template.process.pid if template is not None and template.process else None

    def _template_closed(self, template: _Template) -> None:
        """End of file. Of one whose number is known the exit tells more."""
        if template.process is None and template.template_id in self._templates:
            self._foundation.distrust(template.layer)
            self._launch_anew(template)

    def _template_said(
        self, template: _Template, message: AnyMessage, descriptors: list[int]
    ) -> None:
        number = template.template_id
        if template.process is not None:
            # Whatever it says, its import is over; and what it forks takes after it.
            self._giving_way.end(template.process.pid)
        match message:
            case TemplateStarted():
                template.process = ProcessHandle(message.pid)
                return
            case AppImported():
                self._foundation.take_record(descriptors[0], is_whole=message.is_whole)
                return
            case BookmarkTaken():
                self._foundation.take_bookmark(number, template.layer, message.module, descriptors)
                return
            case BaseMisfit():
                self._foundation.take_misfit(template.layer, message.variables)
                self._launch_anew(template)
                return
            case AppLoaded():
                template.has_loaded = True
                event: events.Event = events.TemplateLoaded(
                    number,
                    message.seconds,
                    message.native_threads,
                    _failure(message.mistake),
                    _describe_load(message, template.layer),
                    message.cleans_up,
                )
            case AppUnsafe():
                event = events.TemplateUnsafe(number, message.reasons, message.needs_loop)
            case AppFailed():
                event = events.TemplateFailed(
                    number, message.summary, message.traceback, message.stage
                )
            case ForkFailed():
                event = events.WorkerFailed(message.worker_id, "boot", message.error, "")
            case _:
                raise AssertionError(message)
        self._on_event(event)

    # --- workers ----------------------------------------------------------------------------------

    def fork_worker(self, step: events.ForkWorker) -> None:
        try:
            channel, theirs, fault_file = self._open_worker_ends()
        except OSError as error:
            exited = events.WorkerExited(
                step.worker_id, f"could not be started: {error}", clean=False
            )
            self._loop.call_soon(self._on_event, exited)
            return
        index = self._free_records.pop()
        record = self._scoreboard.record(index)
        record.clear()
        template = self._templates.get(step.template_id)
        worker = _Worker(
            step.worker_id,
            step.template_id,
            step.slot,
            step.generation,
            index,
            record,
            channel,
            _inode_of(theirs),
            fault_file,
            template.layer if template is not None else None,
            gives_way=step.gives_way,
        )
        self._workers[step.worker_id] = worker
        channel.attach(
            self._loop,
            lambda message, descriptors: self._worker_said(worker, message, descriptors),
            lambda: self._worker_closed(worker),
        )
        if template is not None:
            certificates = self._certificates.descriptor
            order = ForkWorker(
                step.worker_id,
                step.slot,
                index,
                self._traits,
                has_tls=certificates is not None,
                succeeds=step.succeeds,
                gives_way=step.gives_way and self._may_give_way,
                import_in_loop=step.import_in_loop,
                has_other_way=step.has_other_way,
            )
            if step.gives_way and template.process is not None:
                # The worker takes after it.
                self._giving_way.begin(template.process.pid)
            descriptors = [
                theirs.fileno(),
                fault_file,
                *(() if certificates is None else (certificates,)),
                *self._listeners_of(step.slot),
            ]
            try:
                template.channel.post(order, descriptors)
            except OSError as error:
                # The worker's end closes below, and its end of file tells the rest.
                _logger.error("Descriptors could not be passed to a template: %s", error)  # noqa: TRY400
            if template.step.becomes_worker:
                self._turn_into(template, worker)
        # From now on the only other end is the worker's: when it is gone we see end of file.
        theirs.close()

    def _turn_into(self, template: _Template, worker: _Worker) -> None:
        """The template's process is the worker's from now on."""
        worker.process, template.process = template.process, None
        self._forget_template(template)
        self._foundation.template_gone(template.template_id)

    def _open_worker_ends(self) -> tuple[Channel, socket.socket, int]:
        """Return our end of a channel, the worker's, and its fault file. Raise OSError without leaks."""
        if not self._free_records:
            raise OSError("more workers live than the scoreboard has records")
        fault_file = make_fault_file("worker")
        try:
            return *Channel.pair(), fault_file
        except OSError:
            os.close(fault_file)
            raise

    def drain_worker(self, step: events.DrainWorker) -> None:
        if (worker := self._workers.get(step.worker_id)) is not None:
            self.pair_workers(step.worker_id, step.successors)
            worker.gives_way_at_end = step.gives_way
            worker.channel.post(Drain(step.reason.value, step.timeout, reports=True))

    def pair_workers(self, worker_id: int, successor_ids: tuple[int, ...]) -> None:
        """Open a passage between a worker and each of those that take its connections over."""
        beside = False
        for successor_id in successor_ids:
            worker, successor = self._workers.get(worker_id), self._workers.get(successor_id)
            if worker is not None and successor is not None:
                self._pair(worker, successor, beside=beside)
                beside = True

    def _pair(self, worker: _Worker, successor: _Worker, *, beside: bool) -> None:
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with one, other:
                # In this order: what the successor never gets, the other sees end.
                worker.channel.post(HandOver(successor.worker_id, beside), [one.fileno()])
                successor.channel.post(TakeOver(), [other.fileno()])
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the text says it all
                "The connections of worker %d are not handed over: %s", worker.worker_id, error
            )

    def kill_worker(self, worker_id: int, *, dump: bool) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        worker.is_killed = True
        if worker.process is None:
            worker.channel.deliver()  # its number may be there, unread
        self._stop_giving_way(worker)
        if worker.process is not None:
            worker.process.send(signal.SIGABRT if dump else signal.SIGKILL)
        elif not worker.channel.is_closed:
            # It has not spoken yet. Without a channel it ends by itself before it serves.
            worker.channel.close()
            self._loop.call_soon(self._worker_closed, worker)

    def _worker_said(self, worker: _Worker, message: AnyMessage, descriptors: list[int]) -> None:
        number = worker.worker_id
        match message:
            case WorkerStarted():
                if worker.process is None:
                    worker.process = ProcessHandle(message.pid)
                self._note_fork(worker, message.pid)
                event: events.Event = events.WorkerStarted(number, message.pid)
            case WorkerStage():
                event = events.WorkerReachedStage(number, message.stage)
            case AppImported():
                self._foundation.take_record(descriptors[0], is_whole=message.is_whole)
                return
            case WorkerImported():
                self._foundation.take_later_imports(descriptors[0])
                return
            case WorkerReady():
                worker.has_spoken = True
                self._stop_giving_way(worker)
                event = events.WorkerReady(number, _failure(message.mistake), message.has_lifespan)
            case WorkerFailed():
                worker.has_spoken = True
                self._stop_giving_way(worker)
                event = events.WorkerFailed(
                    number, message.stage, message.summary, message.traceback, message.other_way
                )
            case WorkerDraining():
                event = events.WorkerStoppedAccepting(number)
            case WorkerWaits():
                event = events.WorkerWaits(number, message)
            case SuccessorSpent():
                event = events.SuccessorSpent(number, message.successor)
            case WorkerDrained():
                if worker.gives_way_at_end and worker.process is not None:
                    self._giving_way.begin(worker.process.pid)
                event = events.WorkerDrained(
                    number,
                    message.exchanges_cut,
                    message.websockets_closed,
                    message.handed_over,
                    message.came_back,
                    message.shutdown_failure,
                )
            case _:
                raise AssertionError(message)
        self._on_event(event)

    def _note_fork(self, worker: _Worker, pid: int) -> None:
        """It takes after its template, which is done; or which was lowered for another one's sake."""
        if not worker.gives_way:
            self._giving_way.end_inherited(pid)
            return
        template = self._templates.get(worker.template_id)
        if template is not None and template.process is not None:
            self._giving_way.end(template.process.pid)
        self._giving_way.begin(pid)

    def _spread_workers(self, lowered: Collection[int]) -> int:
        """Let those that serve not crowd where a processor has only work that gives way to them; return how
        many they are."""
        workers: dict[int, _Worker] = {}
        serving: dict[int, Place] = {}
        for worker in self._workers.values():
            if worker.process is not None and worker.process.pid not in lowered:
                processor = processor_of(worker.process.pid)
                if processor is not None:
                    workers[worker.process.pid] = worker
                    serving[worker.process.pid] = Place(processor, worker.told_to_move_at)
        if len({place.processor for place in serving.values()}) < len(serving):
            rooms = {processor for pid in lowered if (processor := processor_of(pid)) is not None}
            now = self._loop.time()
            for pid, processor in to_spread(rooms, serving, now).items():
                workers[pid].told_to_move_at = now
                workers[pid].channel.post(MoveTo(processor))
        return len(serving)

    def _stop_giving_way(self, worker: _Worker) -> None:
        if worker.process is not None:
            self._giving_way.end(worker.process.pid)

    def _worker_closed(self, worker: _Worker) -> None:
        """End of file. A worker that has told its number is collected when it has ended."""
        if worker.process is None and worker.worker_id in self._workers:
            self._forget_worker(worker, "it ended before it could report", clean=False)

    def _forget_worker(self, worker: _Worker, description: str, *, clean: bool) -> None:
        del self._workers[worker.worker_id]
        worker.channel.close()
        if worker.process is not None:
            worker.process.close()
        else:
            # It ends before it serves, unless it hangs in a hook of the fork.
            self._leftovers.end_holder(worker.inode, self.pids())
        if not clean:
            # It may have served, and what is to take its place must not wait for anybody.
            self._giving_way.end_all()
        if not worker.has_spoken and not worker.is_killed and worker.layer is not None:
            self._foundation.distrust(worker.layer, next_too=True)
        self.tally.fold(worker.slot, worker.generation, worker.record.snapshot())
        worker.record.clear()  # others compare their connections with it
        self._free_records.append(worker.record_index)
        fault, doing = read_fault_file(worker.fault_file)
        self._on_event(events.WorkerExited(worker.worker_id, description, clean, fault, doing))

    def tell_assets(self, paths: Iterable[str]) -> None:
        """Let every worker tell its open pages of these files."""
        found = {os.path.basename(path).encode("utf-8", "replace").decode() for path in paths}
        names = tuple(sorted(found))
        if len(names) > MOST_ASSETS:
            names = (MANY_ASSETS,)
        for worker in self._workers.values():
            worker.channel.post(AssetsChanged(names))

    # --- certificates -----------------------------------------------------------------------------

    def renew_certificates(self, *, always: bool = False) -> bool:
        """Read the certificates again and give them to every worker; return whether they were new.

        `always` gives them to the workers also where they are the same, for a context factory may make
        something else of them. Raise TlsError when the files do not fit: then nothing changes.
        """
        is_new = self._certificates.load()
        descriptor = self._certificates.descriptor
        if (is_new or always) and descriptor is not None:
            for worker in self._workers.values():
                try:
                    worker.channel.post(UseCertificates(), [descriptor])
                except OSError as error:
                    _logger.error(  # noqa: TRY400 - the text says it all
                        "The worker of slot %d keeps its certificates, new ones could not be passed: %s",
                        worker.slot,
                        error,
                    )
        return is_new

    def _certify(self, generation: int) -> None:
        """Read the certificates anew for a new generation: a reload checks them as it checks the code.

        The first generation has what was read at the start. A template that takes the place of another
        of its generation changes nothing, whatever lies on disk.
        """
        known = self._certified_generation
        if known is not None and generation > known:
            self.renew_certificates()
        if known is None or generation > known:
            self._certified_generation = generation

    # --- exits ------------------------------------------------------------------------------------

    def reap(self) -> None:
        """Collect every child that has ended. As process 1, or as subreaper, that includes strangers."""
        while True:
            try:
                # Only looked at: a worker whose first message is unread must be there until its number
                # has become a handle, so that no signal can reach a stranger.
                seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if seen is None:
                return
            for worker in list(self._workers.values()):
                if worker.process is None:
                    worker.channel.deliver()
            for template in list(self._templates.values()):
                if template.process is None:
                    template.channel.deliver()
            self._foundation.hear()
            self._giving_way.forget(seen.si_pid)
            _, status = os.waitpid(seen.si_pid, 0)
            self._ended(seen.si_pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        for template in list(self._templates.values()):
            if template.process is not None and template.process.pid == pid:
                self._template_ended(template, code)
                return
        for worker in list(self._workers.values()):
            if worker.process is not None and worker.process.pid == pid:
                worker.channel.deliver()
                if worker.worker_id in self._workers:
                    description = self._describe_exit(code, is_killed=worker.is_killed)
                    self._forget_worker(worker, description, clean=code == 0)
                return
        if self._foundation.collected(pid, code):
            return
        _logger.debug("Collected process %d, not one of ours (%s)", pid, describe_exit(code))

    def _template_ended(self, template: _Template, code: int) -> None:
        template.channel.deliver()
        if self._templates.get(template.template_id) is not template:
            return  # what it said last has put another in its place
        if template.layer is not None and not template.has_loaded and not template.is_killed:
            self._foundation.distrust(template.layer)
            self._launch_anew(template)
            return
        template.channel.close()
        assert template.process is not None
        template.process.close()
        del self._templates[template.template_id]
        self._foundation.template_gone(template.template_id)
        self._leftovers.look(self.pids())
        fault, _ = read_fault_file(template.fault_file)
        description = self._describe_exit(code, is_killed=template.is_killed)
        self._on_event(events.TemplateExited(template.template_id, description, fault))

    def _describe_exit(self, code: int, *, is_killed: bool) -> str:
        """Return how a child ended, and for SIGKILL that we have not sent the likely cause."""
        description = describe_exit(code)
        if code == -signal.SIGKILL and not is_killed:
            cause = self._out_of_memory.explain(read_counters(), self._loop.time())
            if cause:
                return f"{description}, {cause}"
        return description

    def hold_worker(self, worker_id: int, timeout: float) -> None:
        if (worker := self._workers.get(worker_id)) is not None:
            worker.channel.post(Hold(timeout))

    def release_worker(self, worker_id: int) -> None:
        if (worker := self._workers.get(worker_id)) is not None:
            worker.channel.post(Release())

    def end_leftovers(self) -> None:
        """Kill what children that were killed have left behind."""
        self._leftovers.end(self.pids())

    # --- looking ----------------------------------------------------------------------------------

    @property
    def worker_count(self) -> int:
        """How many live, those that drain included."""
        return len(self._workers)

    def observe(
        self, worker_id: int, *, with_memory: bool, with_sleep: bool = False
    ) -> events.WorkerObserved | None:
        """Return a regular look at one worker, None when it is gone."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        memory = None
        if with_memory and worker.process is not None:
            memory = resident_bytes(worker.process.pid)
        age = heartbeat_age(worker.record)
        return events.WorkerObserved(
            worker_id,
            age,
            worker.record.values[Field.REQUESTS_TOTAL],
            memory,
            is_asleep=with_sleep and self._is_asleep(worker, age),
        )

    def _is_asleep(self, worker: _Worker, age: float | None) -> bool:
        """Its loop does not turn, and it does not compute either."""
        if worker.process is None or age is None or age < silent_after(self._config):
            return False
        return process_state(worker.process.pid) == "S"

    def record_of(self, worker_id: int) -> Values | None:
        worker = self._workers.get(worker_id)
        return worker.record.snapshot() if worker is not None else None

    def pids(self) -> set[int]:
        """Return the numbers of all workers and templates that have told theirs."""
        handles = [worker.process for worker in self._workers.values()]
        handles += [template.process for template in self._templates.values()]
        return {handle.pid for handle in handles if handle is not None}

    def living_records(self) -> list[tuple[int, int, Values]]:
        return [
            (worker.slot, worker.generation, worker.record.snapshot())
            for worker in self._workers.values()
        ]


def _inode_of(sock: socket.socket) -> int:
    return os.fstat(sock.fileno()).st_ino


def _failure(mistake: Mistake | None) -> Failure | None:
    if mistake is None:
        return None
    return Failure(mistake.stage, mistake.summary, mistake.traceback)


def _describe_load(loaded: AppLoaded, layer: Layer | None) -> str:
    """Return what was read for a load, for whoever waits for a save; empty where nobody looked."""
    if not loaded.module_count:
        return ""
    names = ", ".join(loaded.modules)
    more = loaded.module_count - len(loaded.modules)
    what = f"{names} and {more} more module{'' if more == 1 else 's'}" if more else names
    place = layer.name if layer is not None else "a fresh interpreter"
    return f"read {what} in {loaded.seconds * 1000:.0f} ms, from {place}"


def heartbeat_age(record: Record) -> float | None:
    """Return the seconds since the worker's loop last turned, None before its first turn."""
    beat = record.values[Field.HEARTBEAT]
    return max(0.0, time.monotonic() - beat / 1e9) if beat else None
