"""The end of a template: cleanup of what its import has made, done once, and of the processes that it has started.

A template that has forked workers runs only the cleanup that `worker/inherited.py` has taken from them. A template
without workers exits as any program, with all exit handlers. The supervisor releases a template when the last
worker of its generation has exited, and kills it when its exit takes too long.
"""

import atexit
import contextlib
import gc
import os
import signal
import stat
import sys
import time
import weakref
from typing import Any

from asgireload.ipc.linux import ProcessHandle, children_of
from asgireload.template.hazard_search import resource_tracker_pid
from asgireload.template.session import Session
from asgireload.worker.fast_exit import OpenFile, open_files
from asgireload.worker.inherited import has_cleanup, removes, unregister

END_TIMEOUT = 5
"""Seconds for exit handlers and finalizers, after which the kernel ends the process (alarm(2))."""
CHILD_TIMEOUT = 1.0
"""Seconds between SIGTERM and SIGKILL for processes that the import has started."""


def end_template(session: Session, status: int) -> int:
    """Clean up and end the process; return `status` instead when Python has to drop all objects first."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(END_TIMEOUT)
    drops_files = _has_written_file(session)
    if session.has_forked:
        unregister(_is_for_workers)
    if not session.has_forked or drops_files or has_cleanup():
        atexit._run_exitfuncs()
    _end_children()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # replaced, closed or broken
            stream.flush()
    if not drops_files:
        os._exit(status)
    # Python removes a temporary file when its object is dropped.
    gc.unfreeze()
    return status


def needs_end(session: Session) -> bool:
    """Return whether there is something to clean up after the last worker, so that the template must outlive it."""
    return has_cleanup() or _has_written_file(session) or bool(_children())


def _is_for_workers(handler: object) -> bool:
    """Return whether each worker runs an exit handler, with its own data."""
    if getattr(handler, "__func__", None) is weakref.finalize._exitfunc.__func__:  # type: ignore[attr-defined]
        return False
    util: Any = sys.modules.get("multiprocessing.util")
    return handler is not getattr(util, "_exit_function", handler) and not removes(handler)


def _has_written_file(session: Session) -> bool:
    return bool(written_files(session))


def written_files(session: Session) -> list[OpenFile]:
    """Return the regular files that the import has opened for writing."""
    if not session.inherited:
        return []  # nothing has been imported
    try:
        return [
            file
            for file in open_files()
            if file.is_written
            and stat.S_ISREG(file.mode)
            and file.link not in session.inherited
            and not file.link.startswith("/memfd:")
        ]
    except OSError:
        return []  # /proc cannot be read


def _children() -> list[int]:
    """Return the pids of child processes except the resource tracker, which exits when no process needs it."""
    tracker = resource_tracker_pid()
    return [pid for pid in children_of(os.getpid()) if pid != tracker]


def _end_children() -> None:
    """End the child processes that exit handlers have left running."""
    handles = []
    for pid in _children():
        try:
            handles.append(ProcessHandle(pid))
        except ProcessLookupError:
            continue
    for handle in handles:
        handle.send(signal.SIGTERM)
    deadline = time.monotonic() + CHILD_TIMEOUT
    for handle in handles:
        if not handle.wait_exit(max(0.0, deadline - time.monotonic())):
            handle.send(signal.SIGKILL)
        handle.close()
