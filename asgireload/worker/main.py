"""A worker from fork to exit: the place where its parts are joined.

    boot (import if the template did not, lifespan startup, health path)
      ─▶ ready ─▶ drain ─▶ lifespan shutdown ─▶ exit

The worker reports each stage to the supervisor and obeys its commands: drain, hand connections to a handover
target, take over the connections of another worker. When the supervisor is gone (end of file on the channel, or
SIGTERM from the kernel), the worker drains by itself.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial

from asgireload.asgi import ASGIApp
from asgireload.config import Config
from asgireload.draining import DrainReason, draining
from asgireload.errors import ChannelClosedError
from asgireload.http.access_log import open_access_log
from asgireload.http.clock import Clock
from asgireload.http.drain_state import DrainState
from asgireload.http.live import Live
from asgireload.http.request_id import RequestIds
from asgireload.http.server import Server
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.app_signals import give_signals
from asgireload.ipc.channel import Channel
from asgireload.ipc.exit_time import exit_deadline, failed_exit_timeout
from asgireload.ipc.heartbeat import heartbeat_interval
from asgireload.ipc.linux import (
    keep_freed_memory,
    raise_file_limit,
    signal_on_parent_death,
    stop_giving_way,
)
from asgireload.ipc.messages import (
    SUMMARY_LIMIT,
    ChildStarted,
    WorkerDrained,
    WorkerDraining,
    WorkerReady,
    shortened,
)
from asgireload.ipc.quiet_signals import make_quiet, restore_in_forks
from asgireload.ipc.scoreboard import Field, Record, Scoreboard
from asgireload.ipc.titles import set_title
from asgireload.log import keep_logging
from asgireload.net.networks import TrustedNetworks
from asgireload.websocket.upgrade import WebSocketUpgrade
from asgireload.worker.accept_balance import AcceptBalance
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.application import ApplicationStart
from asgireload.worker.commands import LeaveCommand, SupervisorCommands
from asgireload.worker.drain import drain, log_drain
from asgireload.worker.event_loop import loop_factory
from asgireload.worker.fast_exit import ExitTime
from asgireload.worker.forked import ForkedCopies
from asgireload.worker.handover import Handover
from asgireload.worker.heartbeat import Heartbeat
from asgireload.worker.hooks import WorkerHooks
from asgireload.worker.inline_serving import InlineServing
from asgireload.worker.lifespan import Lifespan
from asgireload.worker.listeners import WorkerListeners
from asgireload.worker.loop_end import close_loop
from asgireload.worker.open_work import WaitReports
from asgireload.worker.order import WorkerOrder, place_of
from asgireload.worker.orphaned import Orphaned
from asgireload.worker.protocols import new_protocol, resumed_protocol
from asgireload.worker.proxy_header import ProxyHeaderReader
from asgireload.worker.settings import connection_settings

_logger = logging.getLogger("asgireload.error")

_HEAP_BLOCK_BYTES = 8 * 1024 * 1024
_KEPT_BYTES = 16 * 1024 * 1024
"""Bodies are received and made in pieces of hundreds of KiB. By default the C library returns each piece to the
kernel and asks for a new one, zeroed; measured, that was a third of the cost of an upload of 1 MB."""


def run_worker(
    order: WorkerOrder, hooks: WorkerHooks | None, flush: Callable[[], None]
) -> tuple[int, ExitTime]:
    """Run a worker until it has drained; return the exit status and the time that the process has to exit.

    `hooks` are those of development mode, or None in production.
    `flush` writes buffered output. It is called as soon as the worker serves nothing more.
    """
    channel = Channel(socket.socket(fileno=order.channel))
    faulthandler.enable(order.fault_file)
    make_quiet()
    orphaned = Orphaned(order.config)
    signal.signal(signal.SIGTERM, orphaned.on_signal)
    signal_on_parent_death(signal.SIGTERM)
    forked = ForkedCopies()
    restore_in_forks()
    give_signals(order.signals)
    if os.getppid() != order.supervisor:
        return 1, _time_to_exit(order.config)  # the supervisor died before PR_SET_PDEATHSIG was set
    config = order.config
    keep_logging(config, place_of(order))
    set_title("worker", order.name, slot=order.slot, generation=order.generation)
    _reseed()
    keep_freed_memory(_HEAP_BLOCK_BYTES, _KEPT_BYTES)
    try:
        channel.send(ChildStarted(os.getpid()))
        _logger.info("Started server process [%d]", os.getpid())
        worker = RunningWorker(order, hooks, channel, orphaned, forked)
        runner = asyncio.Runner(loop_factory=loop_factory(config.loop))
        try:
            worker.import_before_loop()
            status = runner.run(worker.run())
        finally:
            flush()
            close_loop(runner.get_loop(), worker.time_to_exit.threads_until)
        _logger.info("Finished server process [%d]", os.getpid())
        return status, worker.time_to_exit
    except ChannelClosedError:
        # The supervisor died while the worker booted.
        return 1, _time_to_exit(config)
    finally:
        channel.close()


def _time_to_exit(config: Config, drain_deadline: float | None = None) -> ExitTime:
    """Return the time to exit, counted from now.

    `drain_deadline` is None for a worker that has not served.
    """
    now = time.monotonic()
    timeout = config.exit_timeout
    if drain_deadline is None:
        return ExitTime(now, now + failed_exit_timeout(timeout))
    return ExitTime(now, exit_deadline(timeout, drain_deadline, now))


def _reseed() -> None:
    """Seed numpy's global random generator anew.

    The random module does so by itself after a fork; numpy does not, so all workers would draw the same numbers.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


class RunningWorker:
    """Joins the parts of a worker, and starts and stops them in order."""

    def __init__(
        self,
        order: WorkerOrder,
        hooks: WorkerHooks | None,
        channel: Channel,
        orphaned: Orphaned,
        forked: ForkedCopies,
    ) -> None:
        self._order = order
        self._config = order.config
        self._channel = channel
        self._orphaned = orphaned
        self._forked = forked
        forked.watch_channels(self._channels)
        self._hooks = hooks
        if self._hooks is not None:
            self._hooks.begin(order, channel)
        self._listeners = WorkerListeners(order)
        self._application = ApplicationStart(order, hooks, channel, orphaned.on_signal)
        self._record = Record.detached()
        self._handover: Handover | None = None
        self._drain_deadline: float | None = None
        """When drain and lifespan shutdown must be done; None before the worker has to leave."""
        self._time_to_exit: ExitTime | None = None

    def _channels(self) -> list[int]:
        """Return the descriptors, besides connections, that processes forked by the application must not keep."""
        channels = [] if self._channel.is_closed else [self._channel.fileno()]
        channels += self._listeners.descriptors()
        return channels + (self._handover.descriptors() if self._handover is not None else [])

    @property
    def time_to_exit(self) -> ExitTime:
        """The time to exit; it begins when this property is first read."""
        if self._time_to_exit is None:
            self._time_to_exit = _time_to_exit(self._config, self._drain_deadline)
        return self._time_to_exit

    def import_before_loop(self) -> None:
        """Import the application if the import is to be done before the loop runs; `run` reports a failure."""
        self._application.import_before_loop()

    async def run(self) -> int:
        """Boot, serve and drain; return the exit status."""
        loop = asyncio.get_running_loop()
        scoreboard = Scoreboard(self._order.scoreboard)
        self._record = scoreboard.record(self._order.record)
        self._forked.watch_record(self._record)
        commands = SupervisorCommands(
            self._config, self._channel, self._record, self._listeners, self._hooks
        )
        self._forked.watch_loop(loop)
        with self._orphaned.telling(loop, commands.on_supervisor_gone):
            try:
                wire, lifespan = await self._boot(loop)
            except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
                self._application.report_failure(error)
                return 3
            if commands.leave.done():
                # The supervisor is gone: this worker must not accept a connection.
                await lifespan.shutdown(self._config.lifespan_timeout)
                return 1
            return await self._serve(scoreboard, commands, wire, lifespan)

    async def _boot(self, loop: asyncio.AbstractEventLoop) -> tuple[Http1Wire, Lifespan]:
        application = self._application
        app = application.take()
        self._listeners.open(self._forked, application.reach)
        app, lifespan = await application.start(app)
        return self._make_wire(loop, application.as_served(app), lifespan), lifespan

    async def _serve(
        self,
        scoreboard: Scoreboard,
        commands: SupervisorCommands,
        wire: Http1Wire,
        lifespan: Lifespan,
    ) -> int:
        server = wire.server
        loop = server.clock.loop
        acceptor = Acceptor(
            loop,
            self._listeners.entrances,
            partial(new_protocol, wire),
            record=self._record,
            handshake_timeout=self._config.timeout_handshake,
            proxy_headers=self._make_proxy_headers(loop),
            has_room=server.live.has_room,
            balance=self._make_balance(scoreboard),
            inline=InlineServing(wire),
        )
        server.live.on_room = acceptor.note_room
        self._stop_giving_way()
        handover = Handover(server, partial(resumed_protocol, wire), commands.report_spent)
        self._handover = commands.handover = handover
        self._begin_serving(wire, acceptor)
        interval = heartbeat_interval(self._config)
        on_beat = self._hooks.beat if self._hooks is not None else None
        heartbeat = Heartbeat(loop, self._record, interval, on_beat)
        self._channel.post(WorkerReady(self._application.failure, lifespan.state is not None))

        command = await commands.leave
        timeout = await self._stop_accepting(acceptor, command)
        self._channel.post(WorkerDraining())
        reports = WaitReports(server.clock, server.live, commands.report_waits)
        result = await drain(server, acceptor, handover, command.reason, timeout)
        await lifespan.shutdown(self._config.lifespan_timeout)
        reports.end()
        heartbeat.stop()
        log_drain(result)
        self._channel.post(
            WorkerDrained(
                result.exchanges_cut,
                result.websockets_closed,
                result.handed_over,
                result.came_back,
                shortened(lifespan.shutdown_failure, SUMMARY_LIMIT),
            )
        )
        return 0

    async def _stop_accepting(self, acceptor: Acceptor, command: LeaveCommand) -> float:
        """Stop accepting; return how many seconds the drain still has.

        A worker that may be the last one to accept first takes the connections that wait in the kernel.
        """
        loop = asyncio.get_running_loop()
        timeout = command.timeout
        self._drain_deadline = time.monotonic() + timeout + self._config.lifespan_timeout
        if self._may_be_last(command.reason):
            begun_at = loop.time()
            is_everybodys = (
                command.reason is not DrainReason.ORPHANED or os.getppid() != self._order.supervisor
            )
            await acceptor.last_call(is_everybodys=is_everybodys)
            timeout = max(0.0, timeout - (loop.time() - begun_at))
        acceptor.stop()
        self._record.values[Field.ACCEPTING] = 0
        if self._hooks is not None:
            self._hooks.end_serving(command.reason)
        if command.reason in (DrainReason.STOP, DrainReason.SCALE_DOWN, DrainReason.ORPHANED):
            acceptor.take_waiting()
        self._listeners.close()
        return timeout

    def _make_proxy_headers(self, loop: asyncio.AbstractEventLoop) -> ProxyHeaderReader | None:
        if not any(entrance.traits.proxy for entrance in self._listeners.entrances):
            return None
        trusted = TrustedNetworks.parse(self._config.proxy_protocol_allow_from)
        return ProxyHeaderReader(loop, trusted, self._record)

    def _make_balance(self, scoreboard: Scoreboard) -> AcceptBalance | None:
        if self._config.accept != "shared":
            return None  # the kernel spreads connections over sockets of their own
        return AcceptBalance(scoreboard, self._order.record)

    def _may_be_last(self, reason: DrainReason) -> bool:
        """Return whether perhaps no worker accepts from these sockets after this one has left.

        A worker that gets SIGTERM does not know whether all workers get it (systemd's KillMode=control-group).
        """
        if reason is DrainReason.SCALE_DOWN:
            return self._config.accept == "per-slot"
        return reason in (DrainReason.STOP, DrainReason.ORPHANED)

    def _begin_serving(self, wire: Http1Wire, acceptor: Acceptor) -> None:
        if not self._order.succeeds:
            self._record.values[Field.ACCEPTING] = 1
        if self._hooks is None:
            acceptor.start()
        else:
            self._hooks.begin_serving(wire, acceptor)

    def _stop_giving_way(self) -> None:
        """Return to normal CPU priority: from the first connection on this process works for clients."""
        if self._order.gives_way:
            try:
                stop_giving_way(os.getpid())
            except OSError as error:
                # The application has dropped the privilege; the supervisor has it, and gets WorkerReady next.
                _logger.debug("The priority is left for the supervisor to raise: %s", error)

    def _make_wire(
        self, loop: asyncio.AbstractEventLoop, app: ASGIApp, lifespan: Lifespan
    ) -> Http1Wire:
        config = self._config
        settings = self._order.settings or connection_settings(config, raise_file_limit())
        header = config.request_id_header
        server = Server(
            app,
            settings.http,
            Clock(loop, has_date=settings.http.date_header),
            live=Live(loop, settings.http, self._record),
            drain=DrainState(draining()),
            state=lifespan.state,
            access_log=open_access_log(config, place_of(self._order)),
            request_ids=RequestIds(header) if header is not None else None,
        )
        if settings.websocket is None:
            return Http1Wire(server)
        return Http1Wire(server, WebSocketUpgrade(settings.websocket))
