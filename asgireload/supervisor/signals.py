"""The meaning of each signal to the supervisor: one table.

Handlers only submit events, and no signal that is not listed as fatal ends the supervisor.
"""

import signal

RELOAD = (signal.SIGHUP, signal.SIGUSR1)
STOP = (signal.SIGTERM, signal.SIGINT)
STOP_AT_ONCE = (signal.SIGQUIT,)
MORE_WORKERS = (signal.SIGTTIN,)
FEWER_WORKERS = (signal.SIGTTOU,)
RESERVED = (signal.SIGUSR2,)
"""Reserved for task workers; until they exist the signal is logged and does nothing."""
CHILD = (signal.SIGCHLD,)

_FATAL_BY_THEMSELVES = (
    signal.SIGKILL,
    signal.SIGSTOP,
    # Faults of this process, and its resource limits.
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
    signal.SIGXCPU,
    signal.SIGXFSZ,
    # Job control of a terminal keeps its meaning; Python ignores SIGPIPE already.
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGPIPE,
    signal.SIGURG,
)


def unused() -> list[int]:
    """Return the signals without a meaning here whose default action would end the process.

    The result includes real-time signals between the first and the last, which have no name in Python.
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
    """Block the signals that a user may send until handlers are installed; then they are delivered.

    Return the signals that were blocked before.
    """
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_USERS)}


def restore(blocked: set[int]) -> None:
    """Set the signal mask: block these signals and no others."""
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def ignore() -> None:
    """Ignore the signals that a user may send, including pending ones.

    For a process that only has to exit with its status.
    """
    for number in _FROM_USERS:
        signal.signal(number, signal.SIG_IGN)


def discard() -> None:
    """Discard pending signals that a user has sent: they were meant for a server that has stopped since."""
    for number in signal.sigpending() & set(_FROM_USERS):
        handler = signal.getsignal(number)
        if handler is not None:  # None: not set by Python, so it could not be set again
            signal.signal(number, signal.SIG_IGN)
            signal.signal(number, handler)


def hold_children() -> None:
    """Block SIGCHLD."""
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD)


def release_children() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD)


def release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
