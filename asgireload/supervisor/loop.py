"""The supervisor: the place where its parts are joined.

One event loop owns the listening sockets, the children, the admin server and, in development, the file
watcher. Whatever happens becomes an event; `observe` records it, `reconcile` answers with steps, and
this file has them carried out. Nothing here waits for a child.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from asgireload.admin.entrances import announce
from asgireload.config import Config
from asgireload.development.supervisor.preload_cache import Foundation
from asgireload.development.watch.changes import Changes
from asgireload.development.watch.filters import describe
from asgireload.development.watch.watcher import Watcher
from asgireload.errors import ControlError, LogConfigError, TlsError
from asgireload.ipc.exit_time import exit_timeout_of
from asgireload.ipc.heartbeat import heartbeat_interval, stalled_after
from asgireload.ipc.linux import descendants_of, resident_bytes
from asgireload.log import begin_logging, log_fields
from asgireload.net.holders import Holder, find_holders
from asgireload.supervisor import events, signals
from asgireload.supervisor.capacity import demand_of
from asgireload.supervisor.certificates import CHECK_INTERVAL
from asgireload.supervisor.children import Children
from asgireload.supervisor.control import Control
from asgireload.supervisor.drain_limits import draining_of
from asgireload.supervisor.fleet import ABORT_GRACE, Fleet, Phase, Policy, new_fleet
from asgireload.supervisor.head_start import HeadStart
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.observe import apply
from asgireload.supervisor.reconcile import next_deadline, reconcile
from asgireload.supervisor.reloads import Outcome
from asgireload.supervisor.requirements import looks_like_production
from asgireload.supervisor.snapshots import Surroundings
from asgireload.supervisor.verdicts import describe_verdict

if TYPE_CHECKING:
    from asgireload.admin.server import AdminServer
    from asgireload.supervisor.start import Means

ADMIN_DELAY = 0.5
"""Seconds from the start until the admin server is imported at the latest."""
RESTART_PAUSE = 1.0
"""Seconds before a job that failed is started again."""

_logger = logging.getLogger("asgireload.error")


def serve(config: Config, means: "Means", head_start: HeadStart) -> int:
    """Serve until told to stop; return the exit status. Raise AsgireloadError when the server cannot start.

    Means and head start are the caller's to end. Signals are held until there are handlers, and again at the end:
    the caller says what becomes of those that come too late.
    """
    with asyncio.Runner() as runner:
        try:
            return runner.run(_serve(config, means, head_start))
        finally:
            # A loop that closes forgets where signals are written to before it forgets their handlers, and then
            # they have their default actions again.
            signals.hold_children()
            signals.hold()


DEVELOPMENT_DRAIN = 5.0
"""Seconds that old code may go on with what is open, under --reload: a page that listens to a stream has the
new code's only when the old one has ended."""


def make_policy(config: Config) -> Policy:
    """Return the slice of the configuration that decisions depend on."""
    policy = _serving_policy(config)
    if not config.reload:
        return policy
    # The newest code counts: it is tried on everybody at once, and nothing goes back to what was before.
    return replace(
        policy,
        development=True,
        is_patient=config.workers == 1 and os.isatty(0),
        changes_give_way=False,
        hold_timeout=config.reload_hold_timeout,
        coalesce_window=0.0,
        probation=0.0,
        surge=max(config.surge, config.workers),
        drain_overlap=True,
        drain_timeout=min(config.drain_timeout, DEVELOPMENT_DRAIN),
        keep_generations=0,
        revert_window=0.0,
        give_up_after=0.0,
    )


def _serving_policy(config: Config) -> Policy:
    return Policy(
        workers=config.workers,
        preload=config.preload,
        boot_timeout=config.boot_timeout,
        changes_give_way=config.reload_priority == "low",
        probation=config.probation,
        surge=config.surge,
        drain_overlap=config.drain_overlap,
        drain_generations=config.drain_generations,
        keep_generations=config.keep_generations,
        revert_window=config.revert_window,
        give_up_after=config.give_up_after,
        heartbeat_timeout=config.timeout_worker_healthcheck,
        drain_timeout=config.drain_timeout,
        lifespan_timeout=config.lifespan_timeout,
        exit_timeout=exit_timeout_of(config),
        max_requests=config.max_requests,
        max_requests_jitter=config.max_requests_jitter,
        max_rss=config.max_rss,
        worker_lifetime=config.worker_lifetime,
    )


async def _serve(config: Config, means: "Means", head_start: HeadStart) -> int:
    return await _Supervisor(asyncio.get_running_loop(), config, means, head_start).run()


class _Supervisor:
    """The running supervisor. Its means are the caller's to close; it may close listeners earlier."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        means: "Means",
        head_start: HeadStart,
    ) -> None:
        now = loop.time()
        certificates, listeners = means.certificates, means.listeners
        self._loop = loop
        self._config = config
        self._listeners = listeners
        self._certificates = certificates
        self._entrances = means.entrances
        self._pid_file = means.pid_file
        self._finished: asyncio.Future[int] = loop.create_future()
        self._has_started = asyncio.Event()
        """Or has failed to, or is not to any more."""
        self._timer: asyncio.TimerHandle | None = None
        self._announced = False
        self._watcher = Watcher(config, self) if config.reload else None
        self._foundation = Foundation(loop, config, means.directory, self._watch_libraries)
        self._children = Children(
            loop,
            config,
            means.directory,
            means.scoreboard,
            listeners.descriptors_for,
            self._on_event,
            certificates,
            listeners.traits(),
            self._foundation,
            head_start,
            may_give_way=not means.refused_calls,
        )
        self._fleet: Fleet = new_fleet(make_policy(config), random.Random(), now)
        self._surroundings = Surroundings(
            pid=os.getpid(),
            app=config.app,
            listeners=tuple(listeners.urls()),
            accept=config.accept,
            wall_offset=time.time() - now,
            record_of=self._children.record_of,
            resident_bytes=resident_bytes,
            template_pid=self._children.template_pid,
            certificates=certificates,
            stalled_after=stalled_after(config),
            directory=means.directory,
            app_dir=_absolute(config.app_dir, means.directory),
            admin_socket=next(
                (entrance.file.path for entrance in means.entrances if entrance.file is not None),
                "",
            ),
            pid_file=_absolute(config.pid_file, means.directory),
        )
        self._control = Control(
            loop,
            self._fleet,
            self._children,
            self._surroundings,
            certificates,
            self._on_command,
            demand_of(config, listeners.slot_socket_count),
        )

    async def run(self) -> int:
        """Serve until every child has left; return the exit status."""
        config = self._config
        admin: AdminServer | None = None
        try:
            self._install_signals()
            if looks_like_production(config, os.environ, is_terminal=os.isatty(2)):
                _logger.warning(
                    "--reload is for development: every file that is saved in the watched directories is"
                    " served, and connections and memory cost more"
                )
            jobs = [self._keep_running(self._observe)]
            if self._watcher is not None:
                jobs.append(self._keep_running(self._watcher.run))
                self._foundation.begin()
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
            self._foundation.stop()
            await self._foundation.wait_stopped(ABORT_GRACE)
            self._children.end_leftovers()
        return status

    async def _start_admin(self) -> "AdminServer | None":
        if not self._entrances:
            return None
        announce(self._entrances)
        # The processor is for the application's import first. Who asks why that takes long has an answer, and
        # nothing waits until somebody connects: by then another version may lie on disk.
        with suppress(TimeoutError):
            async with asyncio.timeout(ADMIN_DELAY):
                await self._has_started.wait()
        if self._finished.done():
            return None
        from asgireload.admin.server import start_admin

        return await start_admin(self._loop, self._control, self._entrances)

    def _watch_libraries(self, directories: Iterable[str]) -> None:
        if self._watcher is not None:
            self._watcher.watch_libraries(directories)

    def on_changing(self, changes: Changes, *, gives_up: bool) -> None:
        """The watcher has seen a change."""
        self._foundation.take_changes(changes)
        if changes.asks_for_reload:
            self._on_event(events.CodeChanging(gives_up))

    def on_settled(self, changes: Changes, *, gives_up: bool) -> None:
        """The watcher says that what is there now is to be loaded."""
        self._ask_reload(f"changed: {describe(changes.paths)}", supersede=gives_up, is_watched=True)

    def on_assets(self, paths: frozenset[str]) -> None:
        """The watcher has seen files that open pages exchange by themselves."""
        _logger.info("Changed for open pages: %s", describe(paths))
        self._children.tell_assets(paths)

    async def _watch_certificates(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if not self._certificates.has_settled_change():
                continue
            try:
                if self._children.renew_certificates():
                    _logger.info("Certificates have changed: new connections get the new ones")
            except TlsError as error:
                _logger.error(  # noqa: TRY400 - the text says it all
                    "Certificates have changed but cannot be used, so the old ones stay in use: %s",
                    error,
                )

    def _keep_running(self, job: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
        """Run an endless job; if it fails against all care, say so and start it again."""

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
        """Somebody wants something: not what was seen, which events tell."""
        if isinstance(event, events.ReloadRequested):
            self._foundation.begin_anew()
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
        """Carry out every step: the picture counts them as done, so one that fails must not stop others."""
        for step in steps:
            try:
                self._perform_one(step)
            except Exception:
                _logger.exception("The supervisor could not do %r", step)

    def _perform_one(self, step: events.Step) -> None:
        children = self._children
        match step:
            case events.StartTemplate():
                children.start_template(step)
            case events.CloseTemplate():
                children.close_template(step.template_id)
            case events.KillTemplate():
                children.kill_template(step.template_id, dump=step.dump)
            case events.ForkWorker():
                children.fork_worker(step)
            case events.DrainWorker():
                children.drain_worker(step)
            case events.HandOver():
                children.pair_workers(step.worker_id, step.successors)
            case events.HoldWorker():
                children.hold_worker(step.worker_id, self._fleet.policy.hold_timeout)
            case events.ReleaseWorker():
                children.release_worker(step.worker_id)
            case events.KillWorker():
                children.kill_worker(step.worker_id, dump=step.dump)
            case events.OpenSlot():
                self._listeners.open_slot(step.slot)
            case events.SteerAway():
                self._listeners.steer_away(step.slots)
            case events.CloseSlot():
                self._close_slot(step.slot)
            case events.Say():
                _say(step)
            case events.SpeakVerdict():
                self._speak_verdict(step.reload_id)
            case events.StopAccepting():
                self._foundation.stop()
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
        """Workers close theirs as they drain; then new connections are refused at once.

        Where a process of the application has a copy they would not be, so a socket is kept to end it with.
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
        """Return the processes that the application has left with one of these sockets.

        None: that cannot be found out, because no descriptor is left.
        """
        if not inodes:
            return []
        own = self._children.pids()
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

    def _speak_verdict(self, reload_id: int) -> None:
        reload = next(known for known in self._fleet.history if known.reload_id == reload_id)
        if reload.outcome is Outcome.COMMITTED and self._announced:
            self._follow_log_config()
        verdict = describe_verdict(
            reload,
            self._fleet.ready_count,
            draining_count=draining_of(self._fleet, reload_id),
            is_development=self._fleet.policy.development,
        )
        if verdict is not None:
            _logger.log(verdict.level, "%s", verdict.text)
        if reload.serving is not None and not self._announced:
            self._announced = True
            for url in self._surroundings.listeners:
                _logger.info("asgireload running on %s (Press CTRL+C to quit)", url)
        self._has_started.set()
        self._control.verdict_spoken(reload_id)

    def _follow_log_config(self) -> None:
        """Log as the generation does that was just committed: its --log-config file has proved good."""
        if self._config.log_config is None:
            return
        try:
            begin_logging(self._config)
        except LogConfigError as error:
            _logger.error("The supervisor cannot apply the configuration of logging: %s", error)  # noqa: TRY400 - the text says it all

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
            add(number, self._children.reap)
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

    # --- looking after workers --------------------------------------------------------------------

    async def _observe(self) -> None:
        interval = heartbeat_interval(self._config)
        while True:
            before = self._loop.time()
            await asyncio.sleep(interval)
            if self._loop.time() - before > 2 * interval:
                # We were not running (a paused container, a suspended machine, a stopped terminal), so
                # the workers were not either; their heartbeats get another round.
                continue
            for worker in list(self._fleet.workers.values()):
                is_patient = self._fleet.policy.is_patient
                if worker.state is State.READY or (is_patient and worker.state is State.DRAINING):
                    seen = self._children.observe(
                        worker.worker_id,
                        with_memory=self._config.max_rss is not None,
                        with_sleep=is_patient,
                    )
                    if seen is not None:
                        self._perform(apply(self._fleet, seen, self._loop.time()))
            self._reconcile()


def _absolute(path: str | None, directory: str) -> str:
    return os.path.join(directory, path) if path else ""


def _say(step: events.Say) -> None:
    place = f"[w{step.slot}] " if step.slot is not None else ""
    level = logging.getLevelNamesMapping()[step.level.upper()]
    fields = log_fields("supervisor", step.slot, step.generation)
    _logger.log(level, "%s%s", place, step.text, extra=fields)
