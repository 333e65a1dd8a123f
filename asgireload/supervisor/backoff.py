"""The delay before a slot is filled again after a failure. Pure."""

import random

FIRST_DELAY = 0.25
"""Seconds before the second attempt; the delay doubles with each further one."""
LONGEST_DELAY = 30.0
"""Seconds; when a dependency is down for an hour, each slot tries it twice a minute."""
STEADY_AFTER = 10.0
"""Seconds that a worker must have been ready before the failures of its slot are forgotten."""


def delay(failures: int, rng: random.Random) -> float:
    """Return the seconds to wait after `failures` failures in a row, 0 after the first.

    The first replacement is immediate, because most crashes are single. Then the delay doubles up to
    LONGEST_DELAY. A random part of up to a quarter is subtracted, so that slots which failed together (the database
    was down) do not all restart at the same instant.
    """
    if failures <= 1:
        return 0.0
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 20))
    return longest * rng.uniform(0.75, 1.0)
