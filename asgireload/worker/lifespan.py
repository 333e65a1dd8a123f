"""The application's lifespan: startup before the first request, shutdown after the last.

`Lifespan` runs the application once with a lifespan scope, in a task of its own that lives as long as the server
does. The worker decides when to start and to stop it. Source: the ASGI lifespan specification.
"""

import asyncio
import logging
import traceback
from typing import Any, Literal

from asgireload.app import split_reason, summarize
from asgireload.asgi import ASGI_VERSION, LIFESPAN_SPEC_VERSION, ASGIApp, Message, Scope
from asgireload.errors import AppProtocolError, LifespanError

logger = logging.getLogger("asgireload.error")

LifespanMode = Literal["auto", "on", "off"]


class Lifespan:
    """Runs the lifespan of `app`: `await startup()`, serve, `await shutdown(timeout)`.

    `state` is the lifespan state that the application has filled, for the scopes of requests; it is None when the
    application has no lifespan, or the lifespan is switched off (mode "off"). In mode "auto", an application that
    raises or returns before it answers `lifespan.startup` has no lifespan; in mode "on" that is an error.
    """

    def __init__(self, app: ASGIApp, mode: LifespanMode = "auto") -> None:
        self._app = app
        self._mode = mode
        self._state: dict[str, Any] = {}
        self._is_supported = False
        self._task: asyncio.Task[None] | None = None
        self._started: asyncio.Future[None] | None = None
        self._stopping = asyncio.Event()
        self._stopped: asyncio.Future[None] | None = None
        self._receives = 0
        self._ended_with: BaseException | None = None
        """What the application raised after its startup and before its shutdown."""
        self.shutdown_failure = ""
        """Why `shutdown()` returned False, in one line."""

    @property
    def state(self) -> dict[str, Any] | None:
        return self._state if self._is_supported else None

    async def startup(self) -> None:
        """Return when the application is ready, or has no lifespan.

        Raise LifespanError with the application's message or traceback when the startup fails. There is no deadline
        here; the boot timeout covers the startup. Cancelling this method ends the application's task.
        """
        if self._mode == "off":
            return
        loop = asyncio.get_running_loop()
        self._started = loop.create_future()
        self._stopped = loop.create_future()
        # Nothing awaits a failure after the shutdown deadline; asyncio would log that it was never retrieved.
        self._stopped.add_done_callback(lambda stopped: stopped.cancelled() or stopped.exception())
        logger.info("Waiting for application startup.")
        self._task = loop.create_task(self._run())
        try:
            await self._started
        except BaseException:
            await self._end_task()
            raise
        if self._is_supported:
            logger.info("Application startup complete.")

    async def shutdown(self, timeout: float) -> bool:
        """Tell the application to shut down and wait for it, at most `timeout` seconds.

        Return False, after logging why, when the shutdown failed, was not complete in time or could not run,
        because the application's lifespan had raised earlier. The application's task is cancelled at the end.
        Without a lifespan, return True at once.
        """
        if not self._is_supported or self._stopped is None:
            await self._end_task()
            return True
        if self._ended_with is not None:
            self.shutdown_failure = f"it could not run: {summarize(self._ended_with)}"
            logger.error(
                "Application shutdown could not run, because the lifespan had ended with an exception: %s",
                summarize(self._ended_with),
            )
            return False
        logger.info("Waiting for application shutdown.")
        self._stopping.set()
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._stopped)
        except TimeoutError:
            self.shutdown_failure = f"it did not complete within {timeout:g} s"
            logger.error("Application shutdown did not complete within %g s.", timeout)  # noqa: TRY400 - the traceback would be ours
            return False
        except LifespanError as error:
            self.shutdown_failure = split_reason(str(error))[0]
            logger.error("Application shutdown failed: %s", error)  # noqa: TRY400 - the error's text has the application's traceback
            return False
        finally:
            await self._end_task()
        logger.info("Application shutdown complete.")
        return True

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is None or task.done():
            return
        # After its last message an application still has to return; give it a turn before the cancellation.
        await asyncio.sleep(0)
        task.cancel()
        # For 1 s at most: an application that swallows the cancellation must not delay the exit.
        await asyncio.wait((task,), timeout=1.0)

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": ASGI_VERSION, "spec_version": LIFESPAN_SPEC_VERSION},
            "state": self._state,
        }
        assert self._started is not None
        assert self._stopped is not None
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            if not self._started.done():
                self._started.set_exception(LifespanError("the lifespan was cancelled"))
            elif self._can_stop():
                self._stopped.set_exception(LifespanError("the lifespan was cancelled"))
        except BaseException as error:  # noqa: BLE001 - an application may raise anything here; it is reported
            self._handle_exception(error)
        else:
            if not self._started.done():
                self._fail_or_do_without(
                    "the application returned before it answered lifespan.startup"
                )
        if not self._stopped.done():
            # The application has returned and will not answer; without an error that is a clean end.
            self._stopped.set_result(None)

    def _handle_exception(self, error: BaseException) -> None:
        assert self._started is not None
        assert self._stopped is not None
        text = "".join(traceback.format_exception(error)).rstrip()
        if not self._started.done():
            if isinstance(error, Exception):
                self._fail_or_do_without(text, error)
            else:
                # SystemExit is a decision of the application, not a sign that it has no lifespan.
                self._started.set_exception(_caused(text, error))
        elif self._stopping.is_set() and not self._stopped.done():
            self._stopped.set_exception(LifespanError(text))
        elif not self._stopping.is_set() and self._is_supported:
            self._ended_with = error
            logger.error("Exception in 'lifespan' protocol\n%s", text)

    def _fail_or_do_without(self, text: str, cause: BaseException | None = None) -> None:
        assert self._started is not None
        if self._mode == "on":
            self._started.set_exception(_caused(text, cause))
        else:
            logger.info("ASGI 'lifespan' protocol appears unsupported.")
            logger.debug("The application answered the lifespan scope with: %s", text)
            self._started.set_result(None)

    async def _receive(self) -> Message:
        self._receives += 1
        if self._receives == 1:
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        if self._receives == 2:
            return {"type": "lifespan.shutdown"}
        # No further message exists; `_end_task` cancels the task.
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def _send(self, message: Message) -> None:
        assert self._started is not None
        assert self._stopped is not None
        kind = message["type"]
        reason = message.get("message") or "the application gave no reason"
        if kind == "lifespan.startup.complete" and not self._started.done():
            self._is_supported = True
            self._started.set_result(None)
        elif kind == "lifespan.startup.failed" and not self._started.done():
            self._started.set_exception(LifespanError(reason))
        elif kind == "lifespan.shutdown.complete" and self._can_stop():
            self._stopped.set_result(None)
        elif kind == "lifespan.shutdown.failed" and self._can_stop():
            self._stopped.set_exception(LifespanError(reason))
        else:
            raise AppProtocolError(f"the message {kind!r} is not allowed now")

    def _can_stop(self) -> bool:
        return self._stopping.is_set() and self._stopped is not None and not self._stopped.done()


def _caused(text: str, cause: BaseException | None) -> LifespanError:
    error = LifespanError(text)
    error.__cause__ = cause
    return error
