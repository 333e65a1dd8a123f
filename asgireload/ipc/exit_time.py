"""How long a worker may take to leave once it has drained. Pure: supervisor and worker reckon alike.

Without `--exit-timeout` that is what is left of the drain timeout and the lifespan timeout, at least EXIT_LEAST. So
exit work does not make the longest stop longer, and has nearly all of that time where the drain is short.
"""

EXIT_LEAST = 1.5
"""Seconds to leave after a drain and a lifespan shutdown that took all of their time."""
FAILED_EXIT = 5.0
"""Seconds to leave for a worker that could not start: the verdict waits for it."""


def exit_deadline(exit_timeout: float | None, drain_deadline: float, now: float) -> float:
    """Return when a worker must have left that has drained `now`.

    `drain_deadline`: when drain and lifespan shutdown had to be done.
    """
    if exit_timeout is not None:
        return now + exit_timeout
    return max(drain_deadline, now) + EXIT_LEAST


def failed_exit_timeout(exit_timeout: float | None) -> float:
    """Return the seconds that a worker may take to leave that could not start."""
    return FAILED_EXIT if exit_timeout is None else exit_timeout
