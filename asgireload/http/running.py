"""Runs the application for one request or WebSocket.

This module is not compiled. An exception that is thrown into a compiled coroutine, such as that of an awaited
future, is the exception being handled (`sys.exc_info`) while the coroutine passes it on. All exceptions that the
application raises would be chained to it.
"""

from collections.abc import Awaitable
from typing import Protocol


class Running(Protocol):
    """The interface of a request or WebSocket to `run`.

    `call` is called first, then `note_return` or `note_error`, and last `note_end`. `note_error` follows
    `note_return` if that raises.
    """

    def call(self) -> Awaitable[None] | None:
        """Call the application; return None when the application is not to be run."""

    def note_return(self) -> None: ...

    def note_error(self, error: BaseException) -> None:
        """Handle an exception of the application, `call` or `note_return`.

        It may be CancelledError, SystemExit or KeyboardInterrupt: these end the request, and not the worker.
        """

    def note_end(self) -> None: ...


async def run(subject: Running) -> None:
    """Run the application of `subject`, and report to `subject` how it ended."""
    try:
        application = subject.call()
        if application is not None:
            await application
        subject.note_return()
    except BaseException as error:  # noqa: BLE001 - see `note_error`
        subject.note_error(error)
    finally:
        subject.note_end()
