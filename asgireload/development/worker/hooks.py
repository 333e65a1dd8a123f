"""The hooks of a worker under `--reload`.

The worker shows failures and exceptions as pages, makes open pages reload themselves, holds requests while newer
code is loading, and reports its imports to the supervisor.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Literal

from asgireload.asgi import ASGIApp
from asgireload.development.pages.exceptions import showing_exceptions
from asgireload.development.pages.failure import make_failure_app
from asgireload.development.pages.reading import report_of
from asgireload.development.pages.refresh import refreshing
from asgireload.development.pages.stream import Bulletin
from asgireload.development.worker.request_hold import RequestHold
from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.http1.wire import Http1Wire
from asgireload.ipc.channel import Channel
from asgireload.ipc.linux import started_at
from asgireload.ipc.messages import (
    AnyMessage,
    AppImported,
    AssetsChanged,
    Hold,
    Release,
    WorkerImported,
)
from asgireload.ipc.records import ImportRecord, seal
from asgireload.libraries import application_places, library_names
from asgireload.worker.acceptor import Acceptor
from asgireload.worker.order import WorkerOrder

TELL_DELAY = 0.15
"""Seconds before a worker that was the template sends its import record: held requests come first."""


class DevelopmentWorker:
    """The hooks of one worker under `--reload`; it implements `WorkerHooks`."""

    def __init__(self, record_imports: Callable[[], ImportRecord] | None) -> None:
        """`record_imports` returns the import record of the template; None when the template has sent it. A worker
        sends the record when it was the template itself."""
        self._record_imports = record_imports
        self._order: WorkerOrder
        self._channel: Channel
        self._module_count = 0
        self._hold: RequestHold | None = None
        self._hold_deadline: float | None = None
        """Loop time until which requests are held, when newer code began to load before this worker could serve."""
        self._bulletin: Bulletin | None = None
        """Messages to open pages; None before `wrap_app`."""

    def begin(self, order: WorkerOrder, channel: Channel) -> None:
        self._order = order
        self._channel = channel
        self._module_count = len(sys.modules)

    def replace_app(
        self, error: BaseException, kind: Literal["import", "lifespan"], failure: Failure
    ) -> ASGIApp:
        report = report_of(error, self._order.app_dir, kind=kind, stage=failure.stage)
        return make_failure_app(report)

    def wrap_app(self, app: ASGIApp) -> ASGIApp:
        """Wrap `app` so that exceptions are shown as pages, and with --reload-browser open pages reload."""
        self._bulletin = Bulletin(state_of(self._order))
        if self._order.config.reload_browser:
            app = refreshing(app, self._bulletin)
        return showing_exceptions(app, self._order.app_dir, self._bulletin)

    def begin_serving(self, wire: Http1Wire, acceptor: Acceptor) -> None:
        """Begin to accept connections, unless newer code is loading already."""
        self._channel.deliver()
        loop = wire.server.clock.loop
        self._hold = RequestHold(wire, acceptor)
        if self._hold_deadline is None:
            acceptor.start()
        else:
            self._hold.hold(max(0.0, self._hold_deadline - loop.time()))
        if self._record_imports is not None:
            loop.call_later(TELL_DELAY, self.beat)

    def hear(self, message: Hold | Release | AssetsChanged) -> None:
        match message:
            case Hold():
                if self._hold is not None:
                    self._hold.hold(message.timeout)
                else:
                    self._hold_deadline = asyncio.get_running_loop().time() + message.timeout
            case Release():
                self._hold_deadline = None
                if self._hold is not None:
                    self._hold.release()
            case AssetsChanged():
                if self._bulletin is not None:
                    self._bulletin.tell_changes(message.names)

    def beat(self) -> None:
        """Send the template's import record if it has not been sent, and report the libraries that were imported
        while serving, so that the next library base holds them."""
        if self._record_imports is not None:
            record_imports, self._record_imports = self._record_imports, None
            is_whole = not self._order.is_stand_in
            self._post_record(AppImported(is_whole), record_imports())
        if len(sys.modules) == self._module_count:
            return
        names = list(sys.modules)[self._module_count :]
        self._module_count = len(sys.modules)
        modules = {name: sys.modules.get(name) for name in names}
        libraries = library_names(modules, application_places(self._order.config))
        if libraries:
            self._post_record(WorkerImported(), ImportRecord(libraries))

    def _post_record(self, message: AnyMessage, record: ImportRecord) -> None:
        descriptor = seal(record)
        try:
            self._channel.post(message, [descriptor])
        finally:
            os.close(descriptor)

    def end_serving(self, reason: DrainReason) -> None:
        """Hand held requests over to newer code when the worker drains for a reload, else answer them."""
        if self._hold is not None:
            self._hold.end(is_stale=reason is DrainReason.RELOAD)


def state_of(order: WorkerOrder) -> str:
    """Return the name by which pages recognize this generation: equal in all its workers, and different in every
    other generation and run of a server."""
    began = started_at(order.supervisor)
    return f"generation-{order.generation}-{order.supervisor}-{began}"
