"""Start an interpreter for a child, and describe in words how a child has ended."""

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
"""The descriptor of a child's channel in its own process."""


def spawn(module: str, channel: int) -> int:
    """Run `module` with `channel` as its only inherited descriptor; return its pid.

    All other descriptors are closed on exec. Signals that the supervisor blocks or ignores get their default
    actions back; those for the supervisor only are blocked until the child is ready for them (`begin_quiet`). Raise
    OSError.
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
    """Change to / when the start directory was deleted while the server runs.

    In a deleted directory `python -c` of 3.13 fails with a SystemError at its first missing attribute.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        os.chdir("/")


def can_fork() -> bool:
    """Return whether a fork of this process is as good as a fresh interpreter, because the program has just
    started.

    No tracer, profiler or monitoring tool would get two processes to record, and no other thread holds locks that
    would stay locked. True only under the asgireload command: another caller may have started anything before.
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
    """Run `module` in a fork of this process, as `spawn` does in a fresh interpreter; return its pid.

    Saves the time to start an interpreter, and the memory of modules that both have imported. Call only if
    `can_fork()`. `prepare` is called in the child, which does not return from here: it ends, or raises SystemExit.
    `channel` keeps its number there. Raise OSError.
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
    """Do in a fork what `spawn` starts in an interpreter."""
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, NOT_FOR_CHILDREN)
        for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        sys.orig_argv = interpreter.command(module, channel)
        sys.path[:] = interpreter.own_path().entries
        sys.argv = ["", str(channel)]
        # As -m does.
        import runpy

        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit:
        raise
    except BaseException:  # noqa: BLE001 - the handlers of the callers are not meant for a child
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    sys.exit(0)


_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}


def _is_monitored() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


def has_one_thread(tasks: str = "/proc/self/task") -> bool:
    """Return whether this process has no thread except the calling one, native threads included.

    `tasks` is the directory of its threads (proc_pid_task(5)).
    """
    try:
        return len(os.listdir(tasks)) == 1
    except OSError:
        return False  # unknown


def describe_exit(code: int) -> str:
    """Return an exit code in words; a negative code is the number of a signal."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
