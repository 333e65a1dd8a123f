"""Start the application of one worker: import, lifespan startup and health path; or what replaces it.

Any exception of user code, SystemExit included, is a failure of the boot.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Literal, cast

from asgireload.app import (
    format_user_traceback,
    load_app,
    needs_running_loop,
    refuses_running_loop,
    split_reason,
    summarize,
)
from asgireload.asgi import ASGIApp
from asgireload.errors import AppLoadError, ChannelClosedError, StartupError
from asgireload.failures import Failure
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import SUMMARY_LIMIT, WorkerFailed, WorkerStage, shortened
from asgireload.ipc.quiet_signals import take_back
from asgireload.log import configure_logging, keep_logging
from asgireload.worker.forked import end_in_import
from asgireload.worker.health import check_health
from asgireload.worker.hooks import WorkerHooks
from asgireload.worker.lifespan import Lifespan, LifespanMode
from asgireload.worker.order import WorkerOrder, place_of

BOTH_WAYS_FAIL = (
    "the import was also tried the other way: it needs a running event loop, and it starts one of its own, which"
    " cannot be where one runs; do one of the two in the lifespan startup"
)


class ApplicationStart:
    """Starts the application that `order` names, and posts each stage to `channel`.

    `on_sigterm` becomes the handler of SIGTERM again after the import, in case the application has set another.
    """

    def __init__(
        self,
        order: WorkerOrder,
        hooks: WorkerHooks | None,
        channel: Channel,
        on_sigterm: Callable[[int, FrameType | None], None],
    ) -> None:
        self._order = order
        self._config = order.config
        self._channel = channel
        self._hooks = hooks
        self._on_sigterm = on_sigterm
        self.failure: Failure | None = None
        """Why the application could not be started, when the hooks serve something in its place."""
        self._imported: ASGIApp | BaseException | None = None
        """The result or error of the import before the loop ran; None if there was no such import."""
        self._stage = "boot"

    def import_before_loop(self) -> None:
        """Import the application if that is to be done before the loop runs; `take` raises the import's error."""
        if self._order.app is None and not self._order.import_in_loop:
            self._imported = self._try_import()

    def reach(self, stage: str) -> None:
        """Report to the supervisor that the boot has reached `stage`; a failure from now on names `stage`."""
        self._stage = stage
        self._channel.post(WorkerStage(stage))

    def _import_app(self) -> ASGIApp:
        self.reach("import")
        config, order = self._config, self._order
        if order.log_config is not None:
            configure_logging(config, place_of(order), order.log_config, import_from=order.app_dir)
        app = load_app(config.app, factory=config.factory, app_dir=order.app_dir)
        # Applications configure logging at import, which may switch the server's logging off.
        keep_logging(config, place_of(order))
        # Applications set signal handlers at import, too. A worker forked after the import keeps the same handlers.
        signal.signal(signal.SIGTERM, self._on_sigterm)
        take_back()
        return app

    def take(self) -> ASGIApp:
        """Return the template's application, or the one imported here, or what the hooks serve if the import
        failed.

        Raise the error of the import if there are no hooks, or if a worker that imports the other way follows.
        """
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
        """Return whether the import may succeed the other way: with a running loop, or without one."""
        if self._order.app is not None or self._stage != "import":
            return False
        fails = refuses_running_loop if self._order.import_in_loop else needs_running_loop
        return fails(error)

    async def start(self, app: ASGIApp) -> tuple[ASGIApp, Lifespan]:
        """Run the lifespan startup and the health check; return the application, or its replacement, and its
        lifespan.

        Without hooks, raise whatever made the startup fail.
        """
        if self._order.is_stand_in or self.failure is not None:
            return app, Lifespan(app, "off")
        try:
            return app, await self._run_lifespan(app)
        except BaseException as error:  # noqa: BLE001 - user code: SystemExit and the like are failures, too
            app = self._replace_app(error, "lifespan")
            return app, Lifespan(app, "off")

    def _replace_app(self, error: BaseException, kind: Literal["import", "lifespan"]) -> ASGIApp:
        """Return what the hooks serve instead of the application. Without hooks, raise the error."""
        if self._hooks is None or isinstance(error, ChannelClosedError):
            raise error
        self.failure = self._describe_failure(error)
        return self._hooks.replace_app(error, kind, self.failure)

    async def _run_lifespan(self, app: ASGIApp) -> Lifespan:
        self.reach("lifespan")
        lifespan = Lifespan(app, cast("LifespanMode", self._config.lifespan))
        await lifespan.startup()
        if self._config.health_path is not None:
            self.reach("health")
            try:
                await check_health(app, self._config.health_path, lifespan.state)
            except BaseException:
                await lifespan.shutdown(self._config.lifespan_timeout)
                raise
        return lifespan

    def as_served(self, app: ASGIApp) -> ASGIApp:
        """Return the application as it is served: wrapped by the hooks, unless `app` is a replacement."""
        is_stand_in = self._order.is_stand_in or self.failure is not None
        if self._hooks is None or is_stand_in:
            return app
        return self._hooks.wrap_app(app)

    def report_failure(self, error: BaseException) -> None:
        """Report to the supervisor why this worker cannot serve."""
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
