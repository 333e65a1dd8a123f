"""The template: a fresh interpreter that imports the application once and forks workers on command.

Started by the supervisor as `python -m asgireload.template.main DESCRIPTOR`, where DESCRIPTOR is its
channel. It runs no event loop and no thread of its own: it waits in `recvmsg`, forks, and waits again,
until its channel closes. A worker returns out of the waiting loop and runs at the bottom of the stack,
so it ends like any Python program, exit handlers included.
"""

import contextlib
import dataclasses
import faulthandler
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

from asgireload.app import format_user_traceback, load_app, summarize
from asgireload.asgi import ASGIApp
from asgireload.bytecode import remove_doubtful_bytecode
from asgireload.errors import AppLoadError, ChannelClosedError, LogConfigError
from asgireload.http.context import HttpSettings
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import enlarge_signal_stack, signal_on_parent_death
from asgireload.ipc.messages import (
    SUMMARY_LIMIT,
    AppFailed,
    AppLoaded,
    AppUnsafe,
    ForkFailed,
    ForkWorker,
    LoadApp,
    shortened,
)
from asgireload.ipc.quiet_signals import make_quiet
from asgireload.ipc.titles import set_title
from asgireload.log import Place, UserConfig, configure_logging, read_user_config
from asgireload.template.forking import Side, fork_adopted
from asgireload.template.leftovers import find_leftovers, open_descriptors
from asgireload.worker.main import WorkerOrder, prepare, run_worker


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a worker takes over from the template."""

    order: LoadApp
    app: ASGIApp | None
    settings: HttpSettings | None
    log_config: UserConfig | None
    app_dir: str
    """Resolved once: a symlink that moves later must not lead a worker of this generation elsewhere."""
    scoreboard: int
    fault_file: int
    supervisor: int


def main() -> int:
    """Run the template, and later, in forked processes, the worker; return the exit status."""
    supervisor = os.getppid()
    signal_on_parent_death(signal.SIGKILL)
    make_quiet(signal.SIGTERM)
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        sock.set_inheritable(False)
        channel = Channel(sock)
        try:
            message, descriptors = channel.receive()
            assert isinstance(message, LoadApp)
            loaded = _load(channel, message, descriptors, supervisor)
            worker = _fork_on_command(channel, loaded) if loaded is not None else None
        except ChannelClosedError:
            # The supervisor let us go, or is dead. Exit handlers that the application registered while
            # it was imported belong to workers.
            os._exit(0)
    if worker is None:
        os._exit(1)
    return run_worker(worker)


def _load(
    channel: Channel, order: LoadApp, descriptors: list[int], supervisor: int
) -> _Loaded | None:
    """Import the application and report; return None when it cannot be imported."""
    scoreboard, fault_file = descriptors
    config = order.config
    faulthandler.enable(fault_file)
    enlarge_signal_stack()
    set_title("template", order.name, generation=order.generation)
    started = time.monotonic()
    stage = "logging"
    try:
        os.chdir(order.directory)
        app_dir = os.path.realpath(config.app_dir or ".")
        before = open_descriptors()
        log_config = _configure_logging(order, app_dir)
        stage = "import"
        loaded = _Loaded(order, None, None, log_config, app_dir, scoreboard, fault_file, supervisor)
        if config.env_file is not None:
            _load_env_file(config.env_file)
        if not order.preload:
            channel.send(AppLoaded(time.monotonic() - started))
            return loaded
        # What is ours is no garbage, and need not be looked through while the application is imported.
        gc.freeze()
        app = load_app(config.app, factory=config.factory, app_dir=app_dir)
        settings = prepare(config)
    except ChannelClosedError:
        raise
    except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
        channel.send(
            AppFailed(
                shortened(_summary(error), SUMMARY_LIMIT), shortened(_traceback(error)), stage
            )
        )
        return None
    leftovers = find_leftovers(before)
    if leftovers.unsafe and config.preload is None:
        channel.send(AppUnsafe(leftovers.unsafe))
        channel.receive()  # only the end of file can come: another template takes over
        return None
    # Objects that exist now are never garbage collected in workers, so their pages stay shared. What the
    # import left behind at the end goes first; looking through what is old, which the collector did while
    # it grew, would take a tenth of the time of an import.
    gc.collect(1)
    gc.freeze()
    channel.send(AppLoaded(time.monotonic() - started, leftovers.native_threads))
    return dataclasses.replace(loaded, app=app, settings=settings)


def _fork_on_command(channel: Channel, loaded: _Loaded) -> WorkerOrder:
    """Fork until the channel closes; return in each worker, with what it shall do."""
    while True:
        message, descriptors = channel.receive()
        assert isinstance(message, ForkWorker)
        try:
            side = fork_adopted()
        except OSError as error:
            channel.send(ForkFailed(message.worker_id, str(error)))
            side = Side.TEMPLATE
        if side is Side.WORKER:
            # The exit of the template must not be hidden from the supervisor by our copy.
            channel.close()
            with contextlib.suppress(OSError):
                os.close(loaded.fault_file)
            own_channel, own_fault_file, *others = descriptors
            certificates = others.pop(0) if message.has_tls else None
            return WorkerOrder(
                config=loaded.order.config,
                name=loaded.order.name,
                generation=loaded.order.generation,
                slot=message.slot,
                app=loaded.app,
                settings=loaded.settings,
                log_config=loaded.log_config,
                app_dir=loaded.app_dir,
                channel=own_channel,
                fault_file=own_fault_file,
                scoreboard=loaded.scoreboard,
                record=message.record,
                listeners=tuple(zip(others, message.listeners, strict=True)),
                certificates=certificates,
                supervisor=loaded.supervisor,
            )
        for descriptor in descriptors:
            os.close(descriptor)


def _configure_logging(order: LoadApp, app_dir: str) -> UserConfig | None:
    """Set up logging and return what --log-config says. Raise LogConfigError.

    Handlers of the user may start threads or open connections. Where workers do not share the import
    they do not share these either: each applies the file by itself.
    """
    config = order.config
    log_config = None
    if config.log_config is not None:
        log_config = read_user_config(config.log_config)
        # Classes that it names are the user's code.
        remove_doubtful_bytecode(app_dir)
    configure_logging(
        config,
        Place("template", generation=order.generation, tag="template"),
        log_config if order.preload else None,
        import_from=app_dir,
    )
    return log_config


def _load_env_file(path: str) -> None:
    from dotenv import load_dotenv  # an extra: loaded only when asked for

    if not os.path.isfile(path):
        raise AppLoadError(f"--env-file {path}: no such file")
    load_dotenv(path)


def _summary(error: BaseException) -> str:
    return str(error) if isinstance(error, AppLoadError | LogConfigError) else summarize(error)


def _traceback(error: BaseException) -> str:
    if isinstance(error, LogConfigError):
        return ""  # its text names file and place; the frames would be those of logging.config
    cause = error.__cause__ if isinstance(error, AppLoadError) else error
    return format_user_traceback(cause) if cause is not None else ""


if __name__ == "__main__":
    sys.exit(main())
