"""A worker from fork to exit: the place where its parts are joined.

    boot (import if the template did not, lifespan startup, health path)
      ─▶ ready ─▶ drain ─▶ lifespan shutdown ─▶ exit

It reports each stage to the supervisor and takes its commands: to drain, to which worker its connections
may go then, and to take over those of another. When the supervisor is
gone, seen as end of file on the channel or as SIGTERM from the kernel, it drains by itself.
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
from typing import Literal, cast

import msgspec

from asgireload.app import (
    format_user_traceback,
    load_app,
    needs_running_loop,
    refuses_running_loop,
    split_reason,
    summarize,
)
from asgireload.asgi import ASGIApp
from asgireload.config import Config
from asgireload.draining import DrainReason, draining
from asgireload.errors import AppLoadError, ChannelClosedError, StartupError
from asgireload.failures import Failure
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
    move_to,
    raise_file_limit,
    signal_on_parent_death,
    stop_giving_way,
)
from asgireload.ipc.messages import (
    SUMMARY_LIMIT,
    AnyMessage,
    AssetsChanged,
    ChildStarted,
    Drain,
    HandOver,
    Hold,
    MoveTo,
    Release,
    SuccessorSpent,
    TakeOver,
    UseCertificates,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerReady,
    WorkerStage,
    WorkerWaits,
    shortened,
)
from asgireload.ipc.quiet_signals import make_quiet, restore_in_forks, take_back
from asgireload.ipc.scoreboard import Field, Record, Scoreboard
from asgireload.ipc.titles import set_title
from asgireload.log import configure_logging, keep_logging
from asgireload.net.networks import TrustedNetworks
from asgireload.net.tls import Material, unseal
from asgireload.websocket.upgrade import WebSocketUpgrade
from asgireload.worker.accept_balance import AcceptBalance
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.drain import DrainResult, drain
from asgireload.worker.fast_exit import ExitTime
from asgireload.worker.forked import ForkedCopies, end_in_import
from asgireload.worker.handover import Handover
from asgireload.worker.health import check_health
from asgireload.worker.heartbeat import Heartbeat
from asgireload.worker.inline_serving import InlineServing
from asgireload.worker.lifespan import Lifespan, LifespanMode
from asgireload.worker.loop_end import close_loop
from asgireload.worker.open_work import WaitReports
from asgireload.worker.order import WorkerOrder, place_of
from asgireload.worker.orphaned import Orphaned
from asgireload.worker.protocols import new_protocol, resumed_protocol
from asgireload.worker.proxy_header import ProxyHeaderReader
from asgireload.worker.settings import connection_settings
from asgireload.worker.tls import make_contexts

BOTH_WAYS_FAIL = (
    "the import was also tried the other way: it needs a running event loop, and it starts one of its own, which"
    " cannot be where one runs; do one of the two in the lifespan startup"
)
_logger = logging.getLogger("asgireload.error")

_HEAP_BLOCK_BYTES = 8 * 1024 * 1024
_KEPT_BYTES = 16 * 1024 * 1024
"""Bodies are received and made in pieces of hundreds of KiB. By default the C library gives each back to the
kernel and asks for it anew, zeroed; measured, that was a third of what an upload of 1 MB costs."""


class _Leave(msgspec.Struct, frozen=True):
    """The command to drain, from whoever gave it."""

    reason: DrainReason
    timeout: float


def run_worker(order: WorkerOrder, flush: Callable[[], None]) -> tuple[int, ExitTime]:
    """Be a worker until it has drained; return the exit status, and the time to exit with it.

    `flush` writes what is buffered. It is called as soon as nothing is served any more.
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
        return 1, _time_to_exit(order.config)  # it died before the kernel knew whom to tell
    config = order.config
    keep_logging(config, place_of(order))
    set_title("worker", order.name, slot=order.slot, generation=order.generation)
    _reseed()
    keep_freed_memory(_HEAP_BLOCK_BYTES, _KEPT_BYTES)
    try:
        channel.send(ChildStarted(os.getpid()))
        _logger.info("Started server process [%d]", os.getpid())
        worker = _Worker(order, channel, orphaned, forked)
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
        # The supervisor died while we booted; nobody knows this worker.
        return 1, _time_to_exit(config)
    finally:
        channel.close()


def _time_to_exit(config: Config, drain_deadline: float | None = None) -> ExitTime:
    """Return the time to exit that begins now; without `drain_deadline` that of a worker that has not served."""
    now = time.monotonic()
    timeout = config.exit_timeout
    if drain_deadline is None:
        return ExitTime(now, now + failed_exit_timeout(timeout))
    return ExitTime(now, exit_deadline(timeout, drain_deadline, now))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop where it is installed or asked for, else asyncio's."""
    if name in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


def import_what_runs(config: Config) -> None:
    """Import what a worker would import when it starts, so that forks of this process find it there."""
    import concurrent.futures.thread  # noqa: F401 - event loops load it when they are made

    loop_factory(config.loop)


def _reseed() -> None:
    """Give numpy's global generator its own random numbers in this process.

    The random module sees to that after a fork by itself; without this all workers would draw the
    same numbers from numpy.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


class _Worker:
    """The running worker: its loop, its connections and its conversation with the supervisor."""

    def __init__(
        self, order: WorkerOrder, channel: Channel, orphaned: Orphaned, forked: ForkedCopies
    ) -> None:
        self._order = order
        self._config = order.config
        self._channel = channel
        self._orphaned = orphaned
        self._forked = forked
        forked.watch_channels(self._channels)
        self._leave: asyncio.Future[_Leave] | None = None
        self._handover: Handover | None = None
        self._tells_waits = False
        self._failure: Failure | None = None
        self._drain_deadline: float | None = None
        """When drain and lifespan shutdown must be done; None before it is told to leave."""
        self._time_to_exit: ExitTime | None = None
        self._imported: ASGIApp | BaseException | None = None
        """What came of the import before the loop ran; None where there was none."""
        self._stage = "boot"
        self._hooks = order.hooks
        if self._hooks is not None:
            self._hooks.begin(order, channel)
        self._record = Record.detached()
        self._entrances: list[Entrance] = []
        self._material = Material()
        if order.certificates is not None:
            self._material = _take_material(order.certificates)

    def _channels(self) -> list[int]:
        """Return the descriptors that processes of the application have no use for, beside connections."""
        channels = [] if self._channel.is_closed else [self._channel.fileno()]
        if not self._entrances:
            # The application is still being imported.
            channels += [descriptor for descriptor, _ in self._order.listeners]
        return channels + (self._handover.descriptors() if self._handover is not None else [])

    @property
    def time_to_exit(self) -> ExitTime:
        """The time to exit, which begins when it is asked for first."""
        if self._time_to_exit is None:
            self._time_to_exit = _time_to_exit(self._config, self._drain_deadline)
        return self._time_to_exit

    def import_before_loop(self) -> None:
        """Import the application, where that is to be done before the loop runs; what fails is told later."""
        if self._order.app is None and not self._order.import_in_loop:
            self._imported = self._try_import()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        leave: asyncio.Future[_Leave] = loop.create_future()
        self._leave = leave
        self._channel.attach(loop, self._on_message, self._on_supervisor_gone)
        self._forked.watch_loop(loop)
        with self._orphaned.telling(loop, self._on_supervisor_gone):
            return await self._serve(loop, leave)

    async def _serve(self, loop: asyncio.AbstractEventLoop, leave: asyncio.Future[_Leave]) -> int:
        scoreboard = Scoreboard(self._order.scoreboard)
        self._record = scoreboard.record(self._order.record)
        self._forked.watch_record(self._record)
        try:
            app = self._take_app()
            self._entrances = self._make_entrances()
            app, lifespan = await self._start_app(app)
            wire = self._make_wire(loop, self._as_served(app), lifespan)
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
            self._report_failure(error)
            return 3
        if leave.done():
            # Nobody knows this worker any more; it must not take a connection.
            await lifespan.shutdown(self._config.lifespan_timeout)
            return 1
        server = wire.server
        acceptor = Acceptor(
            loop,
            self._entrances,
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
        handover = Handover(server, partial(resumed_protocol, wire), self._report_spent)
        self._handover = handover
        self._begin_serving(wire, acceptor)
        interval = heartbeat_interval(self._config)
        on_beat = self._hooks.beat if self._hooks is not None else None
        heartbeat = Heartbeat(loop, self._record, interval, on_beat)
        self._channel.post(WorkerReady(self._failure, lifespan.state is not None))
        command = await leave

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
        for entrance in self._entrances:
            entrance.socket.close()
        self._channel.post(WorkerDraining())
        reports = WaitReports(server.clock, server.live, self._report_waits)
        result = await drain(server, acceptor, handover, command.reason, timeout)
        await lifespan.shutdown(self._config.lifespan_timeout)
        reports.end()
        heartbeat.stop()
        _log_drain(result)
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

    # --- boot -------------------------------------------------------------------------------------

    def _reach(self, stage: str) -> None:
        self._stage = stage
        self._channel.post(WorkerStage(stage))

    def _import_app(self) -> ASGIApp:
        self._reach("import")
        config, order = self._config, self._order
        if order.log_config is not None:
            configure_logging(config, place_of(order), order.log_config, import_from=order.app_dir)
        app = load_app(config.app, factory=config.factory, app_dir=order.app_dir)
        # Configuring logging is a thing that applications do at import, and it may switch ours off.
        keep_logging(config, place_of(order))
        # As is setting up signals. A worker that was forked from the import keeps the same of them.
        signal.signal(signal.SIGTERM, self._orphaned.on_signal)
        take_back()
        return app

    def _make_proxy_headers(self, loop: asyncio.AbstractEventLoop) -> ProxyHeaderReader | None:
        if not any(entrance.traits.proxy for entrance in self._entrances):
            return None
        trusted = TrustedNetworks.parse(self._config.proxy_protocol_allow_from)
        return ProxyHeaderReader(loop, trusted, self._record)

    def _make_entrances(self) -> list[Entrance]:
        entrances = [
            Entrance(_listener(descriptor), traits) for descriptor, traits in self._order.listeners
        ]
        self._forked.watch_listeners(entrance.socket for entrance in entrances)
        if any(entrance.traits.tls for entrance in entrances):
            self._reach("tls")
            self._set_contexts(entrances, self._material)
        return entrances

    def _set_contexts(self, entrances: list[Entrance], material: Material) -> None:
        traits = [entrance.traits for entrance in entrances]
        contexts = make_contexts(traits, material, self._config, self._order.app_dir)
        for entrance, context in zip(entrances, contexts, strict=True):
            entrance.context = context

    def _make_balance(self, scoreboard: Scoreboard) -> AcceptBalance | None:
        if self._config.accept != "shared":
            return None  # the kernel spreads connections over sockets of their own
        return AcceptBalance(scoreboard, self._order.record)

    def _may_be_last(self, reason: DrainReason) -> bool:
        """Whether perhaps nobody accepts from our sockets when we have left.

        A worker that gets SIGTERM does not know whether all of them do (systemd's KillMode=control-group).
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
        """From the first connection on this process works for clients."""
        if self._order.gives_way:
            try:
                stop_giving_way(os.getpid())
            except OSError as error:
                # The application has given the right to it away; the supervisor has it, and is told next.
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

    def _take_app(self) -> ASGIApp:
        """Return the template's application, or import it."""
        if self._order.app is not None:
            return self._order.app
        imported = self._imported
        if imported is None:
            imported = self._try_import()
        if not isinstance(imported, BaseException):
            return imported
        if self._has_failed_for_loop(imported) and self._order.has_other_way:
            raise imported
        return self._replace_app(imported, "import")

    def _try_import(self) -> ASGIApp | BaseException:
        try:
            app = self._import_app()
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
            end_in_import(error)
            return error
        end_in_import()
        return app

    def _has_failed_for_loop(self, error: BaseException) -> bool:
        """Whether the import may go well where a loop runs, or does not run, unlike here."""
        if self._order.app is not None or self._stage != "import":
            return False
        fails = refuses_running_loop if self._order.import_in_loop else needs_running_loop
        return fails(error)

    async def _start_app(self, app: ASGIApp) -> tuple[ASGIApp, Lifespan]:
        if self._order.is_stand_in or self._failure is not None:
            return app, Lifespan(app, "off")
        try:
            return app, await self._run_lifespan(app)
        except BaseException as error:  # noqa: BLE001 - the same
            app = self._replace_app(error, "lifespan")
            return app, Lifespan(app, "off")

    def _replace_app(self, error: BaseException, kind: Literal["import", "lifespan"]) -> ASGIApp:
        """Return what the hooks serve instead of the application. Without hooks, raise the error."""
        if self._hooks is None or isinstance(error, ChannelClosedError):
            raise error
        self._failure = self._describe_failure(error)
        return self._hooks.replace_app(error, kind, self._failure)

    async def _run_lifespan(self, app: ASGIApp) -> Lifespan:
        self._reach("lifespan")
        lifespan = Lifespan(app, cast("LifespanMode", self._config.lifespan))
        await lifespan.startup()
        if self._config.health_path is not None:
            self._reach("health")
            try:
                await check_health(app, self._config.health_path, lifespan.state)
            except BaseException:
                await lifespan.shutdown(self._config.lifespan_timeout)
                raise
        return lifespan

    def _as_served(self, app: ASGIApp) -> ASGIApp:
        """Return the application as it is served: with what the hooks add, unless it replaces the real one."""
        is_stand_in = self._order.is_stand_in or self._failure is not None
        if self._hooks is None or is_stand_in:
            return app
        return self._hooks.wrap_app(app)

    def _report_failure(self, error: BaseException) -> None:
        other_way = self._has_failed_for_loop(error) and self._order.has_other_way
        self._channel.post(WorkerFailed(self._describe_failure(error), other_way))

    def _describe_failure(self, error: BaseException) -> Failure:
        if isinstance(error, StartupError):
            summary, text = split_reason(str(error))
        else:
            summary, text = summarize(error), format_user_traceback(error)
        if self._has_failed_for_loop(error) and not self._order.has_other_way:
            summary = f"{summary}; {BOTH_WAYS_FAIL}"
        stage = "import" if isinstance(error, AppLoadError) else self._stage
        return Failure(stage, shortened(summary, SUMMARY_LIMIT), shortened(text))

    # --- the end ----------------------------------------------------------------------------------

    def _on_message(self, message: AnyMessage, descriptors: list[int]) -> None:
        match message:
            case Drain():
                self._tells_waits = message.reports
                self._command(_Leave(DrainReason(message.reason), message.timeout))
            case HandOver() | TakeOver() | UseCertificates() if not descriptors:
                # The kernel has closed what did not fit in, so another worker sees the end of its passage.
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
                self._use_certificates(_take_material(descriptors[0]))
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
        """Give a passage to whom it concerns. Where nothing serves yet the other worker sees its end."""
        passage = socket.socket(fileno=descriptor)
        if self._handover is None:
            passage.close()
        else:
            take(self._handover, passage)

    def _report_waits(self, waits: WorkerWaits) -> None:
        # A supervisor of an older version does not ask for it, and does not know the message; and one that is gone
        # has asked for nothing.
        if self._tells_waits:
            self._channel.post(waits)

    def _report_spent(self, successor: int) -> None:
        if successor:  # a supervisor of an older version names none, and does not know the message
            self._channel.post(SuccessorSpent(successor))

    def _use_certificates(self, material: Material) -> None:
        """Let connections from now on have new certificates; keep the old ones if that fails."""
        self._material = material
        try:
            # None yet where the application is still being imported.
            self._set_contexts(self._entrances, material)
        except BaseException as error:  # noqa: BLE001 - a context factory is user code and may raise anything
            reason = str(error) if isinstance(error, StartupError) else summarize(error)
            text = "The new certificates cannot be used, so the old ones stay in use: %s"
            _logger.error(text, reason)  # noqa: TRY400

    def _on_supervisor_gone(self) -> None:
        if self._leave is not None and not self._leave.done():
            _logger.warning("Told to leave by a signal or by the end of the supervisor; draining")
        self._command(_Leave(DrainReason.ORPHANED, self._config.drain_timeout))

    def _command(self, command: _Leave) -> None:
        if self._leave is not None and not self._leave.done():
            self._leave.set_result(command)


def _log_drain(result: DrainResult) -> None:
    if result.exchanges_cut:
        _logger.warning(
            "Cut %d exchanges that were still open at the deadline of the drain (drain_timeout)",
            result.exchanges_cut,
        )
    said = [
        f"{count} {what}"
        for count, what in (
            (result.handed_over, "connections handed over"),
            (result.streams_moved, "of them with an event stream"),
            (result.came_back, "connections not taken by the new worker"),
            (result.streams_ended, "event streams ended"),
        )
        if count
    ]
    if said:
        _logger.info("Drained: %s", ", ".join(said))


def _take_material(descriptor: int) -> Material:
    try:
        return unseal(descriptor)
    finally:
        os.close(descriptor)


def _listener(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    # An application may have called socket.setdefaulttimeout(), which new socket objects take over.
    sock.setblocking(False)
    return sock
