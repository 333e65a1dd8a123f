"""Find the global name by which a module holds what an import has left behind, such as `shop.cache.CLIENT`.

The search follows references with `gc.get_referrers`, so things that only a C library holds are not found. It runs
only to explain why preloading was given up.
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
"""Most references from a thing to a module: socket, connection, pool, client, module."""
_MOST_REFERRERS = 40
"""An object with more referrers is shared by many, and does not identify a holder."""
_MOST_STEPS = 60


def name_holder(
    descriptor: int = -1, thread: int = -1, pid: int = -1, *, deadline: float = float("inf")
) -> str:
    """Return `module.name` of the global through which a thing is reached; empty when none was found.

    The thing is a `descriptor`, a `thread` (its ident) or the `pid` of a child; the other arguments are -1. The
    search ends at `deadline` on the monotonic clock: each step traverses all objects, and takes some 10 ms with
    300,000 of them.
    """
    if time.monotonic() > deadline:
        return ""
    modules = {
        id(vars(module)): module
        for module in list(sys.modules.values())
        if isinstance(module, ModuleType)
        # Lists of the standard library (`multiprocessing.process._children`) do not show the holder.
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
    """Yield the Python objects that represent the descriptor, thread or child."""
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
        return -1  # closed, or not completely initialized


def _number_of(thing: object) -> int:
    try:
        return int(thing.pid)  # type: ignore[attr-defined]
    except (ValueError, AttributeError, TypeError, AssertionError):
        return -1  # not started, or a child of another process
