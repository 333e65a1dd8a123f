"""How often a worker records a heartbeat of its event loop, and how often the supervisor reads the heartbeats."""

from asgireload.config import Config

_SERVING = 1.0
_DEVELOPING = 3.0
"""Longer with `--reload`: a development server is nearly always idle, and each wake-up of an idle loop costs
CPU."""
_BEATS = 3
"""Heartbeats, at least, in the time after which a worker without one counts as stalled."""


def heartbeat_interval(config: Config) -> float:
    """Return the seconds between two heartbeats of a worker, and between two observations of all workers."""
    if not config.reload:
        return _SERVING
    return min(_DEVELOPING, config.timeout_worker_healthcheck / _BEATS)


def stalled_after(config: Config) -> float:
    """Return the seconds without a heartbeat after which a worker is shown as stalled: half of the time after which
    the worker is replaced, but not less than `silent_after`."""
    return max(config.timeout_worker_healthcheck / 2, silent_after(config))


def silent_after(config: Config) -> float:
    """Return the seconds without a heartbeat after which a worker's event loop is taken to be blocked."""
    return heartbeat_interval(config) + 0.5
