"""How long a worker may take to exit after its drain. Pure: supervisor and worker compute the same deadline.

Without `--exit-timeout` the time is what is left of the drain timeout and the lifespan timeout, at least
EXIT_LEAST. So exit work does not lengthen the longest stop, and gets nearly all of that time after a short drain.
"""

EXIT_LEAST = 1.5
"""Seconds to exit after a drain and a lifespan shutdown that took all of their time."""
FAILED_EXIT = 5.0
"""Seconds to exit for a worker that could not start; its failure is judged after that."""


def exit_deadline(exit_timeout: float | None, drain_deadline: float, now: float) -> float:
    """Return the deadline of the exit of a worker whose drain has ended at `now`.

    `drain_deadline` is the deadline of drain and lifespan shutdown. All are seconds of one monotonic clock.
    """
    if exit_timeout is not None:
        return now + exit_timeout
    return max(drain_deadline, now) + EXIT_LEAST


def failed_exit_timeout(exit_timeout: float | None) -> float:
    """Return the seconds that a worker which could not start may take to exit."""
    return FAILED_EXIT if exit_timeout is None else exit_timeout
