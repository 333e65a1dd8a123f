"""Start an interpreter for a child, and say in words how one has ended."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from asgireload.ipc.quiet_signals import NOT_FOR_CHILDREN
from asgireload.supervisor import interpreter

TEMPLATE_MODULE = "asgireload.template.main"
CHANNEL_DESCRIPTOR = 3
"""Number of a child's channel in its own process."""


def spawn(module: str, channel: int) -> int:
    """Run `module` with `channel` as its only inherited descriptor; return its process number.

    Every other descriptor of ours closes itself on exec. Signals that the supervisor blocks or ignores
    are given back their defaults; those that are for the supervisor only are blocked until the child is ready
    for them (`begin_quiet`). Raise OSError.
    """
    if not sys.executable:
        raise FileNotFoundError(errno.ENOENT, "sys.executable is empty")
    return os.posix_spawn(
        sys.executable,
        interpreter.command(module, CHANNEL_DESCRIPTOR),
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, channel, CHANNEL_DESCRIPTOR)],
        setsigmask=NOT_FOR_CHILDREN,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
    )


def leave_deleted_directory() -> None:
    """Change to / where the start directory was deleted while the server runs.

    `python -c` of 3.13 fails there with a SystemError at its first missing attribute.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def can_fork() -> bool:
    """Return whether a fork of this process is as good as a fresh interpreter: it is a program that has just begun.

    Nobody looks on whose notes would then be written by two, and no thread has locks that would stay locked.
    Only for a program whose own arguments are read: what else has called us may have begun anything.
    """
    return (
        sys.gettrace() is None
        and sys.getprofile() is None
        and not _is_monitored()
        and interpreter.is_plain_program()
        and not interpreter.own_path().is_edited
        and has_one_thread()
    )


def fork(module: str, channel: int, prepare: Callable[[], None]) -> int:
    """Run `module` in a fork of this process, as `spawn` does in a fresh interpreter; return its process number.

    Spares the time to start an interpreter, and the memory of what both have imported. Only where `can_fork()`.
    `prepare` is called in the child, which does not return: it ends, or raises SystemExit. `channel` keeps its
    number there. Raise OSError.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    child = os.fork()
    if child == 0:
        prepare()
        _run(module, channel)
    return child


def _run(module: str, channel: int) -> NoReturn:
    """Be what `spawn` starts."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, NOT_FOR_CHILDREN)
        for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        sys.orig_argv = interpreter.command(module, channel)
        sys.path[:] = interpreter.own_path().entries
        sys.argv = ["", str(channel)]
        # What -m does, too.
        import runpy

        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - what the caller would make of it is not for a child
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    sys.exit(0)


_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def _is_monitored() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


def has_one_thread(tasks: str = "/proc/self/task") -> bool:
    """Return whether this process has no thread but the one that asks, native ones included.

    `tasks` is the directory of its threads (proc_pid_task(5)).
    """
    try:
        return len(os.listdir(tasks)) == 1
    except OSError:
        return False  # nobody can tell


def describe_exit(code: int) -> str:
    """Return an exit code, negative for a signal, in words."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
