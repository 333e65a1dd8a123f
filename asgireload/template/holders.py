"""Find by which name a module holds what an import has left behind: `shop.cache.CLIENT`.

Best effort, and only when a fallback is to be explained: it asks the garbage collector who refers to what.
What a C library holds by itself has no name here.
"""

import gc
import io
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, ModuleType

_DEPTH = 5
"""References from the thing to the module's name: socket, connection, pool, client, module."""
_MOST_REFERRERS = 40
"""An object that more refer to is common property, and tells nothing."""
_MOST_STEPS = 60


def name_holder(
    descriptor: int = -1, thread: int = -1, pid: int = -1, *, deadline: float = float("inf")
) -> str:
    """Return `module.name` of the global through which the thing is reached; empty where none was found.

    `descriptor`, `thread` (its ident) or `pid` of a child says what is looked for; others are -1.
    From `deadline` on, on the monotonic clock, none is looked for: each step looks through all objects, and with
    300,000 of them takes some 10 ms.
    """
    if time.monotonic() > deadline:
        return ""
    modules = {
        id(vars(module)): module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)
        # Python's own lists (`multiprocessing.process._children`) say nothing about who has made it.
        and module.__name__.partition(".")[0] not in sys.stdlib_module_names
    }
    level = list(_things(descriptor, thread, pid))
    seen = {id(thing) for thing in level}
    steps = 0
    for _ in range(
        _DEPTH * 2
    ):  # an object and its dictionary are two steps on old versions of Python
        following = []
        for thing in level:
            steps += 1
            if steps > _MOST_STEPS or time.monotonic() > deadline:
                return ""
            for referrer in gc.get_referrers(thing):
                if id(referrer) in modules:
                    return _named(modules[id(referrer)], thing)
                if id(referrer) in seen or referrer is level or isinstance(referrer, FrameType):
                    continue
                seen.add(id(referrer))
                following.append(referrer)
        if not following or len(following) > _MOST_REFERRERS:
            return ""
        level = following
    return ""


def _named(module: ModuleType, thing: object) -> str:
    name = next((name for name, value in vars(module).items() if value is thing), "")
    return f"{module.__name__}.{name}"


def _things(descriptor: int, thread: int, pid: int) -> Iterator[object]:
    """Yield the objects of Python's that stand for it."""
    if thread != -1:
        yield from (known for known in threading.enumerate() if known.ident == thread)
        return
    for thing in gc.get_objects():
        kind = type(thing)
        if pid != -1:
            if _is_process(kind) and _number_of(thing) == pid:
                yield thing
        elif issubclass(kind, socket.socket | io.FileIO) or _has_fileno(kind):
            if _fileno_of(thing) == descriptor:
                yield thing


_WITH_FILENO = {
    ("selectors", "EpollSelector"),
    ("multiprocessing.connection", "Connection"),
}
_PROCESSES = {("subprocess", "Popen")}


def _has_fileno(kind: type) -> bool:
    return (kind.__module__, kind.__name__) in _WITH_FILENO


def _is_process(kind: type) -> bool:
    return any(
        (base.__module__, base.__name__) in _PROCESSES
        or base.__module__ == "multiprocessing.process"
        for base in kind.__mro__[:-1]
    )


def _fileno_of(thing: object) -> int:
    try:
        return int(thing.fileno())  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError, TypeError):
        return -1  # it is closed, or half made


def _number_of(thing: object) -> int:
    try:
        return int(thing.pid)  # type: ignore[attr-defined]
    except (ValueError, AttributeError, TypeError, AssertionError):
        return -1  # it was not started, or is another process's
