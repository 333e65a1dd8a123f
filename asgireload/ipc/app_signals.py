"""What an application has set about signals while it was imported: taken from the template, given to its workers.

A template that sleeps must not run handlers of the application, nor ignore the end of its own children. A
worker has what the application meant: as it would have it if it had imported the application by itself.
"""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from asgireload.ipc.quiet_signals import FOR_THE_SUPERVISOR

Handler = Callable[[int, FrameType | None], Any] | int | None

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_FOR_US = (*FOR_THE_SUPERVISOR, signal.SIGTERM)
"""SIGTERM tells a worker to leave. A handler of the application for these would end requests in the middle when a
terminal sends SIGINT to all processes."""


class AppSignals(msgspec.Struct, frozen=True):
    handlers: dict[int, Handler] = {}
    """Those that were set during the import."""
    blocked: frozenset[int] = frozenset()
    timers: dict[int, tuple[float, float]] = {}
    """Interval timers that run: until the first signal and from there on, in seconds."""


def signal_handlers() -> dict[int, Handler]:
    """Return the handlers that are in force, as Python knows them; None stands for one of C's."""
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def take_signals(before: dict[int, Handler]) -> AppSignals:
    """In the template: return what was set since `before`, and take it back."""
    timers = {}
    for which in _TIMERS:
        if any(running := signal.getitimer(which)):
            timers[int(which)] = running
            signal.setitimer(which, 0)
    blocked = frozenset(map(int, signal.pthread_sigmask(signal.SIG_SETMASK, ())))
    handlers: dict[int, Handler] = {}
    for number, handler in signal_handlers().items():
        former = before.get(number)
        if handler is not former and handler is not None and former is not None:
            handlers[number] = handler
            signal.signal(number, former)
    return AppSignals(handlers, blocked, timers)


def give_signals(signals: AppSignals) -> None:
    """In a worker: set it again. What is blocked is unblocked first, when our own handlers stand."""
    for number, handler in signals.handlers.items():
        if number not in _FOR_US:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals.blocked - {*map(int, _FOR_US)})
    for which, (delay, interval) in signals.timers.items():
        signal.setitimer(which, delay, interval)
