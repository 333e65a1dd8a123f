"""Cleanup, files and sockets that a worker inherits from its template: what the template keeps, what is made anew.

A finalizer that removes a temporary directory would remove it for all workers when the first of them exits. So
cleanup that was registered before the fork belongs to the template: `weakref.finalize`, exit handlers that remove
or end something, and `__del__`. Exit handlers that write collected data (Sentry, OpenTelemetry, logging) run in
each worker, which has data of its own. No explicit call is prevented: what the application itself closes in a
worker is closed.
"""

import _io
import atexit
import contextlib
import ctypes
import functools
import gc
import logging
import os
import socket
import stat
import subprocess
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_REMOVERS = (os.unlink, os.remove, os.rmdir, os.removedirs)
_REMOVING_NAMES = {"rmtree", "_rmtree", "unlink", "rmdir", "removedirs", "__exit__"}
"""Names that a function uses to remove a file or directory, or to leave a context that was entered at import."""
_REMOVE = {"os", "remove"}
"""Both names together; `remove` alone is also a method of lists."""
_OF_PYTHON = {
    "weakref",
    "multiprocessing.util",
    "logging",
    "threading",
    "concurrent.futures.thread",
}
"""Modules whose exit handlers clean up what each process has for itself."""

_logger = logging.getLogger("asgireload.error")


def removes(handler: object) -> bool:
    """Return whether an exit handler removes or ends something that all processes share. Pure.

    Judged by the name of the handler and the names in its own code. Functions that the handler calls are not
    followed, because somewhere an error reporter removes files, too.
    """
    while isinstance(handler, functools.partial):
        handler = handler.func
    # shutil is looked up, not imported: it imports modules for compression, which cost memory in each process.
    rmtree = getattr(sys.modules.get("shutil"), "rmtree", None)
    if any(handler is remover for remover in (rmtree, *_REMOVERS)):
        return True
    if getattr(handler, "__module__", None) in _OF_PYTHON:
        return False
    if isinstance(handler, types.MethodType):
        if _owns(handler.__self__) or handler.__name__ in _REMOVING_NAMES:
            return True
        handler = handler.__func__
    if not isinstance(handler, types.FunctionType):
        return False
    return _code_removes(handler.__code__, handler.__globals__)


def _owns(thing: object) -> bool:
    """Return whether closing this object removes or ends something."""
    if isinstance(thing, contextlib.ExitStack | subprocess.Popen):
        return True  # importlib.resources.as_file is entered on an ExitStack, as its documentation shows
    return type(thing).__module__ == "tempfile"


def _code_removes(code: types.CodeType, variables: Mapping[str, object]) -> bool:
    names = set(code.co_names)
    if names & _REMOVING_NAMES or names >= _REMOVE:
        return True
    if any(_owns(variables.get(name)) for name in names):
        return True
    return any(
        isinstance(inner, types.CodeType) and _code_removes(inner, variables)
        for inner in code.co_consts
    )


def calls_nothing(function: object) -> bool:
    """Return whether a function's own code calls nothing, so that the function cannot remove or end anything. Pure.

    Django's signals register such a finalizer for each receiver: it sets an attribute.
    """
    if isinstance(function, types.MethodType):
        function = function.__func__
    if not isinstance(function, types.FunctionType):
        return False
    import dis  # only where an import has made finalizers

    return not any("CALL" in step.opname for step in dis.get_instructions(function))


class _Chosen:
    """Compares equal to each exit handler that `choose` accepts, because `atexit` can compare but not list them."""

    def __init__(self, choose: Callable[[object], bool]) -> None:
        self._choose = choose
        self.count = 0

    def __eq__(self, handler: object) -> bool:
        self.count += 1
        return self._choose(handler)

    __hash__ = None  # type: ignore[assignment]


def unregister(choose: Callable[[object], bool]) -> None:
    """Unregister the exit handlers that `choose` accepts."""
    atexit.unregister(_Chosen(choose))  # type: ignore[arg-type]


def any_handler(choose: Callable[[object], bool]) -> bool:
    """Return whether there is an exit handler that `choose` accepts."""
    found = False

    def look(handler: object) -> bool:
        nonlocal found
        found = found or choose(handler)
        return False

    unregister(look)
    return found


def finalizers() -> list[Any]:
    """Return the records of live `weakref.finalize` objects that clean up; their registry has no public name."""
    registry: dict[Any, Any] = weakref.finalize._registry  # type: ignore[attr-defined]
    return [info for info in registry.values() if not calls_nothing(info.func)]


def has_cleanup() -> bool:
    """Return whether this process has finalizers or exit handlers that clean up when it ends."""
    util = sys.modules.get("multiprocessing.util")
    return (
        any(info.atexit for info in finalizers())
        or any(True for _ in getattr(util, "_finalizer_registry", ()))
        or any_handler(removes)
    )


# --- after the fork -------------------------------------------------------------------------------


def disown() -> None:
    """In a worker: leave cleanup to the template. Finalizers still run when the application calls them."""
    for info in finalizers():
        info.atexit = False
        if (thing := info.weakref()) is not None:
            info.weakref = weakref.ref(thing)  # without a callback when the worker drops `thing`
    unregister(removes)
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        # The exit handler of multiprocessing would terminate the template's children. multiprocessing empties
        # the set likewise in a process that it forks.
        process._children = set()  # type: ignore[attr-defined]


def renew(descriptors: Iterable[int]) -> None:
    """In a worker: replace inherited files and datagram sockets by its own, at the same descriptors.

    A descriptor that cannot be replaced stays shared, and is logged.
    """
    for number in descriptors:
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                _renew_socket(number)
            else:
                _reopen(number)
        except OSError as error:
            _logger.warning(
                "Descriptor %d, opened at import, stays shared with other workers: %s",
                number,
                error,
            )


_REOPEN_FLAGS = os.O_ACCMODE | os.O_CLOEXEC | os.O_NONBLOCK | os.O_SYNC | os.O_DIRECT
"""Flags that are copied to the new descriptor. O_TMPFILE would make another file."""


def _reopen(number: int) -> None:
    """Open the file again, even if it was deleted, at the same offset: proc_pid_fd(5)."""
    with open(f"/proc/self/fdinfo/{number}") as info:
        flags = int(next(line for line in info if line.startswith("flags:")).split()[1], 8)
    own = os.open(f"/proc/self/fd/{number}", flags & _REOPEN_FLAGS)
    try:
        os.lseek(own, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
        os.dup2(own, number, inheritable=os.get_inheritable(number))
    finally:
        os.close(own)


_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_BROADCAST, 4),
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 4),
    (socket.SOL_SOCKET, socket.SO_PRIORITY, 4),
    (socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16),
    (socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16),
    (socket.IPPROTO_IP, socket.IP_TOS, 4),
    (socket.IPPROTO_IP, socket.IP_TTL, 4),
    (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4),
    (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 4),
)
"""Level, name and size of the options that an application may have set on a datagram socket."""


def _renew_socket(number: int) -> None:
    """Replace the socket by one with the same options and peer, and a port of its own."""
    with (
        socket.socket(fileno=os.dup(number)) as shared,
        socket.socket(shared.family, shared.type, shared.proto) as own,
    ):
        for level, name, size in _SOCKET_OPTIONS:
            with contextlib.suppress(OSError):  # an option of another family
                own.setsockopt(level, name, shared.getsockopt(level, name, size))
        try:
            peer = shared.getpeername()
        except OSError:
            peer = None
        if peer is not None:
            own.connect(peer)
        os.set_blocking(own.fileno(), os.get_blocking(number))
        os.dup2(own.fileno(), number, inheritable=os.get_inheritable(number))


# --- before the fork and at the end ---------------------------------------------------------------


def keep_for_template() -> None:
    """In a worker that will drop its objects: keep for good the objects from before the fork that have a `__del__`
    in Python, because it would clean up for all processes. Idempotent.

    Call this in place of `gc.unfreeze()`: the frozen objects are those from before the fork. Through its class a
    kept object refers to the variables of its module, so call `flush_all` before Python drops the rest.
    """
    own = set(map(id, gc.get_objects()))
    gc.unfreeze()
    for thing in gc.get_objects():
        if id(thing) not in own and isinstance(
            getattr(type(thing), "__del__", None), types.FunctionType
        ):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def flush_all() -> None:
    """Flush every file that is open for writing. Call this before a fork, which would copy the buffers, and before
    objects are dropped.
    """
    # By type: `isinstance` would make a proxy object resolve its target.
    for thing in gc.get_objects():
        if _io._IOBase in type(thing).__mro__:
            file: Any = thing
            with contextlib.suppress(Exception):  # closed, disk full, or not fully constructed
                if not file.closed and file.writable():
                    file.flush()
