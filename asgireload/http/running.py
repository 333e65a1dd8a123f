"""Runs the application for one request or WebSocket.

Not compiled: in a compiled coroutine, an exception that is thrown into it, as that of an awaited future, is the one
being handled (`sys.exc_info`) while the coroutine passes it on. The application would find it there, and chain
every exception of its own to it.
"""

from collections.abc import Awaitable
from typing import Protocol


class Running(Protocol):
    """What an application is run for. One of `note_return` and `note_error` is called, and then `note_end`."""

    def call(self) -> Awaitable[None] | None:
        """Call the application; return None when it is not to be run."""

    def note_return(self) -> None: ...

    def note_error(self, error: BaseException) -> None:
        """The application, `call` or `note_return` has raised, be it CancelledError, SystemExit or
        KeyboardInterrupt: one request is the price, not the worker."""

    def note_end(self) -> None: ...


async def run(subject: Running) -> None:
    """Call the application, and say how it ended, whatever it does."""
    try:
        application = subject.call()
        if application is not None:
            await application
        subject.note_return()
    except BaseException as error:  # noqa: BLE001 - see `note_error`
        subject.note_error(error)
    finally:
        subject.note_end()
