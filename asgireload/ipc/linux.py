"""The calls that only Linux has, behind one seam.

Everything else reaches them through the functions here, so that another system can be given plain
replacements in one place.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_subreaper() -> None:
    """Make orphaned descendants children of this process: PR_SET_CHILD_SUBREAPER in prctl(2)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def signal_on_parent_death(number: signal.Signals) -> None:
    """Ask for `number` when the parent's thread that adopted us ends: PR_SET_PDEATHSIG in prctl(2).

    The caller must look at `os.getppid()` afterwards: the parent may have died just before.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


class ProcessHandle:
    """A process by descriptor, so that a signal can never reach another one that got its number.

    pidfd_open(2) and pidfd_send_signal(2). Owns the descriptor; `close()` is idempotent.
    """

    def __init__(self, pid: int) -> None:
        """Raise ProcessLookupError when there is no such process."""
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended already is fine."""
        if self._descriptor == -1:
            return
        try:
            signal.pidfd_send_signal(self._descriptor, number)
        except ProcessLookupError:
            pass

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1


def resident_bytes(pid: int) -> int | None:
    """Return the resident memory of a process, None when it is gone: proc_pid_statm(5)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return None
