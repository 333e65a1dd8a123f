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
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asgireload.config import Config
from asgireload.errors import TlsError
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import ProcessHandle, resident_bytes
from asgireload.ipc.messages import (
    AnyMessage,
    AppFailed,
    AppLoaded,
    AppUnsafe,
    Drain,
    ForkFailed,
    ForkWorker,
    HandOver,
    LoadApp,
    TakeOver,
    UseCertificates,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerReady,
    WorkerStage,
    WorkerStarted,
)
from asgireload.ipc.scoreboard import CAPACITY, Field, Record, Scoreboard
from asgireload.net.addresses import ListenerTraits
from asgireload.supervisor import events
from asgireload.supervisor.certificates import Certificates
from asgireload.supervisor.fault import readable
from asgireload.supervisor.head_start import HeadStart
from asgireload.supervisor.spawning import TEMPLATE_MODULE, describe_exit, spawn
from asgireload.supervisor.tally import Tally, Values

FAULT_LIMIT = 32_000
"""Bytes of a fault file that are read: the stacks of a few dozen threads."""

_logger = logging.getLogger("asgireload.error")


@dataclass(slots=True)
class _Template:
    template_id: int
    generation: int
    process: ProcessHandle
    channel: Channel
    fault_file: int


@dataclass(slots=True)
class _Worker:
    worker_id: int
    slot: int
    generation: int
    record_index: int
    record: Record
    channel: Channel
    fault_file: int
    process: ProcessHandle | None = None


class Children:
    """All templates and workers of this supervisor, by the numbers that the decisions use.

    `on_event` is called from the loop, never from within `perform` steps. `close()` must be called when
    every child has left.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        directory: str,
        listeners_of: Callable[[int], Sequence[int]],
        on_event: Callable[[events.Event], None],
        certificates: Certificates,
        traits: tuple[ListenerTraits, ...],
        head_start: HeadStart,
    ) -> None:
        """`listeners_of(slot)` returns the descriptors of the sockets that the slot accepts from, each
        with its `traits`. The certificates have been loaded, and are the caller's to close, as is the
        head start when no template has taken it."""
        self._loop = loop
        self._config = config
        self._directory = directory
        self._listeners_of = listeners_of
        self._on_event = on_event
        self._certificates = certificates
        self._traits = traits
        self._head_start = head_start
        self._certified_generation: int | None = None
        """The newest generation that certificates were read for."""
        self._scoreboard = Scoreboard.create()
        self._free_records = list(range(CAPACITY - 1, -1, -1))
        self._templates: dict[int, _Template] = {}
        self._workers: dict[int, _Worker] = {}
        self.tally = Tally()

    def close(self) -> None:
        self._scoreboard.close()

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
        try:
            template = self._make_template(step.template_id, step.generation)
        except OSError as error:
            exited = events.TemplateExited(step.template_id, f"could not be started: {error}")
            self._loop.call_soon(self._on_event, exited)
            return
        self._templates[step.template_id] = template
        channel = template.channel
        channel.attach(
            self._loop,
            lambda message, descriptors: self._template_said(template, message),
            lambda: None,  # its exit tells more
        )
        order = LoadApp(
            generation=step.generation,
            config=self._config,
            preload=step.preload,
            directory=self._directory,
            name=self._config.app,
        )
        channel.post(order, [self._scoreboard.descriptor, template.fault_file])

    def _make_template(self, template_id: int, generation: int) -> _Template:
        """Raise OSError when a process or a descriptor cannot be had; then nothing stays open."""
        with contextlib.ExitStack() as opened:
            fault_file = _fault_file("template")
            opened.callback(os.close, fault_file)
            begun = self._head_start.take()
            if begun is not None:
                channel = Channel(begun.socket)
                opened.callback(channel.close)  # then it ends by itself
                process = ProcessHandle(begun.pid)
            else:
                channel, theirs = Channel.pair()
                opened.callback(channel.close)
                with theirs:
                    process = ProcessHandle(spawn(TEMPLATE_MODULE, theirs.fileno()))
            opened.pop_all()
        return _Template(template_id, generation, process, channel, fault_file)

    def close_template(self, template_id: int) -> None:
        """Let it go: it ends when its channel is closed."""
        if (template := self._templates.get(template_id)) is not None:
            template.channel.close()

    def kill_template(self, template_id: int, *, dump: bool) -> None:
        if (template := self._templates.get(template_id)) is not None:
            template.process.send(signal.SIGABRT if dump else signal.SIGKILL)

    def template_pid(self, template_id: int) -> int | None:
        template = self._templates.get(template_id)
        return template.process.pid if template is not None else None

    def _template_said(self, template: _Template, message: AnyMessage) -> None:
        number = template.template_id
        match message:
            case AppLoaded():
                event: events.Event = events.TemplateLoaded(
                    number, message.seconds, message.native_threads
                )
            case AppUnsafe():
                event = events.TemplateUnsafe(number, message.reasons)
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
        worker = _Worker(
            step.worker_id, step.slot, step.generation, index, record, channel, fault_file
        )
        self._workers[step.worker_id] = worker
        channel.attach(
            self._loop,
            lambda message, descriptors: self._worker_said(worker, message),
            lambda: self._worker_closed(worker),
        )
        template = self._templates.get(step.template_id)
        if template is not None:
            certificates = self._certificates.descriptor
            order = ForkWorker(
                step.worker_id, step.slot, index, self._traits, has_tls=certificates is not None
            )
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
        # From now on the only other end is the worker's: when it is gone we see end of file.
        theirs.close()

    def _open_worker_ends(self) -> tuple[Channel, socket.socket, int]:
        """Return our end of a channel, the worker's, and its fault file. Raise OSError without leaks."""
        if not self._free_records:
            raise OSError("more workers live than the scoreboard has records")
        fault_file = _fault_file("worker")
        try:
            return *Channel.pair(), fault_file
        except OSError:
            os.close(fault_file)
            raise

    def drain_worker(self, step: events.DrainWorker) -> None:
        if (worker := self._workers.get(step.worker_id)) is not None:
            if step.successor is not None:
                self.pair_workers(step.worker_id, step.successor)
            worker.channel.post(Drain(step.reason.value, step.timeout))

    def pair_workers(self, worker_id: int, successor_id: int) -> None:
        """Open a passage between a worker and the one that takes its connections over."""
        worker, successor = self._workers.get(worker_id), self._workers.get(successor_id)
        if worker is None or successor is None:
            return
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with one, other:
                # In this order: what the successor never gets, the other sees end.
                worker.channel.post(HandOver(), [one.fileno()])
                successor.channel.post(TakeOver(), [other.fileno()])
        except OSError as error:
            _logger.error(  # noqa: TRY400 - the text says it all
                "The connections of worker %d are not handed over: %s", worker_id, error
            )

    def kill_worker(self, worker_id: int, *, dump: bool) -> None:
        worker = self._workers.get(worker_id)
        if worker is None:
            return
        if worker.process is None:
            worker.channel.deliver()  # its number may be there, unread
        if worker.process is not None:
            worker.process.send(signal.SIGABRT if dump else signal.SIGKILL)
        elif not worker.channel.is_closed:
            # It has not spoken yet. Without a channel it ends by itself before it serves.
            worker.channel.close()
            self._loop.call_soon(self._worker_closed, worker)

    def _worker_said(self, worker: _Worker, message: AnyMessage) -> None:
        number = worker.worker_id
        match message:
            case WorkerStarted():
                worker.process = ProcessHandle(message.pid)
                event: events.Event = events.WorkerStarted(number, message.pid)
            case WorkerStage():
                event = events.WorkerReachedStage(number, message.stage)
            case WorkerReady():
                event = events.WorkerReady(number)
            case WorkerFailed():
                event = events.WorkerFailed(
                    number, message.stage, message.summary, message.traceback
                )
            case WorkerDraining():
                event = events.WorkerStoppedAccepting(number)
            case WorkerDrained():
                event = events.WorkerDrained(
                    number,
                    message.exchanges_cut,
                    message.websockets_closed,
                    message.handed_over,
                    message.came_back,
                )
            case _:
                raise AssertionError(message)
        self._on_event(event)

    def _worker_closed(self, worker: _Worker) -> None:
        """End of file. A worker that has told its number is collected when it has ended."""
        if worker.process is None and worker.worker_id in self._workers:
            self._forget_worker(worker, "it ended before it could report", clean=False)

    def _forget_worker(self, worker: _Worker, description: str, *, clean: bool) -> None:
        del self._workers[worker.worker_id]
        worker.channel.close()
        if worker.process is not None:
            worker.process.close()
        self.tally.fold(worker.slot, worker.generation, worker.record.snapshot())
        self._free_records.append(worker.record_index)
        fault = _read_fault(worker.fault_file)
        self._on_event(events.WorkerExited(worker.worker_id, description, clean, fault))

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
            _, status = os.waitpid(seen.si_pid, 0)
            self._ended(seen.si_pid, os.waitstatus_to_exitcode(status))

    def _ended(self, pid: int, code: int) -> None:
        for template in self._templates.values():
            if template.process.pid == pid:
                self._template_ended(template, code)
                return
        for worker in list(self._workers.values()):
            if worker.process is not None and worker.process.pid == pid:
                worker.channel.deliver()
                if worker.worker_id in self._workers:
                    self._forget_worker(worker, describe_exit(code), clean=code == 0)
                return
        _logger.debug("Collected process %d, not one of ours (%s)", pid, describe_exit(code))

    def _template_ended(self, template: _Template, code: int) -> None:
        template.channel.deliver()
        template.channel.close()
        template.process.close()
        del self._templates[template.template_id]
        fault = _read_fault(template.fault_file)
        self._on_event(events.TemplateExited(template.template_id, describe_exit(code), fault))

    # --- looking ----------------------------------------------------------------------------------

    def observe(self, worker_id: int, *, with_memory: bool) -> events.WorkerObserved | None:
        """Return a regular look at one worker, None when it is gone."""
        worker = self._workers.get(worker_id)
        if worker is None:
            return None
        memory = None
        if with_memory and worker.process is not None:
            memory = resident_bytes(worker.process.pid)
        return events.WorkerObserved(
            worker_id,
            heartbeat_age(worker.record),
            worker.record.values[Field.REQUESTS_TOTAL],
            memory,
        )

    def record_of(self, worker_id: int) -> Values | None:
        worker = self._workers.get(worker_id)
        return worker.record.snapshot() if worker is not None else None

    def living_records(self) -> list[tuple[int, int, Values]]:
        return [
            (worker.slot, worker.generation, worker.record.snapshot())
            for worker in self._workers.values()
        ]


def heartbeat_age(record: Record) -> float | None:
    """Return the seconds since the worker's loop last turned, None before its first turn."""
    beat = record.values[Field.HEARTBEAT]
    return max(0.0, time.monotonic() - beat / 1e9) if beat else None


def _fault_file(role: str) -> int:
    """Return a descriptor that a dying child writes its stacks to; shared memory, so nothing stays behind."""
    return os.memfd_create(f"asgireload-{role}-fault", os.MFD_CLOEXEC)


def _read_fault(descriptor: int) -> str:
    """Return what a dead child left in its fault file, and close it."""
    text = os.pread(descriptor, FAULT_LIMIT, 0).decode("utf-8", "replace")
    os.close(descriptor)
    return readable(text)
