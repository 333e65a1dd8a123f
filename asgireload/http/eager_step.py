"""The state of a coroutine that was begun before there was a task for it: what `eager_start` and `lazy_task` share.

Used before Python 3.12 only, as these two are.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


class EagerStep:
    """What a task that is made late has to know."""

    __slots__ = ("awaited", "blocks", "context", "coroutine", "is_over", "loop", "name", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.name = ""
        self.context: Context | None = None
        self.coroutine: Coroutine[Any, Any, None] | None = None
        """What the task is said to run; None: nothing has been run since the last end."""
        self.running: Generator[Any, Any, None] | None = None
        """Runs the coroutine; None: none is being run."""
        self.awaited: Any = None
        """What the coroutine waited for at the end of its first step; None: for its turn."""
        self.blocks = False
        """`awaited` is a future that is waited for in the right way (`_asyncio_future_blocking`)."""
        self.is_over = False
