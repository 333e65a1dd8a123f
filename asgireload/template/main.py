"""The template: a process that imports the application once and forks workers on command.

Run by the supervisor in an interpreter of its own (`supervisor/interpreter.py`), whose only argument is the
descriptor of its channel. It runs no event loop and no thread of its own: it waits in `recvmsg`, forks, and waits
again, until its channel closes. A worker returns out of the waiting loop and runs at the bottom of the stack, and
ends with all exit handlers (`worker/fast_exit.py`).

With `--reload` it is begun by `development/template/main.py`, or forked from a library base or from an import
checkpoint; the `Session` is what differs then.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

from asgireload.app import (
    format_user_traceback,
    needs_running_loop,
    place_of_failure,
    summarize,
)
from asgireload.asgi import ASGIApp
from asgireload.errors import AppLoadError, ChannelClosedError, LogConfigError
from asgireload.failures import Failure
from asgireload.ipc.app_signals import take_signals
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import has_lost_peer, raise_file_limit, signal_on_parent_death
from asgireload.ipc.messages import (
    SUMMARY_LIMIT,
    AppFailed,
    AppLoaded,
    AppUnsafe,
    ForkFailed,
    ForkWorker,
    shortened,
)
from asgireload.ipc.quiet_signals import begin_quiet
from asgireload.template.ending import end_template, needs_end
from asgireload.template.forking import Side, fork_adopted
from asgireload.template.hazard_search import Hazards, find_hazards
from asgireload.template.session import Session
from asgireload.worker.event_loop import import_what_runs
from asgireload.worker.fast_exit import end_process, flush_files
from asgireload.worker.forked import end_in_import
from asgireload.worker.inherited import disown, flush_all, renew
from asgireload.worker.main import run_worker
from asgireload.worker.order import WorkerOrder
from asgireload.worker.settings import connection_settings

NO_LOOP_HERE = (
    "--preload imports the application in a template, where no event loop runs: leave --preload out, or do this in"
    " the lifespan startup"
)
NAMED_MODULES = 3
"""How many of the modules that were read are named in the log; the last ones tell most."""


def main(make_session: Callable[[Channel, int], Session] = Session) -> int:
    """Run the template, and later, in forked processes, the worker; return the exit status.

    `make_session` is called with the channel and the pid of the supervisor.
    """
    supervisor = os.getppid()
    gc.enable()  # the command line may have put it off
    try:
        signal_on_parent_death(signal.SIGKILL)
    except OSError:
        return 1  # a filter forbids prctl(2); the supervisor finds that as well, and says so
    begin_quiet(signal.SIGTERM)
    sock = socket.socket(fileno=int(sys.argv[1]))
    if has_lost_peer(sock.fileno()):
        return 0  # it died before the kernel knew whom to tell; its order may be there all the same
    sock.set_inheritable(False)
    return be_template(make_session(Channel(sock), supervisor))


def be_template(session: Session) -> int:
    """Load the application as the supervisor says, then fork; return the status of a worker that was forked.

    The template itself ends within.
    """
    try:
        session.begin()
        app = _load(session)
        worker = _fork_on_command(session, app) if session.is_loaded else None
    except ChannelClosedError:
        return end_template(session, 0)  # the supervisor let us go, or is dead
    if worker is None:
        return end_template(session, 1)
    status, time_to_exit = run_worker(
        worker, session.worker_hooks(), partial(flush_files, session.inherited)
    )
    return end_process(status, session.inherited, time_to_exit)


# --- loading --------------------------------------------------------------------------------------


def _load(session: Session) -> ASGIApp | None:
    """Import the application and report. None: workers import it, or it could not be imported.

    Whether workers can be forked, `session.is_loaded` says. In development they always can: what could not
    be imported is replaced by an application that says so.
    """
    order = session.order
    failure = order.failure
    try:
        session.prepare()
        if failure is not None:
            return _loaded(session, session.stand_in(failure), failure=failure)
        if not order.preload:
            return _loaded(session, None)
        return _import(session)
    except ChannelClosedError:
        raise
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
        end_in_import(error)
        if session.stage == "import" and needs_running_loop(error):
            if session.order.config.preload is None:
                reason = f"its import needs a running event loop ({place_of_failure(error)})"
                _give_up_preloading(session, (reason,), needs_loop=True)
                return None
            return _failed(session, error, NO_LOOP_HERE)
        return _failed(session, error)


def _give_up_preloading(
    session: Session, reasons: tuple[str, ...], *, needs_loop: bool = False
) -> None:
    """Say why workers must import the application by themselves; another template takes over."""
    session.channel.send(AppUnsafe(reasons, needs_loop))
    session.channel.receive()  # only the end of file can come


def _import(session: Session) -> ASGIApp | None:
    config = session.order.config
    session.stage = "import"
    app = session.import_app()
    end_in_import()
    # From here on it may be another process than the one that began: a subclass may fork in the import.
    session.signals = take_signals(session.handlers)
    hazards = find_hazards(session.descriptors)
    session.renewed = hazards.renewed
    if hazards.has_written_files:
        flush_all()
    is_forked_from = not session.order.becomes_worker
    if hazards.unsafe and config.preload is None and is_forked_from:
        _give_up_preloading(session, hazards.unsafe)
        return None
    if not session.accepts_import():
        return None
    import_what_runs(config)
    # Whatever a worker runs, it writes reference counts to, and has a page of its own from then on. So what
    # would be the same in all of them is made here.
    session.settings = connection_settings(config, raise_file_limit())
    return _loaded(session, app, hazards)


def _loaded(
    session: Session,
    app: ASGIApp | None,
    hazards: Hazards | None = None,
    failure: Failure | None = None,
) -> ASGIApp | None:
    order = session.order
    cleans_up = app is not None and not order.becomes_worker and needs_end(session)
    if session.shares_pages or cleans_up:
        # Objects that exist now are never garbage collected in workers, so their pages stay shared. What the
        # import left behind at the end goes first; looking through what is old, which the collector did
        # while it grew, would take a tenth of the time of an import. Where each save loads anew, even this
        # takes longer than it could ever save.
        gc.collect(1)
        gc.freeze()
    modules = session.read_modules()
    session.channel.send(
        AppLoaded(
            session.seconds,
            hazards.native_threads if hazards is not None else (),
            failure,
            tuple(modules[-NAMED_MODULES:]),
            len(modules),
            cleans_up,
        )
    )
    session.is_loaded = True
    session.is_stand_in = failure is not None
    return app


def _failed(session: Session, error: BaseException, advice: str = "") -> ASGIApp | None:
    """Report a failure, with what to do about it; go on with what stands in for the application, if anything."""
    stage = session.stage
    summary = f"{_summary(error)}; {advice}" if advice else _summary(error)
    failure = Failure(stage, shortened(summary, SUMMARY_LIMIT), shortened(_traceback(error)))
    if (app := session.stand_in(failure, error)) is not None:
        return _loaded(session, app, failure=failure)
    session.channel.send(AppFailed(failure))
    return None


def _summary(error: BaseException) -> str:
    return str(error) if isinstance(error, AppLoadError | LogConfigError) else summarize(error)


def _traceback(error: BaseException) -> str:
    if isinstance(error, LogConfigError):
        return ""  # its text names file and place; the frames would be those of logging.config
    cause = error.__cause__ if isinstance(error, AppLoadError) else error
    return format_user_traceback(cause) if cause is not None else ""


# --- forking --------------------------------------------------------------------------------------


def _fork_on_command(session: Session, app: ASGIApp | None) -> WorkerOrder | None:
    """Fork until the channel closes; return in each worker, with what it shall do."""
    channel = session.channel
    while True:
        session.before_command()
        message, descriptors = channel.receive()
        assert isinstance(message, ForkWorker)
        try:
            side = Side.CHILD if session.order.becomes_worker else fork_adopted()
        except OSError as error:
            channel.send(ForkFailed(message.child_id, str(error)))
            side = Side.PARENT
        if side is Side.CHILD:
            # The exit of the template must not be hidden from the supervisor by our copy.
            channel.close()
            if not session.order.becomes_worker:
                disown()
                renew(session.renewed)
            with contextlib.suppress(OSError):
                os.close(session.fault_file)
            own_channel, own_fault_file, *others = descriptors
            certificates = others.pop(0) if message.has_tls else None
            return WorkerOrder(
                config=session.order.config,
                name=session.order.name,
                generation=session.order.generation,
                slot=message.slot,
                app=app,
                settings=session.settings,
                is_stand_in=session.is_stand_in,
                log_config=session.log_config,
                app_dir=session.app_dir,
                channel=own_channel,
                fault_file=own_fault_file,
                scoreboard=session.scoreboard,
                record=message.record,
                listeners=tuple(zip(others, message.listeners, strict=True)),
                certificates=certificates,
                succeeds=message.succeeds,
                gives_way=message.gives_way,
                import_in_loop=message.import_in_loop,
                has_other_way=message.has_other_way,
                supervisor=session.supervisor,
                signals=session.signals,
            )
        for descriptor in descriptors:
            os.close(descriptor)
        session.has_forked = True


if __name__ == "__main__":
    sys.exit(main())
