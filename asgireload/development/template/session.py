"""The session of a template under `--reload`: its fork source, the record of its import, and failure pages.

A template that is forked from an import checkpoint begins a new session in the middle of an import.
"""

import importlib
import os
import signal
from functools import partial

from asgireload.app import load_app
from asgireload.asgi import ASGIApp
from asgireload.development.pages.failure import make_failure_app
from asgireload.development.pages.reading import report_from_text, report_of
from asgireload.development.template.import_checkpoint import take_checkpoint
from asgireload.development.template.import_watch import (
    ImportWatch,
    changed_variables,
    record_imports,
)
from asgireload.development.template.page_copies import copy_pages
from asgireload.development.worker.hooks import DevelopmentWorker
from asgireload.failures import Failure
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import signal_on_parent_death
from asgireload.ipc.messages import AppImported, ChildStarted, VariablesDiffer
from asgireload.ipc.records import ImportRecord, seal
from asgireload.libraries import Places, application_places
from asgireload.log import keep_logging
from asgireload.template.session import Session

TELL_DELAY = 0.1
"""Seconds without a command before the import record is sent to the supervisor: workers that boot get the CPU
first."""


class DevelopmentSession(Session):
    """The session of a template under `--reload`."""

    shares_pages = False

    def __init__(self, channel: Channel, supervisor: int, *, is_forked: bool = False) -> None:
        """`supervisor`: the pid of the supervisor. `is_forked`: this process was forked from a fork source, so the
        supervisor does not know its pid yet."""
        super().__init__(channel, supervisor)
        self._is_forked = is_forked
        self.environment: dict[str, str] = {}
        """The environment before any code of the application was imported."""
        self.places: Places
        self.watch: ImportWatch | None = None
        """The record of the import, until it has been sent."""

    def begin(self) -> None:
        """Receive the order, and set up the process for it. A standby template may wait for its order for a long
        time."""
        if not self._is_forked:
            super().begin()
            return
        self._become_child()
        self.channel.send(ChildStarted(os.getpid()))
        copy_pages(self.channel.has_message)
        self._receive_order()
        # Finders have cached directory contents that may have changed while this process waited.
        importlib.invalidate_caches()

    def begin_again(self, channel: Channel) -> None:
        """Begin a new session with the order from `channel`, in a template forked from an import checkpoint."""
        former = (self.scoreboard, self.fault_file)
        self.channel = channel
        self._is_forked = True
        self.begin()
        for descriptor in former:
            os.close(descriptor)
        self.descriptors |= {channel.fileno(), self.scoreboard, self.fault_file}
        keep_logging(self.order.config, self.log_place())

    def _become_child(self) -> None:
        """Set the parent-death signal, exit if the supervisor is dead, and unblock signals, which the fork source
        has blocked."""
        signal_on_parent_death(signal.SIGKILL)
        if os.getppid() != self.supervisor:
            os._exit(1)  # the supervisor died before prctl(2) took effect
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def prepare(self) -> None:
        """Set up directory, logging and environment. Raise LogConfigError or AppLoadError."""
        super().prepare()
        self.places = application_places(self.order.config)
        self.environment = dict(os.environ)

    def import_app(self) -> ASGIApp:
        """Import the application and record the import; take a checkpoint if the order names a module for it.

        The call may return in several processes: also in each template that is forked from the checkpoint.
        """
        config = self.order.config
        watch = ImportWatch(
            self.places,
            self.order.checkpoint,
            lambda: take_checkpoint(self, watch, self.begin_again),
        )
        self.watch = watch
        with watch:
            return load_app(
                config.app,
                factory=config.factory,
                app_dir=self.app_dir,
                looks_for_bytecode=False,
            )

    def accepts_import(self) -> bool:
        """Return whether the libraries of the fork source were imported under the right variables."""
        differing = self._differing_variables()
        if differing:
            self.channel.send(VariablesDiffer(differing))
            self.channel.receive()  # only the end of file can arrive
        return not differing

    def _differing_variables(self) -> tuple[str, ...]:
        """Return the variables that the application sets otherwise than they were when the fork source imported the
        libraries. Libraries read variables such as `OMP_NUM_THREADS` at import."""
        order = self.order
        if order.source_variables is None:
            return ()
        expected = order.source_variables
        actual = changed_variables(self.environment, os.environ)
        return tuple(
            name
            for name in sorted({*expected, *actual} - set(order.ignored_variables))
            if (name in expected) != (name in actual) or expected[name] != actual[name]
        )

    def stand_in(self, failure: Failure, error: BaseException | None = None) -> ASGIApp | None:
        """Return an application that shows the failure; None when the failure occurred before the import."""
        if error is None:
            report = report_from_text(
                "crash", failure.stage, failure.summary, failure.traceback, self.app_dir
            )
        elif failure.stage == "import":
            report = report_of(error, self.app_dir, kind="import", stage=failure.stage)
        else:
            return None
        return make_failure_app(report)

    def read_modules(self) -> list[str]:
        """Return the application's modules that this process has read, in import order."""
        return list(self.watch.files)[self.watch.read_before :] if self.watch is not None else []

    def before_command(self) -> None:
        """Send the import record once, when workers have been forked and no command is waiting."""
        if self.watch is None or not self.has_forked or self.channel.has_message(TELL_DELAY):
            return
        descriptor = seal(self._record_imports())
        try:
            self.channel.send(AppImported(is_whole=not self.is_stand_in), [descriptor])
        finally:
            os.close(descriptor)

    def worker_hooks(self) -> DevelopmentWorker:
        """Return the development hooks of a worker that is forked now."""
        return DevelopmentWorker(
            partial(DevelopmentSession._record_imports, self) if self.watch is not None else None
        )

    def _record_imports(self) -> ImportRecord:
        watch, self.watch = self.watch, None
        assert watch is not None
        return record_imports(watch, self.places, self.environment, os.environ)
