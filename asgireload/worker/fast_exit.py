"""End a worker's process as Python does at exit, but without dropping object by object.

A worker shares the memory of its template. To drop an object Python writes to it, so the kernel copies a page for
every few objects: with FastAPI 34 ms and 6,000 page faults instead of 2 ms and 300 (benchmarks/ending.py), for
memory that the kernel frees at once anyway. So the worker waits for threads, runs exit handlers and flushes
buffers; then it calls `os._exit`. Finalizers of remaining objects are not called; Python does not promise that
either (`object.__del__` in its reference).

A file that the application has open for writing may hold text that Python would write when it drops the file. Such
text is flushed first of all, so that nothing that follows can lose it, and the process then ends as any Python
program does: objects of libraries, such as an archive that is still open, may have more to write.

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
"""Prefixes of links in /proc/self/fd; bytes written to such files are lost in any case."""
_SQLITE_HEADER = b"SQLite format 3\x00"
_SQLITE_COMPANIONS = ("-wal", "-shm", "-journal")

THREADS_SHARE = 0.5
"""The fraction of the time to exit for which threads are waited for; exit handlers, which send data, have the
rest."""
CLEARING_PATIENCE = 10
"""Seconds after the time to exit at which the kernel ends a process that still drops objects. A supervisor kills
it earlier."""
MOST_NAMED_THREADS = 8
_EXECUTORS = (
    ("concurrent.futures.thread", "_threads_queues"),
    ("concurrent.futures.process", "_threads_wakeups"),
)
"""Modules, and the attribute in which each keeps the threads that it joins at exit, daemons or not."""
_WAKING = signal.SIGUSR2
"""The signal that interrupts the main thread while it waits for threads. Children do not use it otherwise."""

_logger = logging.getLogger("asgireload.error")


class OpenFile(NamedTuple):
    """An open descriptor as described by /proc/self/fd, /proc/self/fdinfo and fstat(2)."""

    link: str
    mode: int
    is_written: bool
    """The file was opened for writing."""
    number: int = -1
    is_database: bool = False
    """An SQLite database: SQLite writes committed data at once, and uncommitted data is not to be written."""
    is_appended: bool = False


class ExitTime(NamedTuple):
    """The time that a worker has to exit, on the monotonic clock."""

    begun_at: float
    until: float

    @property
    def threads_until(self) -> float:
        """The monotonic time until which threads are waited for."""
        return self.begun_at + (self.until - self.begun_at) * THREADS_SHARE


class _TimeIsUp(BaseException):
    """Raised in the main thread while it waits for threads."""


def end_process(status: int, inherited: frozenset[str], time_left: ExitTime) -> int:
    """End the process with `status`, or return `status` for the caller to exit with as any Python program does.

    Only for the main thread. `inherited` is the links (/proc/self/fd) of files that were open before the
    application was imported.
    """
    flush_files(inherited)
    has_ended = wait_for_threads(time_left.threads_until)
    run_exit_handlers()
    # With threads left, `os._exit`: Python itself would wait for them without a limit.
    if has_ended and not _is_over_at_once(inherited):
        keep_for_template()
        flush_all()
        _ignore_signals(time_left.until)
        return status
    if not has_ended:
        flush_files(inherited)
        _flush_standard_streams()
    ctypes.CDLL(None).fflush(None)  # for extensions that print by C's stdio
    os._exit(status)


def _ignore_signals(until: float) -> None:
    """Ignore signals, because Python restores default actions before it drops objects, and then a signal would
    end the process with another status. Ignored signals stay ignored."""
    for number in {*NOT_FOR_CHILDREN, signal.SIGTERM} - {signal.SIGALRM}:
        signal.signal(number, signal.SIG_IGN)
    # SIGTERM at the supervisor's death is ignored, too, so the alarm ends a process that hangs without one.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(CLEARING_PATIENCE + max(0, math.ceil(until - time.monotonic())))


# --- what Python does first -----------------------------------------------------------------------


def wait_for_threads(until: float) -> bool:
    """Wait for threads as Python does at exit, but at most until `until`; return whether they ended.

    Threads that still run are logged. `until` is on the monotonic clock.
    """
    # Daemon threads count: executors wait for theirs, and a function registered with `threading` may do so.
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
    """`others`: all threads but the main thread and the one that wakes it."""

    def wake(number: int, frame: FrameType | None) -> None:
        if time.monotonic() >= until:
            raise _TimeIsUp

    # Before the wait: Python 3.11 takes a thread for ended when the wait for it is interrupted.
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
        # A function that was registered with `threading` waits for one of `others`.
        names = describe_threads(others)
    if names:
        _tell(names)
        return False
    return has_ended


def _wait_for_all() -> bool:
    """Wait for threads as Python does at exit. When time is up, return False (Python 3.13) or raise _TimeIsUp."""
    is_woken = False

    def on_unraisable(unraisable: Any) -> None:
        nonlocal is_woken
        # From Python 3.13 on the wait for a thread does not raise: it ends, and Python calls this hook.
        if issubclass(unraisable.exc_type, _TimeIsUp):
            is_woken = True
        else:
            hook(unraisable)

    # `multiprocessing` calls the same function at the end of its children; it has no public name.
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
    """Return the threads that still run and that Python would wait for at exit."""
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

    The threads of an executor are daemons, too, if a daemon thread has started them.
    """
    threads: set[threading.Thread] = set()
    for name, attribute in _EXECUTORS:
        threads.update(getattr(sys.modules.get(name), attribute, ()))
    return threads


def describe_threads(threads: Iterable[threading.Thread]) -> list[str]:
    """Return, for the log, the name of each thread that still runs and the code that it is in."""
    frames = sys._current_frames()
    return [
        f"{thread.name!r} in {_place(frames[thread.ident])}"
        for thread in threads
        if thread.ident in frames
    ]


def _place(innermost: FrameType) -> str:
    """Return where a thread is: its innermost frame outside the standard library."""
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
    """Run the functions that were registered with atexit."""
    atexit._run_exitfuncs()


def _is_over_at_once(inherited: frozenset[str]) -> bool:
    """Return whether the process can end without dropping objects."""
    if not _flush_standard_streams():
        return False  # replaced, closed or broken: Python reports it at exit
    try:
        return not may_hold_back(open_files(), inherited)
    except (OSError, KeyError, ValueError):
        return False  # /proc cannot be read


def _flush_standard_streams() -> bool:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            return False
    return True


# --- files ----------------------------------------------------------------------------------------


def flush_files(inherited: frozenset[str]) -> None:
    """Flush text and bytes that the application has written to regular files and that Python still buffers.

    Objects are searched only when such files are open, because the search touches all shared memory. Pipes are
    skipped, since their reader may block a write. A flush that fails is ignored: the error is reported again when
    the file is dropped.
    """
    try:
        written = [file for file in open_files() if may_hold_back([file], inherited)]
    except (OSError, KeyError, ValueError):
        return  # /proc cannot be read
    numbers = {file.number for file in written if stat.S_ISREG(file.mode)}
    if not numbers:
        return
    keep_for_template()  # also unfreezes objects, so that `gc.get_objects` lists them
    writers = [item for item in gc.get_objects() if issubclass(type(item), _WRITERS)]
    # Text first: it goes to the byte buffer below it, which goes to the file.
    for writer in sorted(writers, key=lambda item: not isinstance(item, io.TextIOWrapper)):
        kind = next(kind for kind in _WRITERS if isinstance(writer, kind))
        # Closed, detached, disk full, or a raw stream of the application below: nothing can be done about it now.
        with contextlib.suppress(Exception):
            # The base class's methods, because a subclass may do anything in its own.
            if kind.fileno(writer) in numbers:
                kind.flush(writer)


_WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def may_hold_back(files: Iterable[OpenFile], inherited: frozenset[str]) -> bool:
    """Return whether the application may have buffered data for a file. Pure.

    Sockets do not count, because their data goes out when it is written. Nor do pipes that this process reads
    itself: event loops wake themselves through such pipes.
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
    """Return the open descriptors of this process except 0 to 2. Raise OSError when /proc cannot be read."""
    files = []
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            try:
                files.append(_open_file(number))
            except FileNotFoundError:
                continue  # the descriptor of os.listdir itself
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
        # Read by this descriptor: to open and close the file would release SQLite's POSIX locks on it.
        and os.pread(number, len(_SQLITE_HEADER), 0) == _SQLITE_HEADER
    )
    is_written = access != os.O_RDONLY
    return OpenFile(link, mode, is_written, number, is_database, bool(flags & os.O_APPEND))
