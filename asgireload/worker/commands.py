"""Commands of the supervisor to a running worker, and the worker's notices while it drains."""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial

import msgspec

from asgireload.config import Config
from asgireload.draining import DrainReason
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import move_to
from asgireload.ipc.messages import (
    AnyMessage,
    AssetsChanged,
    Drain,
    HandOver,
    Hold,
    MoveTo,
    Release,
    SuccessorSpent,
    TakeOver,
    UseCertificates,
    WorkerWaits,
)
from asgireload.ipc.scoreboard import Field, Record
from asgireload.worker.handover import Handover
from asgireload.worker.hooks import WorkerHooks
from asgireload.worker.listeners import WorkerListeners

_logger = logging.getLogger("asgireload.error")


class LeaveCommand(msgspec.Struct, frozen=True):
    """The command to drain within `timeout` seconds, from the supervisor or by the worker itself."""

    reason: DrainReason
    timeout: float


class SupervisorCommands:
    """Carries out the commands that come through `channel`. Must be made while the event loop runs."""

    def __init__(
        self,
        config: Config,
        channel: Channel,
        record: Record,
        listeners: WorkerListeners,
        hooks: WorkerHooks | None,
    ) -> None:
        self._config = config
        self._channel = channel
        self._record = record
        self._listeners = listeners
        self._hooks = hooks
        self._tells_waits = False
        self.handover: Handover | None = None
        """Set when the worker begins to serve."""
        loop = asyncio.get_running_loop()
        self.leave: asyncio.Future[LeaveCommand] = loop.create_future()
        """Done when the worker has to drain."""
        channel.attach(loop, self._on_message, self.on_supervisor_gone)

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case Drain():
                self._tells_waits = message.reports
                self._command(LeaveCommand(DrainReason(message.reason), message.timeout))
            case HandOver() | TakeOver() | UseCertificates() if not descriptors:
                # The kernel has closed descriptors beyond the limit, so the other worker sees end of file.
                _logger.error(
                    "%s could not be carried out: this worker has reached its limit of open files; "
                    "raise the limit (ulimit -n) or look for files that are not closed",
                    type(message).__name__,
                )
            case HandOver():
                hand_to = partial(Handover.hand_to, number=message.successor, beside=message.beside)
                self._pass(descriptors[0], hand_to)
            case TakeOver():
                self._record.values[Field.ACCEPTING] = 1
                self._pass(descriptors[0], Handover.receive)
            case Hold() | Release() | AssetsChanged() if self._hooks is not None:
                self._hooks.hear(message)
            case UseCertificates():
                self._listeners.use_certificates(descriptors[0])
            case MoveTo():
                self._move_to(message.processor)
            case _:
                raise AssertionError(message)

    def _move_to(self, processor: int) -> None:
        try:
            move_to(processor)
        except OSError as error:
            _logger.debug("Processor %d was not moved to: %s", processor, error)

    def _pass(self, descriptor: int, take: Callable[[Handover, socket.socket], None]) -> None:
        """Give a passage to the handover. If this worker does not serve yet, the other one sees end of file."""
        passage = socket.socket(fileno=descriptor)
        if self.handover is None:
            passage.close()
        else:
            take(self.handover, passage)

    def report_waits(self, waits: WorkerWaits) -> None:
        """Report to the supervisor what the drain waits for, if it has asked for reports."""
        # A supervisor of an older version does not ask for reports and cannot decode them; a supervisor that is
        # gone has not asked.
        if self._tells_waits:
            self._channel.post(waits)

    def report_spent(self, successor: int) -> None:
        """Report to the supervisor that handover target number `successor` takes nothing more."""
        if successor:  # a supervisor of an older version sends 0, and cannot decode the message
            self._channel.post(SuccessorSpent(successor))

    def on_supervisor_gone(self) -> None:
        """Drain without a command, because the supervisor is gone or this process got SIGTERM."""
        if not self.leave.done():
            _logger.warning("Told to leave by a signal or by the end of the supervisor; draining")
        self._command(LeaveCommand(DrainReason.ORPHANED, self._config.drain_timeout))

    def _command(self, command: LeaveCommand) -> None:
        if not self.leave.done():
            self.leave.set_result(command)
