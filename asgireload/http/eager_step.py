"""The state of a coroutine that was begun before there was a task for it: what `eager_start` and `lazy_task` share.

Used before Python 3.12 only, as these two are.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any


class EagerStep:
    """The state of a coroutine whose first step was run, for the task that is made later."""

    __slots__ = ("awaited", "blocks", "context", "coroutine", "is_over", "loop", "name", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.name = ""
        self.context: Context | None = None
        self.coroutine: Coroutine[Any, Any, None] | None = None
        """The coroutine that the task shows as its own; None before the first one and between two."""
        self.running: Generator[Any, Any, None] | None = None
        """The generator that runs the coroutine (`drive`); None when no coroutine is run."""
        self.awaited: Any = None
        """The future that the coroutine awaited at the end of its first step; None if it only yielded."""
        self.blocks = False
        """`awaited` is a future that was awaited as asyncio demands (`_asyncio_future_blocking` was set)."""
        self.is_over = False
        """The coroutine has ended."""
