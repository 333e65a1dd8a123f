"""The signal settings that an application makes during its import: removed in the template, restored in workers.

A sleeping template must not run handlers of the application, nor ignore the exit of its own children. A worker gets
the settings that it would have if it had imported the application itself.
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
"""Signals whose handlers are the server's. SIGTERM tells a worker to drain; a handler of the application for the
others would end requests early when a terminal sends SIGINT to all processes."""


class AppSignals(msgspec.Struct, frozen=True):
    handlers: dict[int, Handler] = {}
    """Handlers that were set during the import."""
    blocked: frozenset[int] = frozenset()
    timers: dict[int, tuple[float, float]] = {}
    """Running interval timers: seconds until the first signal, and the interval after that."""


def signal_handlers() -> dict[int, Handler]:
    """Return the current handlers; None stands for a handler that was not installed by Python."""
    return {int(number): signal.getsignal(number) for number in signal.valid_signals()}


def take_signals(before: dict[int, Handler]) -> AppSignals:
    """In the template: return the settings that were made since `before`, and undo them."""
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
    """In a worker: restore the application's settings, except for signals with handlers of the server."""
    for number, handler in signals.handlers.items():
        if number not in _FOR_US:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals.blocked - {*map(int, _FOR_US)})
    for which, (delay, interval) in signals.timers.items():
        signal.setitimer(which, delay, interval)
