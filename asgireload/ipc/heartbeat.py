"""How often a worker writes down that its loop turns, and how often the supervisor looks."""

from asgireload.config import Config

_SERVING = 1.0
_DEVELOPING = 3.0
"""A server on a developer's machine rests nearly always, and each turn of an idle loop wakes a processor."""
_BEATS = 3
"""In the time after which a worker without any counts as stalled, at least."""


def heartbeat_interval(config: Config) -> float:
    """Return the seconds between two heartbeats of a worker, and between two looks at all of them."""
    if not config.reload:
        return _SERVING
    return min(_DEVELOPING, config.timeout_worker_healthcheck / _BEATS)


def stalled_after(config: Config) -> float:
    """Return the seconds without a heartbeat after which a worker is shown as stalled: half of the time after which
    it is replaced, if that is enough to tell."""
    return max(config.timeout_worker_healthcheck / 2, silent_after(config))


def silent_after(config: Config) -> float:
    """Return the seconds without a heartbeat after which a loop does not turn."""
    return heartbeat_interval(config) + 0.5
