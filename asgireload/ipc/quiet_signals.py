"""Keep signals that reach a child by accident from ending it.

A closing terminal sends SIGHUP to the whole process group, Ctrl-C sends SIGINT to it, and `pkill -USR1 asgireload`
signals every process of that name. Only the supervisor acts on these signals.
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
"""Signals that may be sent to all processes. In a worker even a handler of the application does not get them."""
NOT_FOR_CHILDREN = (*FOR_THE_SUPERVISOR, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM)
"""Signals that are blocked in a fresh interpreter: one that gets SIGINT before its handlers are installed would end
with a traceback."""


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing. Used instead of SIG_IGN, which programs started by the application would inherit."""


def make_quiet(*more: signal.Signals) -> None:
    """Install handlers without effect for the signals that are meant for the supervisor, and for `more`."""
    for number in (*NOT_FOR_CHILDREN, *more):
        signal.signal(number, _nothing)


def take_back() -> None:
    """Replace handlers that the application has set at import for signals of the supervisor, and unblock these and
    SIGTERM. The worker's handler for SIGTERM must be installed."""
    for number in FOR_THE_SUPERVISOR:
        signal.signal(number, _nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*FOR_THE_SUPERVISOR, signal.SIGTERM))


def begin_quiet(*more: signal.Signals) -> None:
    """Call `make_quiet` in an interpreter that was just started with signals blocked, then unblock all signals."""
    make_quiet(*more)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


_keeps_handlers = False
_restores = False
_is_of_application = False


@contextlib.contextmanager
def keep_handlers() -> Iterator[None]:
    """Leave signals alone in a fork by the server itself, in spite of `restore_in_forks`."""
    global _keeps_handlers
    _keeps_handlers = True
    try:
        yield
    finally:
        _keeps_handlers = False


def is_of_application() -> bool:
    """Return whether the application, not the server, has forked this process since `restore_in_forks`."""
    return _is_of_application


def restore_in_forks() -> None:
    """Restore the default actions of these signals, and of SIGTERM, in processes that the application forks.

    With the inherited handlers, `multiprocessing.Process.terminate()` would have no effect. The signals are blocked
    around the fork, because Python drops signals that arrive in the child at that moment. Forked workers and
    templates inherit the hooks, so later calls do nothing.
    """
    global _restores
    if _restores:
        return
    _restores = True
    ours = (*NOT_FOR_CHILDREN, signal.SIGTERM)
    held = threading.local()  # masks belong to threads, and several threads may fork

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
        # Python would write signals that are unblocked now to the worker's event loop.
        signal.set_wakeup_fd(-1)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=restore)
