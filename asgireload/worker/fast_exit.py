"""The end of a worker's process: what Python does at exit, without clearing away object by object.

A worker shares the memory of its template. To drop each object Python writes to it, and has a page copied for every
few of them: with FastAPI 34 ms and 6,000 page faults instead of 2 ms and 300 (benchmarks/ending.py), for memory
that the kernel takes back at once. So threads are waited for, exit handlers run and what is buffered is written;
then the process is over. Finalizers of what is still there are not called, which Python does not promise either
(`object.__del__` in its reference).

A file of the application that is open for writing may hold text that Python would write when it drops the file.
Such text is written first of all, so that nothing that follows can lose it, and the process ends the long way:
objects of libraries, such as an archive that nobody closed, may have more to write.

The supervisor kills a process that takes longer than its exit time, and names the function of this file that it
finds on the stack (`supervisor/fault.py`).
"""

import atexit
import contextlib
import ctypes
import gc
import io
import logging
import math
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any, NamedTuple

from asgireload.ipc.quiet_signals import NOT_FOR_CHILDREN, make_quiet
from asgireload.worker.inherited import flush_all, keep_for_template

_SEEN_BY_NOBODY = ("/memfd:", "/dev/null")
"""Beginnings of links in /proc/self/fd: what is written there is lost in any case."""
_SQLITE_HEADER = b"SQLite format 3\x00"
_SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")

THREADS_SHARE = 0.5
"""Of the time to exit, what threads may take: exit handlers, which send what others count on, have the rest."""
CLEARING_PATIENCE = 10
"""Seconds that the long way may take when nobody else ends the process. A supervisor that lives has less
patience."""
MOST_NAMED_THREADS = 8
_EXECUTORS = (
    ("concurrent.futures.thread", "_threads_queues"),
    ("concurrent.futures.process", "_threads_wakeups"),
)
"""Modules, and where each keeps the threads that it joins at exit, whether they are daemons or not."""
_WAKING = signal.SIGUSR2
"""Interrupts the main thread while it waits for threads. Children act on it in no other way."""

_logger = logging.getLogger("asgireload.error")


class OpenFile(NamedTuple):
    """A descriptor, as /proc/self/fd and fstat(2) know it."""

    link: str
    mode: int
    is_written: bool
    """It was opened for writing."""
    number: int = -1
    is_database: bool = False
    """SQLite's: it writes what is committed at once, and the rest never."""
    is_appended: bool = False


class ExitTime(NamedTuple):
    """The time that a worker has to exit, on the monotonic clock."""

    begun_at: float
    until: float

    @property
    def threads_until(self) -> float:
        """When threads are not waited for any more."""
        return self.begun_at + (self.until - self.begun_at) * THREADS_SHARE


class _TimeIsUp(BaseException):
    """Raised in the main thread while it waits for threads."""


def end_process(status: int, inherited: frozenset[str], time_left: ExitTime) -> int:
    """End the process with `status`, or return it to end as any program does. Only for the main thread.

    `inherited`: links of what was open before the application was imported.
    """
    flush_files(inherited)
    has_ended = wait_for_threads(time_left.threads_until)
    run_exit_handlers()
    # Python itself would wait for threads, without an end.
    if has_ended and not _is_over_at_once(inherited):
        keep_for_template()
        flush_all()
        _ignore_signals(time_left.until)
        return status
    if not has_ended:
        flush_files(inherited)
        _flush_standard_streams()
    ctypes.CDLL(None).fflush(None)  # of extensions that print by themselves
    os._exit(status)


def _ignore_signals(until: float) -> None:
    """Python gives signals their default actions before it drops objects, and so one would end the process with
    another status. What is ignored stays ignored."""
    for number in {*NOT_FOR_CHILDREN, signal.SIGTERM} - {signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    # The end of the supervisor is such a signal, too, and who hangs then is ended by the kernel.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(CLEARING_PATIENCE + max(0, math.ceil(until - time.monotonic())))


# --- what Python does first -----------------------------------------------------------------------


def wait_for_threads(until: float) -> bool:
    """Wait for threads as Python does at exit, at most until then; return whether they ended.

    Those that have not are told about.
    """
    # Daemons count: executors wait for theirs, and so may whoever registered a function with `threading`.
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        waker = threading.Thread(target=_wake_main_thread, args=(until,), daemon=True)
        try:
            waker.start()
        except RuntimeError:  # no thread can be started; the supervisor ends what takes too long
            return _wait_for_all()
        return _wait_at_most(until, others)
    return _wait_for_all()


def _wait_at_most(until: float, others: list[threading.Thread]) -> bool:
    """`others`: all threads but this one and the one that wakes it."""

    def wake(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= until:
            raise _TimeIsUp

    # Python 3.11 takes a thread for ended when the wait for it is interrupted.
    waited_for = threads_left()
    has_ended = False
    try:
        signal.signal(_WAKING, wake)
        has_ended = _wait_for_all()
        make_quiet()
    except _TimeIsUp:
        make_quiet()
    if time.monotonic() < until:
        return has_ended
    names = describe_threads(dict.fromkeys([*waited_for, *threads_left()]))
    if not names and not has_ended:
        # A function that was registered with `threading` waits for one of these.
        names = describe_threads(others)
    if names:
        _tell(names)
        return False
    return has_ended


def _wait_for_all() -> bool:
    """Return whether the wait has come to its end. Raise _TimeIsUp where it has not."""
    is_woken = False

    def on_unraisable(unraisable: Any) -> None:
        nonlocal is_woken
        # From Python 3.13 on the wait for a thread does not raise: it ends, and Python tells this hook.
        if issubclass(unraisable.exc_type, _TimeIsUp):
            is_woken = True
        else:
            hook(unraisable)

    # As the children of multiprocessing end: this has no public name.
    waiting: Any = threading
    hook, sys.unraisablehook = sys.unraisablehook, on_unraisable
    try:
        waiting._shutdown()
    finally:
        sys.unraisablehook = hook
    return not is_woken


def _wake_main_thread(until: float) -> None:
    time.sleep(max(0.0, until - time.monotonic()))
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, _WAKING)


def threads_left() -> list[threading.Thread]:
    """Return the threads that Python would wait for at exit, and that still run."""
    of_executors = _threads_of_executors()
    return [
        thread
        for thread in threading.enumerate()
        if (not thread.daemon or thread in of_executors)
        and thread is not threading.main_thread()
        and thread.is_alive()
    ]


def _threads_of_executors() -> set[threading.Thread]:
    """Return the threads that `concurrent.futures` waits for at exit.

    Those of an executor that a daemon uses are daemons, too.
    """
    threads: set[threading.Thread] = set()
    for name, attribute in _EXECUTORS:
        threads.update(getattr(sys.modules.get(name), attribute, ()))
    return threads


def describe_threads(threads: Iterable[threading.Thread]) -> list[str]:
    """Return for a person which of the threads still run, and which code each of them is in."""
    frames = sys._current_frames()
    return [
        f"{thread.name!r} in {_place(frames[thread.ident])}"
        for thread in threads
        if thread.ident in frames
    ]


def _place(innermost: FrameType) -> str:
    """Return where the code of a thread waits: the innermost frame that is not the standard library's."""
    frame: FrameType | None = innermost
    library = os.path.dirname(threading.__file__)
    while frame is not None:
        name = frame.f_code.co_filename
        if "site-packages" in name or not name.startswith((library, "<frozen")):
            break
        frame = frame.f_back
    frame = frame or innermost
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"


def _tell(names: list[str]) -> None:
    what = "thread still runs" if len(names) == 1 else "threads still run"
    more = f" and {len(names) - MOST_NAMED_THREADS} more" if len(names) > MOST_NAMED_THREADS else ""
    _logger.warning(
        "%d %s when half of the time to exit is over, and %s not waited for (--exit-timeout): %s%s",
        len(names),
        what,
        "is" if len(names) == 1 else "are",
        ", ".join(names[:MOST_NAMED_THREADS]),
        more,
    )


def run_exit_handlers() -> None:
    """Run what was registered with atexit."""
    atexit._run_exitfuncs()


def _is_over_at_once(inherited: frozenset[str]) -> bool:
    """Return whether the rest of what Python does can be left out."""
    if not _flush_standard_streams():
        return False  # replaced, closed or broken: Python knows what to say about it
    try:
        return not may_hold_back(open_files(), inherited)
    except (OSError, KeyError, ValueError):
        return False  # nobody can tell


def _flush_standard_streams() -> bool:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            return False
    return True


# --- files ----------------------------------------------------------------------------------------


def flush_files(inherited: frozenset[str]) -> None:
    """Write what Python holds of text and bytes that the application has written to regular files.

    Only where such files are open: to look for their objects touches all memory that is shared. Pipes are left out,
    whose reader may let a write wait, and files whose flush fails: whoever drops them says why.
    """
    try:
        written = [file for file in open_files() if may_hold_back([file], inherited)]
    except (OSError, KeyError, ValueError):
        return  # nobody can tell
    numbers = {file.number for file in written if stat.S_ISREG(file.mode)}
    if not numbers:
        return
    keep_for_template()  # and lists those that were frozen
    writers = [item for item in gc.get_objects() if issubclass(type(item), _WRITERS)]
    # Text goes to the bytes that are buffered below it, and those to the file.
    for writer in sorted(writers, key=lambda item: not isinstance(item, io.TextIOWrapper)):
        kind = next(kind for kind in _WRITERS if isinstance(writer, kind))
        # Closed, detached, its file full, or a stream of the application's own below it: nobody can act on it now.
        with contextlib.suppress(Exception):
            # Not what a subclass makes of it, which may do anything.
            if kind.fileno(writer) in numbers:
                kind.flush(writer)


_WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def may_hold_back(files: Iterable[OpenFile], inherited: frozenset[str]) -> bool:
    """Return whether something that the application has written may still be on its way to a file. Pure.

    What is written to sockets goes out when it is written, and pipes to itself are those of event loops.
    """
    files = list(files)
    read_here = {file.link for file in files if not file.is_written}
    databases = [file.link for file in files if file.is_database]
    companions = {link + ending for link in databases for ending in _SQLITE_COMPANIONS}
    return any(
        file.is_written
        and (stat.S_ISREG(file.mode) or stat.S_ISFIFO(file.mode) or stat.S_ISCHR(file.mode))
        and file.link not in inherited
        and file.link not in read_here
        and not file.link.startswith(_SEEN_BY_NOBODY)
        and not file.is_database
        and file.link not in companions
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
    flags = int(fields[b"flags"], 8)
    access = flags & os.O_ACCMODE
    mode = os.fstat(number).st_mode
    is_database = (
        access == os.O_RDWR
        and stat.S_ISREG(mode)
        # By the descriptor itself: to open and close the file would end the locks that SQLite has on it.
        and os.pread(number, len(_SQLITE_HEADER), 0) == _SQLITE_HEADER
    )
    is_written = access != os.O_RDONLY
    return OpenFile(link, mode, is_written, number, is_database, bool(flags & os.O_APPEND))
