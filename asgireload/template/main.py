"""The template: a process that imports the application once and forks workers on command.

The supervisor runs the template in a separate interpreter (`supervisor/interpreter.py`), whose only argument is the
descriptor of the channel. The template runs no event loop and starts no thread: it waits in `recvmsg`, forks, and
waits again, until the channel closes. In a forked worker the waiting loop returns, so that the worker runs at the
bottom of the stack; a worker exits with all exit handlers (`worker/fast_exit.py`).

With `--reload` the template is started by `development/template/main.py`, or forked from a library base or an
import checkpoint, with another `Session`.
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
"""Most modules that the log names of those that were read; the last ones are the most telling."""


def main(make_session: Callable[[Channel, int], Session] = Session) -> int:
    """Run the template, and in the processes forked from it the worker; return the exit status.

    `make_session` is called with the channel and the pid of the supervisor.
    """
    supervisor = os.getppid()
    gc.enable()  # the command line may have disabled it
    try:
        signal_on_parent_death(signal.SIGKILL)
    except OSError:
        return 1  # a seccomp filter forbids prctl(2); the supervisor finds and reports that, too
    begin_quiet(signal.SIGTERM)
    sock = socket.socket(fileno=int(sys.argv[1]))
    if has_lost_peer(sock.fileno()):
        # The supervisor died before prctl(2) took effect. Its order may be in the channel all the same.
        return 0
    sock.set_inheritable(False)
    return be_template(make_session(Channel(sock), supervisor))


def be_template(session: Session) -> int:
    """Load the application as the supervisor orders, then fork workers on command.

    Return the exit status: in the template after its cleanup, in a forked worker at its end.
    """
    try:
        session.begin()
        app = _load(session)
        worker = _fork_on_command(session, app) if session.is_loaded else None
    except ChannelClosedError:
        return end_template(session, 0)  # the supervisor has released this template, or is dead
    if worker is None:
        return end_template(session, 1)
    status, time_to_exit = run_worker(
        worker, session.worker_hooks(), partial(flush_files, session.inherited)
    )
    return end_process(status, session.inherited, time_to_exit)


# --- loading --------------------------------------------------------------------------------------


def _load(session: Session) -> ASGIApp | None:
    """Import the application and report. Return None when workers import it, or when the import failed.

    `session.is_loaded` is set when workers can be forked. In development an application that cannot be imported is
    replaced by one that shows the failure.
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
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit is a failure, too
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
    """Report why workers must import the application; the supervisor then starts another template."""
    session.channel.send(AppUnsafe(reasons, needs_loop))
    session.channel.receive()  # only the end of file can arrive


def _import(session: Session) -> ASGIApp | None:
    config = session.order.config
    session.stage = "import"
    app = session.import_app()
    end_in_import()
    # This may be another process than before the import: a subclass may fork within the import.
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
    # A worker that creates these objects has private pages for them. They are the same in all workers, so they are
    # created here, and shared.
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
        # Objects that exist now are never garbage collected in workers, so their pages stay shared. Young garbage
        # of the import is collected first; a collection of the oldest generation, which ran during the import,
        # would take a tenth of the time of an import. With --reload, even this costs more time than it saves.
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
    """Report a failure, with advice; return the application that shows it, None when there is none."""
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
        return ""  # the error text names the file and the place; the frames would be those of logging.config
    cause = error.__cause__ if isinstance(error, AppLoadError) else error
    return format_user_traceback(cause) if cause is not None else ""


# --- forking --------------------------------------------------------------------------------------


def _fork_on_command(session: Session, app: ASGIApp | None) -> WorkerOrder | None:
    """Fork a worker for each command until the channel closes; return in each worker, with its order."""
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
            # A copy of the channel would hide the exit of the template from the supervisor.
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
