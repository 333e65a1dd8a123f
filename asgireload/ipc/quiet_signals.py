"""Signals that reach a child by accident must not end it.

A closing terminal sends SIGHUP to the whole process group, Ctrl-C sends SIGINT to it, and
`pkill -USR1 asgireload` hits every process of that name. Only the supervisor acts on those.
"""

import signal
from types import FrameType

_NOT_FOR_CHILDREN = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGWINCH,
    signal.SIGALRM,
)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing. A handler rather than SIG_IGN, which programs that the application starts would inherit."""


def make_quiet(*more: signal.Signals) -> None:
    """Let the signals that are meant for the supervisor, and `more`, pass without effect."""
    for number in (*_NOT_FOR_CHILDREN, *more):
        signal.signal(number, _nothing)
