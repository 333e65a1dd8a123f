"""Which event loop a worker runs, and what is imported for it before a fork."""

import asyncio
from collections.abc import Callable

from asgireload.config import Config


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop where it is installed or asked for, else asyncio's."""
    if name in ("auto", "uvloop"):
        try:
            import uvloop
        except ImportError:
            if name == "uvloop":
                raise
        else:
            return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


def import_what_runs(config: Config) -> None:
    """Import what a worker would import when it starts, so that forks of this process find it there."""
    import concurrent.futures.thread  # noqa: F401 - event loops load it when they are made

    loop_factory(config.loop)
