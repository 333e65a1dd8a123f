"""The PID file: written when the listeners are open, removed only while it still names this process.

A server keeps its file locked (flock(2)) while it accepts connections, so a second server with the same file is
refused. A server that stops releases the lock first, so that another server may take over the file while the first
one drains.
"""

import fcntl
import os
import stat
import time

from asgireload.errors import StartupError
from asgireload.supervisor.whole_files import place_new, replace_file

LOCK_TIMEOUT = 1.0
"""Seconds that a start waits for the lock of a file that names no running server."""


class PidFile:
    """The PID file of this server. `release`, or the end of the process, releases its lock."""

    def __init__(self, lock: int) -> None:
        self._lock: int | None = lock

    def release(self) -> None:
        """Release the lock, so that another server may take over the file. Idempotent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def write_pid_file(path: str) -> PidFile:
    """Write the pid of this process. Raise StartupError, with the previous file, if any, left in place."""
    try:
        while True:
            lock = _write(path)
            if lock is not None:
                return PidFile(lock)
    except OSError as error:
        raise StartupError(f"--pid-file {path}: {error.strerror}") from error


def remove_pid_file(path: str) -> None:
    """Remove the file unless another server has written its pid there."""
    try:
        with open(path) as file:
            ours = file.read().strip() == str(os.getpid())
        if ours:
            os.unlink(path)
    except FileNotFoundError:
        pass  # it was removed by someone else


def why_taken(*, is_locked: bool, named: int | None, own: int, is_alive: bool) -> str:
    """Return why a PID file may not be replaced, as the end of a sentence; empty if it may. Pure.

    A lock alone is not enough, because every process that may read a file may lock it. `own` is compared because in
    two containers both servers may have pid 1.
    """
    if is_locked and named is not None and named != own and is_alive:
        return f"process {named} has written it and still serves: stop that server first, or give each its own file"
    return ""


def _write(path: str) -> int | None:
    """Return the descriptor that keeps the new file locked; None to try again, as another server was faster."""
    before = _open_present(path)
    try:
        if before is not None:
            is_locked = not _lock(before)
            named = _read_pid(before)
            is_alive = named is not None and os.path.exists(f"/proc/{named}")
            if why := why_taken(
                is_locked=is_locked, named=named, own=os.getpid(), is_alive=is_alive
            ):
                raise StartupError(f"--pid-file {path}: {why}")
            if is_locked:
                _wait_unlocked(before, path)
            if not _is_at(before, path):
                return None
        locks: list[int] = []

        def lock_written(descriptor: int) -> None:
            locks.append(os.dup(descriptor))
            _lock(descriptor)

        is_new = before is None and not os.path.lexists(path)
        try:
            replace_file(
                path,
                f"{os.getpid()}\n".encode(),
                mode=0o666,
                place=place_new if is_new else os.replace,
                on_written=lock_written,
            )
        except FileExistsError:
            os.close(locks[0])
            return None
        except BaseException:
            for lock in locks:
                os.close(lock)
            raise
        return locks[0]
    finally:
        if before is not None:
            os.close(before)


def _open_present(path: str) -> int | None:
    """Return a descriptor of the present file; None if there is none, or none that may be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int) -> bool:
    """Lock a file while one of its descriptors is open; return False when another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks, so no process holds one
    return True


def _wait_unlocked(descriptor: int, path: str) -> None:
    """Wait while another server that is starting holds the lock. Other processes may keep their lock."""
    until = time.monotonic() + LOCK_TIMEOUT
    while time.monotonic() < until and _is_at(descriptor, path) and not _lock(descriptor):
        time.sleep(0.01)


def _read_pid(descriptor: int) -> int | None:
    try:
        text = os.pread(descriptor, 32, 0)
    except OSError:
        return None
    return int(text) if text.strip().isdigit() else None


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
