"""The end of a worker's process: what Python does at exit, without clearing away object by object.

A worker shares the memory of its template. To drop each object Python writes to it, and has a page copied for every
few of them: with FastAPI 34 ms and 6,000 page faults instead of 2 ms and 300 (benchmarks/ending.py), for memory
that the kernel takes back at once. So exit handlers run, threads are waited for and what is buffered is written;
then the process is over. Finalizers of what is still there are not called, which Python does not promise either
(`object.__del__` in its reference).

A file of the application that is open for writing may hold text that Python would write when it drops the file.
Where there is one, the process ends the long way.
"""

import atexit
import ctypes
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

from asgireload.ipc.quiet_signals import NOT_FOR_CHILDREN
from asgireload.worker.inherited import keep_for_template

_SEEN_BY_NOBODY = ("/memfd:", "/dev/null")
"""Beginnings of links in /proc/self/fd: what is written there is lost in any case."""


CLEARING_PATIENCE = 10
"""Seconds that the long way may take when nobody else ends the process. A supervisor that lives has less
patience."""


class OpenFile(NamedTuple):
    """A descriptor, as /proc/self/fd and fstat(2) know it."""

    link: str
    mode: int
    is_written: bool
    """It was opened for writing."""


def end_process(status: int, inherited: frozenset[str]) -> int:
    """End the process with `status`, or return it to end as any program does. Only for the main thread.

    `inherited`: links of what was open before the application was imported.
    """
    if not _is_over_at_once(inherited):
        # What the garbage collector does not look at (`gc.freeze`) is not dropped at the end either.
        keep_for_template()
        _ignore_signals()
        return status
    ctypes.CDLL(None).fflush(None)  # of extensions that print by themselves
    os._exit(status)


def _ignore_signals() -> None:
    """Python gives signals their default actions before it drops objects, and so one would end the process with
    another status. What is ignored stays ignored."""
    for number in {*NOT_FOR_CHILDREN, signal.SIGTERM} - {signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    # The end of the supervisor is such a signal, too, and who hangs then is ended by the kernel.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(CLEARING_PATIENCE)


def _is_over_at_once(inherited: frozenset[str]) -> bool:
    """Do what Python does first at exit; return whether the rest can be left out."""
    # As the children of multiprocessing end: these two have no public name, and no other one either.
    waiting: Any = threading
    waiting._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            return False  # replaced, closed or broken: Python knows what to say about it
    try:
        return not may_hold_back(open_files(), inherited)
    except (OSError, KeyError, ValueError):
        return False  # nobody can tell


def may_hold_back(files: Iterable[OpenFile], inherited: frozenset[str]) -> bool:
    """Return whether something that the application has written may still be on its way to a file. Pure.

    What is written to sockets goes out when it is written, and pipes to itself are those of event loops.
    """
    files = list(files)
    read_here = {file.link for file in files if not file.is_written}
    return any(
        file.is_written
        and (stat.S_ISREG(file.mode) or stat.S_ISFIFO(file.mode) or stat.S_ISCHR(file.mode))
        and file.link not in inherited
        and file.link not in read_here
        and not file.link.startswith(_SEEN_BY_NOBODY)
        for file in files
    )


def open_files() -> list[OpenFile]:
    """Return what is open in this process beside the standard streams. Raise OSError where /proc cannot be read."""
    files = []
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            try:
                files.append(_open_file(number))
            except FileNotFoundError:
                continue  # that of the list itself
    return files


def _open_file(number: int) -> OpenFile:
    link = os.readlink(f"/proc/self/fd/{number}")
    with open(f"/proc/self/fdinfo/{number}", "rb") as info:
        fields = dict(line.split(b":", 1) for line in info if b":" in line)
    is_written = int(fields[b"flags"], 8) & os.O_ACCMODE != os.O_RDONLY
    return OpenFile(link, os.fstat(number).st_mode, is_written)
