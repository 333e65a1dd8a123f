"""What each signal to the supervisor means: one table.

Handlers only submit events; nothing is done inside a signal handler, and no signal ends the supervisor
by accident.
"""

import signal

RELOAD = (signal.SIGHUP, signal.SIGUSR1)
STOP = (signal.SIGTERM, signal.SIGINT)
STOP_AT_ONCE = (signal.SIGQUIT,)
MORE_WORKERS = (signal.SIGTTIN,)
FEWER_WORKERS = (signal.SIGTTOU,)
RESERVED = (signal.SIGUSR2,)
"""For task workers; until they exist it is logged and does nothing."""
CHILD = (signal.SIGCHLD,)

_FATAL_BY_THEMSELVES = (
    signal.SIGKILL,
    signal.SIGSTOP,
    # Faults of this very process, and its resource limits.
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGXCPU,
    signal.SIGXFSZ,
    # Job control of a terminal keeps its meaning; SIGPIPE is ignored by Python already.
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGPIPE,
    signal.SIGURG,
)


def unused() -> list[int]:
    """Return the signals that mean nothing to us and would otherwise end the process.

    Real-time signals between the first and the last have no name in Python.
    """
    used = {
        *RELOAD,
        *STOP,
        *STOP_AT_ONCE,
        *MORE_WORKERS,
        *FEWER_WORKERS,
        *RESERVED,
        *CHILD,
        *_FATAL_BY_THEMSELVES,
    }
    return [number for number in signal.valid_signals() if number not in used]


_FROM_USERS = (*RELOAD, *STOP, *STOP_AT_ONCE, *MORE_WORKERS, *FEWER_WORKERS, *RESERVED)


def hold() -> set[int]:
    """Block the signals that a user may send before handlers stand; they are delivered afterwards.

    Return the signals that were blocked before.
    """
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_USERS)}


def restore(blocked: set[int]) -> None:
    """Block these signals and no others."""
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ignore() -> None:
    """Let the signals that a user may send have no effect any more, those included that are held.

    For a process that has nothing left to do but to end with its status.
    """
    for number in _FROM_USERS:
        signal.signal(number, signal.SIG_IGN)


def discard() -> None:
    """Forget held signals that have arrived: they were meant for a server that has stopped since."""
    for number in signal.sigpending() & set(_FROM_USERS):
        handler = signal.getsignal(number)
        if handler is not None:  # else it was not set by Python, and could not be set again
            signal.signal(number, signal.SIG_IGN)
            signal.signal(number, handler)


def hold_children() -> None:
    """Block what tells of children that end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD)


def release_children() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD)


def release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
