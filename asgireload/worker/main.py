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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, cast

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
from asgireload.development.worker.request_hold import HeldBack
from asgireload.draining import DrainReason, draining
from asgireload.errors import AppLoadError, ChannelClosedError, StartupError
from asgireload.http.access_log import open_access_log
from asgireload.http.context import HttpSettings, ServingContext
from asgireload.http.forwarded import Forwarding
from asgireload.http.hosts import HostRules
from asgireload.http.request import RequestLimits
from asgireload.http.request_id import RequestIds
from asgireload.http1.parsers import choose_parser
from asgireload.ipc.app_signals import AppSignals, give_signals
from asgireload.ipc.channel import Channel
from asgireload.ipc.exit_time import exit_deadline, exit_timeout_of, failed_exit_timeout
from asgireload.ipc.heartbeat import heartbeat_interval
from asgireload.ipc.linux import (
    keep_freed_memory,
    move_to,
    raise_file_limit,
    signal_on_parent_death,
    started_at,
    stop_giving_way,
)
from asgireload.ipc.messages import (
    SUMMARY_LIMIT,
    AnyMessage,
    AppImported,
    AssetsChanged,
    Drain,
    HandOver,
    Hold,
    Mistake,
    MoveTo,
    Release,
    SuccessorSpent,
    TakeOver,
    UseCertificates,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerImported,
    WorkerReady,
    WorkerStage,
    WorkerStarted,
    WorkerWaits,
    shortened,
)
from asgireload.ipc.quiet_signals import make_quiet, restore_in_forks, take_back
from asgireload.ipc.records import ImportRecord, seal
from asgireload.ipc.scoreboard import Field, Record, Scoreboard
from asgireload.ipc.titles import set_title
from asgireload.libraries import application_places, library_names
from asgireload.log import Place, UserConfig, configure_logging, keep_logging
from asgireload.net.addresses import ListenerTraits
from asgireload.net.networks import TrustedNetworks
from asgireload.net.tls import Material, unseal
from asgireload.websocket.connection import WebSocketConnection
from asgireload.websocket.sessions import choose_session
from asgireload.worker.acceptor import Acceptor, Entrance
from asgireload.worker.balance import Balance
from asgireload.worker.direct import Doorway
from asgireload.worker.drain import DrainResult, drain
from asgireload.worker.ending import ExitTime
from asgireload.worker.forked import ForkedCopies, end_in_import
from asgireload.worker.greeting import Greeter
from asgireload.worker.handover import Handover
from asgireload.worker.health import check_health
from asgireload.worker.lifespan import Lifespan, LifespanMode
from asgireload.worker.loop_end import close_loop
from asgireload.worker.open_work import WaitReports
from asgireload.worker.protocols import new_protocol
from asgireload.worker.tls import make_contexts

if TYPE_CHECKING:
    from asgireload.development.pages.report import Kind
    from asgireload.development.pages.stream import Bulletin

TELL_DELAY = 0.15
"""Seconds before a worker that was the template tells what it has imported: requests that were held come
first."""
DEVELOPMENT_GRACE = 0.1
"""Seconds for idle connections of a worker that stops, under --reload: who presses Ctrl-C waits for them."""
DEVELOPMENT_NOTICE = 1.0
"""Seconds for event streams that cannot move, under --reload: an open page waits for the new code."""
BOTH_WAYS_FAIL = (
    "the import was also tried the other way: it needs a running event loop, and it starts one of its own, which"
    " cannot be where one runs; do one of the two in the lifespan startup"
)
ORPHAN_MARGIN = 10
"""Seconds beyond drain, lifespan and exit timeouts after which the kernel ends a worker without a supervisor."""

_logger = logging.getLogger("asgireload.error")

_HEAP_BLOCK_BYTES = 8 * 1024 * 1024
_KEPT_BYTES = 16 * 1024 * 1024
"""Bodies are received and made in pieces of hundreds of KiB. By default the C library gives each back to the
kernel and asks for it anew, zeroed; measured, that was a third of what an upload of 1 MB costs."""


class WorkerOrder(msgspec.Struct, frozen=True):
    """What a forked worker is to do. It owns the descriptors."""

    config: Config
    name: str
    generation: int
    slot: int
    app: ASGIApp | None
    """None: the template holds no code, the worker imports the application."""
    settings: HttpSettings | None
    """What the template has made already; None: the worker does."""
    is_stand_in: bool
    """It is not the application, but says why that cannot be had."""
    log_config: UserConfig | None
    """What --log-config says, as the template has read it. It is in force where `app` is not None."""
    app_dir: str
    """Where the application is imported from, resolved."""
    channel: int
    fault_file: int
    scoreboard: int
    record: int
    listeners: tuple[tuple[int, ListenerTraits], ...]
    """Listening sockets, and how connections of each are received."""
    certificates: int | None
    """What TLS is spoken with (`net.tls.seal`); None where it is not."""
    succeeds: bool
    """Another worker serves in the slot, and hands its place over later."""
    gives_way: bool
    """That one has the processor first until we serve."""
    supervisor: int
    """Its process number, which is our parent's."""
    signals: AppSignals = AppSignals()
    """What the application has set about signals at import, where the template has imported it."""
    import_in_loop: bool = True
    """Where `app` is None: import it in the running event loop, and not before it runs."""
    has_other_way: bool = False
    """If the import fails because of that, a worker that imports the other way follows."""
    record_imports: Callable[[], ImportRecord] | None = None
    """Returns what the template has imported, where nobody else can tell: this was the template."""


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
        channel.send(WorkerStarted(os.getpid()))
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
    timeout = exit_timeout_of(config)
    if drain_deadline is None:
        return ExitTime(now, now + failed_exit_timeout(timeout))
    return ExitTime(now, exit_deadline(timeout, drain_deadline, now))


def place_of(order: WorkerOrder) -> Place:
    """Return how the worker's lines name it."""
    tag = f"w{order.slot}" if order.config.workers > 1 else None
    return Place("worker", order.slot, order.generation, tag)


def state_of(order: WorkerOrder) -> str:
    """Return what pages tell this generation by: the same in all its workers, and in no other run of a server."""
    began = started_at(order.supervisor)
    return f"generation-{order.generation}-{order.supervisor}-{began}"


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
    if config.reload:
        # Of no use in production, where it would only cost time and memory at the start.
        from asgireload.development.pages import exceptions, failure, reading, refresh, stream  # noqa: F401


def _reseed() -> None:
    """Give numpy's global generator its own random numbers in this process.

    The random module sees to that after a fork by itself; without this all workers would draw the
    same numbers from numpy.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


class Orphaned:
    """The supervisor is gone, or somebody sent SIGTERM to this worker: leave, whatever the loop does.

    The signal may come at any moment: before the loop runs, when `seen` is looked at later, and after the loop has
    ended, when the worker leaves anyway.
    """

    def __init__(self, config: Config) -> None:
        longest = config.drain_timeout + config.lifespan_timeout + (config.exit_timeout or 0)
        self._patience = int(longest) + ORPHAN_MARGIN
        self._wake: Callable[[], object] | None = None
        """Tells the loop; None while none is to be told."""
        self.seen = False

    @contextmanager
    def telling(
        self, loop: asyncio.AbstractEventLoop, on_seen: Callable[[], None]
    ) -> Iterator[None]:
        """Call `on_seen` in a turn of `loop` after the first signal, and at once if one has come before."""
        self._wake = partial(loop.call_soon_threadsafe, on_seen)
        try:
            if self.seen:
                on_seen()
            yield
        finally:
            self._wake = None  # the loop may be closed from now on

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.seen:
            return  # first of all: in a storm of signals each one interrupts the handler of the one before
        self.seen = True
        # If the loop is blocked for good nobody is left to kill this process, so the kernel does.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(self._patience)
        if self._wake is not None:
            self._wake()


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
        self._serving: HeldBack | None = None
        self._held_until: float | None = None
        """Newer code was on its way before this worker could serve, and is waited for until then."""
        self._mistake: Mistake | None = None
        self._drain_deadline: float | None = None
        """When drain and lifespan shutdown must be done; None before it is told to leave."""
        self._time_to_exit: ExitTime | None = None
        self._imported: ASGIApp | BaseException | None = None
        """What came of the import before the loop ran; None where there was none."""
        self._stage = "boot"
        self._module_count = len(sys.modules)
        self._record_imports = order.record_imports
        self._record = Record.detached()
        self._bulletin: Bulletin | None = None
        """What open pages are told; None where pages do not renew themselves."""
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
            lifespan, context = await self._start(app, loop)
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
            self._report_failure(error)
            return 3
        if leave.done():
            # Nobody knows this worker any more; it must not take a connection.
            await lifespan.shutdown(self._config.lifespan_timeout)
            return 1
        acceptor = Acceptor(
            loop,
            self._entrances,
            partial(new_protocol, context),
            record=self._record,
            handshake_timeout=self._config.timeout_handshake,
            greeter=self._make_greeter(loop),
            has_room=context.has_room,
            balance=self._make_balance(scoreboard),
            doorway=Doorway(loop, context),
        )
        context.on_room = acceptor.note_room
        self._stop_giving_way()
        handover = Handover(loop, context, self._report_spent)
        self._handover = handover
        self._begin_serving(loop, context, acceptor)
        interval = heartbeat_interval(self._config)
        heartbeat = _Heartbeat(loop, self._record, interval, self._look_at_imports)
        self._channel.post(WorkerReady(self._mistake, lifespan.state is not None))
        if self._record_imports is not None:
            loop.call_later(TELL_DELAY, self._look_at_imports)
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
        assert self._serving is not None
        self._serving.end(is_stale=self._config.reload and command.reason is DrainReason.RELOAD)
        if command.reason in (DrainReason.STOP, DrainReason.SCALE_DOWN, DrainReason.ORPHANED):
            acceptor.take_waiting()
        for entrance in self._entrances:
            entrance.socket.close()
        self._channel.post(WorkerDraining())
        reports = WaitReports(loop, context, self._report_waits)
        result = await drain(context, acceptor, handover, command.reason, timeout)
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

    def _make_greeter(self, loop: asyncio.AbstractEventLoop) -> Greeter | None:
        if not any(entrance.traits.proxy for entrance in self._entrances):
            return None
        trusted = TrustedNetworks.parse(self._config.proxy_protocol_allow_from)
        return Greeter(loop, trusted, self._record)

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

    def _make_balance(self, scoreboard: Scoreboard) -> Balance | None:
        if self._config.accept != "shared":
            return None  # the kernel spreads connections over sockets of their own
        return Balance(scoreboard, self._order.record)

    def _may_be_last(self, reason: DrainReason) -> bool:
        """Whether perhaps nobody accepts from our sockets when we have left.

        A worker that gets SIGTERM does not know whether all of them do (systemd's KillMode=control-group).
        """
        if reason is DrainReason.SCALE_DOWN:
            return self._config.accept == "per-slot"
        return reason in (DrainReason.STOP, DrainReason.ORPHANED)

    def _begin_serving(
        self, loop: asyncio.AbstractEventLoop, context: ServingContext, acceptor: Acceptor
    ) -> None:
        """Accept, unless newer code is on its way already."""
        if self._config.reload:
            self._channel.deliver()
        serving = HeldBack(loop, context, acceptor)
        self._serving = serving
        if not self._order.succeeds:
            self._record.values[Field.ACCEPTING] = 1
        if self._held_until is None:
            acceptor.start()
        else:
            serving.hold(max(0.0, self._held_until - loop.time()))

    def _stop_giving_way(self) -> None:
        """From the first connection on this process works for clients."""
        if self._order.gives_way:
            try:
                stop_giving_way(os.getpid())
            except OSError as error:
                # The application has given the right to it away; the supervisor has it, and is told next.
                _logger.debug("The priority is left for the supervisor to raise: %s", error)

    async def _start(
        self, app: ASGIApp, loop: asyncio.AbstractEventLoop
    ) -> tuple[Lifespan, ServingContext]:
        app, lifespan = await self._start_app(app)
        context = ServingContext(
            self._as_served(app),
            self._order.settings or http_settings(self._config, raise_file_limit()),
            loop,
            state=lifespan.state,
            record=self._record,
            drain=draining(),
            websocket_factory=WebSocketConnection,
            access_log=open_access_log(self._config, place_of(self._order)),
            request_ids=(
                RequestIds(self._config.request_id_header)
                if self._config.request_id_header is not None
                else None
            ),
        )
        return lifespan, context

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
        if self._order.is_stand_in or self._mistake is not None:
            return app, Lifespan(app, "off")
        try:
            return app, await self._run_lifespan(app)
        except BaseException as error:  # noqa: BLE001 - the same
            app = self._replace_app(error, "lifespan")
            return app, Lifespan(app, "off")

    def _replace_app(self, error: BaseException, kind: "Kind") -> ASGIApp:
        """In development, return an application that says why the real one does not start."""
        if not self._config.reload or isinstance(error, ChannelClosedError):
            raise error
        from asgireload.development.pages.failure import make_failure_app
        from asgireload.development.pages.reading import report_of

        self._mistake = self._describe_failure(error)
        stage = self._mistake.stage
        return make_failure_app(report_of(error, self._order.app_dir, kind=kind, stage=stage))

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
        """Return the application as it is served: in development with pages for its exceptions, and pages that
        renew themselves if that is asked for."""
        is_stand_in = self._order.is_stand_in or self._mistake is not None
        if not self._config.reload or is_stand_in:
            return app  # the page of a failure renews itself
        from asgireload.development.pages.exceptions import showing_exceptions
        from asgireload.development.pages.refresh import refreshing
        from asgireload.development.pages.stream import Bulletin

        self._bulletin = Bulletin(state_of(self._order))
        if self._config.reload_browser:
            app = refreshing(app, self._bulletin)
        return showing_exceptions(app, self._order.app_dir, self._bulletin)

    def _report_failure(self, error: BaseException) -> None:
        mistake = self._describe_failure(error)
        other_way = self._has_failed_for_loop(error) and self._order.has_other_way
        self._channel.post(
            WorkerFailed(mistake.stage, mistake.summary, mistake.traceback, other_way)
        )

    def _describe_failure(self, error: BaseException) -> Mistake:
        if isinstance(error, StartupError):
            summary, text = split_reason(str(error))
        else:
            summary, text = summarize(error), format_user_traceback(error)
        if self._has_failed_for_loop(error) and not self._order.has_other_way:
            summary = f"{summary}; {BOTH_WAYS_FAIL}"
        stage = "import" if isinstance(error, AppLoadError) else self._stage
        return Mistake(stage, shortened(summary, SUMMARY_LIMIT), shortened(text))

    def _look_at_imports(self) -> None:
        """In development, tell which libraries were imported while serving: the next worker has them."""
        if self._record_imports is not None:
            record_imports, self._record_imports = self._record_imports, None
            is_whole = not self._order.is_stand_in
            self._post_record(AppImported(is_whole), record_imports())
        if not self._config.reload or len(sys.modules) == self._module_count:
            return
        names = list(sys.modules)[self._module_count :]
        self._module_count = len(sys.modules)
        modules = {name: sys.modules.get(name) for name in names}
        libraries = library_names(modules, application_places(self._config))
        if libraries:
            self._post_record(WorkerImported(), ImportRecord(libraries))

    def _post_record(self, message: AnyMessage, record: ImportRecord) -> None:
        descriptor = seal(record)
        try:
            self._channel.post(message, [descriptor])
        finally:
            os.close(descriptor)

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
            case Hold():
                if self._serving is not None:
                    self._serving.hold(message.timeout)
                else:
                    self._held_until = asyncio.get_running_loop().time() + message.timeout
            case Release():
                self._held_until = None
                if self._serving is not None:
                    self._serving.release()
            case AssetsChanged():
                if self._bulletin is not None:
                    self._bulletin.tell_changes(message.names)
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


class _Heartbeat:
    """Writes the time to the scoreboard as long as the loop turns; calls `on_beat` at each turn but the first."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        record: Record,
        interval: float,
        on_beat: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._record = record
        self._interval = interval
        self._on_beat = on_beat
        self._timer: asyncio.TimerHandle | None = None
        self._beat()

    def _beat(self) -> None:
        self._record.values[Field.HEARTBEAT] = time.monotonic_ns()  # publishes all counts
        is_first = self._timer is None
        self._timer = self._loop.call_later(self._interval, self._beat)
        if not is_first:
            self._on_beat()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._record.publish()


def connections_for_files(limit: int) -> int:
    """Return how many connections a worker may hold that may have `limit` files open.

    An eighth, at least 64 files, is left to the application: its databases, logs and temporary files.
    """
    return max(limit - max(limit // 8, 64), 1)


def http_settings(config: Config, file_limit: int) -> HttpSettings:
    """Return the slice of the configuration that connections read, for a process that may have
    `file_limit` files open."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in config.header
    ]
    if config.server_header and not any(name == b"server" for name, _ in headers):
        headers.insert(0, (b"server", b"asgireload"))
    return HttpSettings(
        parser=choose_parser(config.http),
        root_path=config.root_path,
        default_headers=tuple(headers),
        date_header=config.date_header,
        keep_alive_timeout=config.timeout_keep_alive,
        head_timeout=config.timeout_request_head,
        body_timeout=config.timeout_request_body,
        write_timeout=config.timeout_write,
        request_timeout=config.timeout_request,
        request_limits=RequestLimits(
            line=config.limit_request_line,
            head=config.limit_request_head,
            fields=config.limit_request_fields,
            body=config.limit_request_body,
        ),
        forwarding=Forwarding.of(config),
        host_rules=HostRules.of(config),
        limit_concurrency=config.limit_concurrency,
        limit_connections=config.limit_connections or connections_for_files(file_limit),
        sendfile=config.sendfile,
        debug_extension=config.debug_extension,
        drain_grace=min(
            config.drain_grace,
            config.drain_timeout,
            DEVELOPMENT_GRACE if config.reload else config.drain_grace,
        ),
        websocket=config.ws != "none",
        ws_session=choose_session(config.ws),
        ws_max_size=config.ws_max_size,
        ws_max_frame_size=config.ws_max_frame_size,
        ws_max_fragments=config.ws_max_fragments,
        ws_max_inflation_ratio=config.ws_max_inflation_ratio,
        ws_max_queue=config.ws_max_queue,
        ws_ping_interval=config.ws_ping_interval,
        ws_ping_timeout=config.ws_ping_timeout,
        ws_per_message_deflate=config.ws_per_message_deflate,
        ws_close_timeout=config.ws_close_timeout,
        ws_close_window=config.ws_close_window,
        event_stream_handover=config.event_stream_handover,
        event_stream_notice=(
            min(config.event_stream_notice, DEVELOPMENT_NOTICE)
            if config.reload
            else config.event_stream_notice
        ),
        ws_handover_timeout=config.ws_handover_timeout,
        ws_handover_max_state=config.ws_handover_max_state,
    )
