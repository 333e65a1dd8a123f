"""The supervisor's main object: it creates the parts and connects them.

One event loop owns the listening sockets, the children, the admin server and the jobs of the mode. Everything that
happens becomes an event: `observe` records the event, `reconcile` returns steps, and this module carries them out.
Nothing here waits for a child.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from asgireload.admin.entrances import announce
from asgireload.config import Config
from asgireload.errors import ControlError, LogConfigError, TlsError
from asgireload.ipc.heartbeat import heartbeat_interval, silent_after, stalled_after
from asgireload.ipc.linux import descendants_of
from asgireload.ipc.messages import AnyMessage, Hold, Release
from asgireload.log import begin_logging, log_fields
from asgireload.net.holders import Holder, find_holders
from asgireload.supervisor import events, signals
from asgireload.supervisor.capacity import demand_of
from asgireload.supervisor.certificates import CHECK_INTERVAL
from asgireload.supervisor.control import Control
from asgireload.supervisor.cpu_priority import CpuPriority, patience_for
from asgireload.supervisor.drain_limits import draining_of
from asgireload.supervisor.figures import sum_traffic
from asgireload.supervisor.fleet import ABORT_GRACE, Fleet, Phase, new_fleet
from asgireload.supervisor.handles import Handles
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.observe import apply
from asgireload.supervisor.reconcile import next_deadline, reconcile
from asgireload.supervisor.releases import Releases
from asgireload.supervisor.reloads import Outcome
from asgireload.supervisor.rollout import reads_traffic
from asgireload.supervisor.scoreboard_records import ScoreboardRecords
from asgireload.supervisor.snapshots import Surroundings
from asgireload.supervisor.system import System
from asgireload.supervisor.template_handles import TemplateHandles
from asgireload.supervisor.template_source import Mode
from asgireload.supervisor.verdicts import describe_verdict
from asgireload.supervisor.worker_handles import WorkerHandles, WorkerInputs

if TYPE_CHECKING:
    from asgireload.admin.server import AdminServer
    from asgireload.supervisor.resources import Resources

ADMIN_DELAY = 0.5
"""Seconds after the start at which the admin server is imported at the latest."""
RESTART_PAUSE = 1.0
"""Seconds before a job that failed is started again."""

_logger = logging.getLogger("asgireload.error")


def serve(config: Config, resources: "Resources", mode: Mode, system: System) -> int:
    """Serve until told to stop; return the exit status. Raise AsgireloadError when the server cannot start.

    The caller closes the resources and what the mode holds. Signals are blocked until handlers are installed, and
    blocked again at the end; the caller decides what happens to signals that arrive after that.
    """
    with asyncio.Runner() as runner:
        try:
            return runner.run(_serve(config, resources, mode, system))
        finally:
            # A loop that closes stops receiving signals before it removes its handlers, and without
            # handlers signals have their default actions.
            signals.hold_children()
            signals.hold()


async def _serve(config: Config, resources: "Resources", mode: Mode, system: System) -> int:
    return await _Supervisor(asyncio.get_running_loop(), config, resources, mode, system).run()


class _Supervisor:
    """The running supervisor. The caller closes the resources; the supervisor may close listeners earlier."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        resources: "Resources",
        mode: Mode,
        system: System,
    ) -> None:
        now = loop.time()
        certificates, listeners = resources.certificates, resources.listeners
        self._loop = loop
        self._config = config
        self._listeners = listeners
        self._certificates = certificates
        self._entrances = resources.entrances
        self._pid_file = resources.pid_file
        self._finished: asyncio.Future[int] = loop.create_future()
        self._has_started = asyncio.Event()
        """Set when the first load has succeeded or failed, or when the server has stopped."""
        self._timer: asyncio.TimerHandle | None = None
        self._announced = False
        self._system = system
        self._releases = Releases(os.path.join(resources.directory, config.app_dir))
        may_give_way = not resources.refused_calls
        cpu_priority = CpuPriority(
            loop,
            self._system,
            patience_for(config.boot_timeout),
            lambda lowered: self._workers.spread(lowered),
            is_allowed=may_give_way,
        )
        self._handles = Handles(loop, self._system, cpu_priority, self._on_event)
        self._workers = WorkerHandles(
            self._handles,
            ScoreboardRecords(resources.scoreboard),
            WorkerInputs(
                listeners.descriptors_for,
                listeners.traits(),
                certificates,
                silent_after(config),
                may_give_way=may_give_way,
            ),
        )
        parts = mode.join(self._handles, config, resources.directory, self)
        self._templates = parts.templates
        self._mode_jobs = parts.jobs
        self._template_handles = TemplateHandles(
            self._handles,
            self._templates,
            resources.scoreboard.descriptor,
            self._check_generation,
        )
        self._fleet: Fleet = new_fleet(mode.make_policy(config), random.Random(), now)
        self._surroundings = Surroundings(
            pid=os.getpid(),
            app=config.app,
            listeners=tuple(listeners.urls()),
            accept=config.accept,
            wall_offset=time.time() - now,
            record_of=self._workers.record_of,
            resident_bytes=self._system.resident_bytes,
            certificates=certificates,
            stalled_after=stalled_after(config),
            directory=resources.directory,
            app_dir=_absolute(config.app_dir, resources.directory),
            admin_socket=next(
                (
                    entrance.file.path
                    for entrance in resources.entrances
                    if entrance.file is not None
                ),
                "",
            ),
            pid_file=_absolute(config.pid_file, resources.directory),
        )
        self._control = Control(
            loop,
            self._fleet,
            self._workers,
            self._surroundings,
            certificates,
            self._on_command,
            demand_of(config, listeners.slot_socket_count),
        )

    async def run(self) -> int:
        """Serve until every child has exited; return the exit status."""
        admin: AdminServer | None = None
        try:
            self._install_signals()
            jobs = [self._keep_running(self._observe)]
            jobs += [self._keep_running(job) for job in self._mode_jobs]
            self._templates.begin()
            if self._certificates.is_spoken:
                jobs.append(self._keep_running(self._watch_certificates))
            self._reconcile()
            admin = await self._start_admin()
            status = await self._finished
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if admin is not None:
                await admin.close()
            self._templates.stop()
            await self._templates.wait_stopped(ABORT_GRACE)
            self._handles.end_leftovers()
        return status

    async def _start_admin(self) -> "AdminServer | None":
        if not self._entrances:
            return None
        announce(self._entrances)
        # The application's import gets the CPU first. The admin server is imported during a slow import, so that
        # an operator can ask about it, and not at the first connection: by then another version may be on disk.
        with suppress(TimeoutError):
            async with asyncio.timeout(ADMIN_DELAY):
                await self._has_started.wait()
        if self._finished.done():
            return None
        from asgireload.admin.server import start_admin

        return await start_admin(self._loop, self._control, self._entrances)

    # The interface for the mode: see `SupervisorPort`.

    def note_change(self, *, gives_up: bool) -> None:
        self._on_event(events.CodeChanging(gives_up))

    def reload_changed(self, origin: str, *, supersede: bool) -> None:
        self._ask_reload(origin, supersede=supersede, is_watched=True)

    def tell_workers(self, message: AnyMessage) -> None:
        self._workers.tell_all(message)

    def _check_generation(self, generation: int) -> None:
        """Prepare for a template of this generation. Raise TlsError when its certificates cannot be used."""
        self._workers.renew_for(generation)
        self._releases.look(generation)

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if not self._certificates.has_settled_change():
                continue
            try:
                if self._workers.renew_certificates():
                    _logger.info("Certificates have changed: new connections get the new ones")
            except TlsError as error:
                _logger.error(  # noqa: TRY400 - the message is enough
                    "Certificates have changed but cannot be used, so the old ones stay in use: %s",
                    error,
                )

    def _keep_running(self, job: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
        """Run an endless job; when the job raises, log the exception and start the job again."""

        async def run() -> None:
            while True:
                try:
                    await job()
                except Exception:
                    _logger.exception("A job of the supervisor failed and is started again")
                await asyncio.sleep(RESTART_PAUSE)

        return self._loop.create_task(run())

    # --- events and steps -------------------------------------------------------------------------

    def _on_event(self, event: events.Event) -> None:
        self._perform(apply(self._fleet, event, self._loop.time()))
        self._reconcile()

    def _on_command(self, event: events.Event) -> None:
        """Handle a request of an operator. Changes that a file watcher sees go to `_on_event` directly."""
        if isinstance(event, events.ReloadRequested):
            self._templates.begin_anew()
        self._on_event(event)

    def _reconcile(self) -> None:
        now = self._loop.time()
        self._perform(reconcile(self._fleet, now))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = next_deadline(self._fleet, now)
        if due is not None and self._fleet.phase is not Phase.FINISHED:
            self._timer = self._loop.call_at(due, self._reconcile)

    def _perform(self, steps: list[events.Step]) -> None:
        """Carry out every step. The picture records all steps as done, so a failing step must not stop others."""
        for step in steps:
            try:
                self._perform_one(step)
            except Exception:
                _logger.exception("The supervisor could not do %r", step)

    def _perform_one(self, step: events.Step) -> None:
        handles, workers = self._handles, self._workers
        match step:
            case events.StartTemplate():
                self._template_handles.start(step)
            case events.LetGo():
                handles.let_go(step.child_id)
            case events.KillChild():
                handles.kill_child(step.child_id, dump=step.dump)
            case events.ForkChild():
                workers.fork(step)
            case events.DrainChild():
                workers.drain(step)
            case events.NameTargets():
                workers.pair(step.child_id, step.targets)
            case events.HoldWorker():
                handles.post(step.child_id, Hold(self._fleet.policy.hold_timeout))
            case events.ReleaseWorker():
                handles.post(step.child_id, Release())
            case events.OpenSlot():
                self._listeners.open_slot(step.slot)
            case events.SteerAway():
                self._listeners.steer_away(step.slots)
            case events.CloseSlot():
                self._close_slot(step.slot)
            case events.Log():
                _log(step)
            case events.ReportOutcome():
                self._report_outcome(step.reload_id)
            case events.StopAccepting():
                self._templates.stop()
                self._stop_accepting()
            case events.ShutListeners():
                self._shut_listeners()
            case events.Finish():
                self._finished.set_result(step.exit_code)
                self._has_started.set()

    # --- listening sockets ------------------------------------------------------------------------

    def _close_slot(self, slot: int) -> None:
        ended = self._listeners.inodes_of(slot)
        self._listeners.close_slot(slot)
        self._name_holders(ended)

    def _stop_accepting(self) -> None:
        """Close the listening sockets. Workers close their copies as they drain; new connections are then refused.

        When a process of the application may hold a copy, closing would not refuse connections. Then the sockets
        are only hidden: the supervisor keeps them open until it can shut them down.
        """
        if self._pid_file is not None:
            self._pid_file.release()
        if self._holders(self._listeners.ending_inodes()) != []:
            self._listeners.hide()
        else:
            self._listeners.close()

    def _shut_listeners(self) -> None:
        ended = self._listeners.ending_inodes()
        self._listeners.shut_down()
        self._name_holders(ended)

    def _holders(self, inodes: Collection[int]) -> list[Holder] | None:
        """Return the processes of the application that still hold one of these sockets.

        Return None when no file descriptor is left to find them.
        """
        if not inodes:
            return []
        own = self._handles.pids()
        try:
            others = [pid for pid in descendants_of(os.getpid()) if pid not in own]
        except OSError:
            return None
        return find_holders(inodes, others)

    def _name_holders(self, ended: Mapping[int, str]) -> None:
        for holder in self._holders(ended) or ():
            _logger.warning(
                "%s holds a copy of the socket of %s, which was shut down: it was forked from a worker by"
                " the application; have it close what it does not use",
                holder,
                ", ".join(dict.fromkeys(ended.values())),
            )

    def _report_outcome(self, reload_id: int) -> None:
        reload = next(known for known in self._fleet.history if known.reload_id == reload_id)
        if reload.outcome is Outcome.COMMITTED and self._announced:
            self._follow_log_config()
        verdict = describe_verdict(
            reload,
            self._fleet.ready_count,
            draining_count=draining_of(self._fleet, reload_id),
            names_changes=self._fleet.policy.names_changes,
        )
        if verdict is not None:
            _logger.log(verdict.level, "%s", verdict.text)
        if reload.serving is not None and not self._announced:
            self._announced = True
            for url in self._surroundings.listeners:
                _logger.info("asgireload running on %s (Press CTRL+C to quit)", url)
        self._has_started.set()
        self._control.outcome_reported(reload_id)

    def _follow_log_config(self) -> None:
        """Apply the log configuration of the generation that was just committed; its workers have loaded it."""
        if self._config.log_config is None:
            return
        try:
            begin_logging(self._config)
        except LogConfigError as error:
            _logger.error("The supervisor cannot apply the configuration of logging: %s", error)  # noqa: TRY400 - the message is enough

    # --- signals ----------------------------------------------------------------------------------

    def _install_signals(self) -> None:
        add = self._loop.add_signal_handler
        for number in signals.RELOAD:
            add(number, self._ask_reload, number.name)
        for number in signals.STOP:
            add(number, self._ask_stop, number.name)
        for number in signals.STOP_AT_ONCE:
            add(number, partial(self._ask_stop, number.name, at_once=True))
        for number in signals.MORE_WORKERS:
            add(number, self._ask_scale, 1)
        for number in signals.FEWER_WORKERS:
            add(number, self._ask_scale, -1)
        for number in signals.RESERVED:
            add(number, _logger.info, "%s is kept for task workers; nothing done", number.name)
        for other in signals.unused():
            add(other, _logger.debug, "Signal %d ignored", other)
        for number in signals.CHILD:
            add(number, self._handles.reap)
        signals.release()

    def _ask_reload(
        self, origin: str, *, supersede: bool = False, is_watched: bool = False
    ) -> None:
        if self._fleet.phase is not Phase.SERVING:
            _logger.warning("%s: no reload, the server is stopping", origin)
            return
        if self._fleet.reload is not None:
            _logger.info("%s: a reload runs; the next one serves this request", origin)
        event = events.ReloadRequested(origin, supersede)
        if is_watched:
            self._on_event(event)
        else:
            self._on_command(event)

    def _ask_stop(self, origin: str, *, at_once: bool = False) -> None:
        again = self._fleet.phase is not Phase.SERVING and origin == "SIGINT"
        _logger.info("%s: %s", origin, "stopping at once" if at_once or again else "shutting down")
        self._on_event(events.StopRequested(at_once=at_once or again))

    def _ask_scale(self, change: int) -> None:
        try:
            self._control.scale(self._fleet.wanted_count + change)
        except ControlError as error:
            _logger.warning("%s", error)

    # --- observing workers ------------------------------------------------------------------------

    async def _observe(self) -> None:
        interval = heartbeat_interval(self._config)
        while True:
            before = self._loop.time()
            await asyncio.sleep(interval)
            if self._loop.time() - before > 2 * interval:
                # The supervisor was not running (a paused container, a suspended machine, a stopped
                # terminal), so the workers were not either; they get another interval for a heartbeat.
                continue
            for child in list(self._fleet.children.values()):
                is_patient = self._fleet.policy.is_patient
                if not child.role.has_heartbeat:
                    continue
                if child.state is State.READY or (is_patient and child.state is State.DRAINING):
                    seen = self._workers.observe(
                        child.child_id,
                        with_memory=self._config.max_rss is not None,
                        with_sleep=is_patient,
                    )
                    if seen is not None:
                        self._perform(apply(self._fleet, seen, self._loop.time()))
            if reads_traffic(self._fleet):
                traffic = events.TrafficObserved(sum_traffic(self._workers.counter_totals()))
                self._perform(apply(self._fleet, traffic, self._loop.time()))
            self._reconcile()


def _absolute(path: str | None, directory: str) -> str:
    return os.path.join(directory, path) if path else ""


def _log(step: events.Log) -> None:
    place = f"[{step.role.log_prefix}{step.slot}] " if step.slot is not None else ""
    level = logging.getLevelNamesMapping()[step.level.upper()]
    fields = log_fields("supervisor", step.slot, step.generation)
    _logger.log(level, "%s%s", place, step.text, extra=fields)
