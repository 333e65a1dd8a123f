"""Choose the event loop of a worker, and import its modules before a fork."""

import asyncio
from collections.abc import Callable

from asgireload.config import Config


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop: uvloop's if it is installed, or asyncio's. `name` is the option --loop.

    Raise ImportError when `name` is "uvloop" and uvloop is not installed.
    """
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
    """Import the modules that a worker would import when it starts, so that forks of this process have them."""
    import concurrent.futures.thread  # noqa: F401 - an event loop imports it when it is made

    loop_factory(config.loop)
