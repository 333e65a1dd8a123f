"""Signals that reach a child by accident must not end it.

A closing terminal sends SIGHUP to the whole process group, Ctrl-C sends SIGINT to it, and
`pkill -USR1 asgireload` hits every process of that name. Only the supervisor acts on those.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

FOR_THE_SUPERVISOR = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""They may be sent to all processes, and only it acts on them: in a worker no handler of an application does."""
NOT_FOR_CHILDREN = (*FOR_THE_SUPERVISOR, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM)
"""A fresh interpreter is started with them blocked: one that hears of Ctrl-C before its handlers stand ends with
a traceback of its own."""


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing. A handler rather than SIG_IGN, which programs that the application starts would inherit."""


def make_quiet(*more: signal.Signals) -> None:
    """Let the signals that are meant for the supervisor, and `more`, pass without effect."""
    for number in (*NOT_FOR_CHILDREN, *more):
        signal.signal(number, _nothing)


def take_back() -> None:
    """Take from the application what it has set at import for signals of the supervisor, and let those and SIGTERM
    through again, for which the handler of the worker stands already."""
    for number in FOR_THE_SUPERVISOR:
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*FOR_THE_SUPERVISOR, signal.SIGTERM))


def begin_quiet(*more: signal.Signals) -> None:
    """The same in an interpreter that was just started, with signals blocked."""
    make_quiet(*more)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_keeps_handlers = False
_restores = False
_is_of_application = False


@contextlib.contextmanager
def keep_handlers() -> Iterator[None]:
    """Leave signals to the caller around a fork of our own."""
    global _keeps_handlers
    _keeps_handlers = True
    try:
        yield
    finally:
        _keeps_handlers = False


def is_of_application() -> bool:
    """Return whether this process was forked by the application, and not by us, since `restore_in_forks`."""
    return _is_of_application


def restore_in_forks() -> None:
    """Give processes that the application forks the usual meaning of these signals, and of SIGTERM.

    They inherit our handlers: `multiprocessing.Process.terminate()` would have no effect. The signals
    are held around the fork, because Python forgets in the child those that arrive at once. Forked workers and
    templates inherit this, so later calls do nothing.
    """
    global _restores
    if _restores:
        return
    _restores = True
    ours = (*NOT_FOR_CHILDREN, signal.SIGTERM)
    held = threading.local()  # masks belong to threads, and several may fork

    def hold() -> None:
        if not _keeps_handlers:
            held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ours)

    def release() -> None:
        if not _keeps_handlers:
            signal.pthread_sigmask(signal.SIG_SETMASK, held.mask)

    def restore() -> None:
        global _is_of_application
        if _keeps_handlers:
            return
        _is_of_application = True
        for number in ours:
            if signal.getsignal(number) is _nothing or number is signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        # Python would write the signals that are let through now to the event loop of the worker.
        signal.set_wakeup_fd(-1)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=restore)
