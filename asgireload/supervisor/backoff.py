"""How long to wait before a slot is filled again after a failure. Pure."""

import random

FIRST_DELAY = 0.25
"""Seconds before the second attempt; each further one doubles it."""
LONGEST_DELAY = 30.0
"""Seconds; a dependency that is down for an hour is asked twice a minute by each slot."""
STEADY_AFTER = 10.0
"""Seconds a worker must have been ready for its slot's failures to be forgotten."""


def delay(failures: int, rng: random.Random) -> float:
    """Return the seconds to wait after `failures` failures in a row, 0 for the first.

    The first replacement comes at once, since most crashes are single. After that the delay doubles up
    to LONGEST_DELAY, and a random quarter of it is taken off, so that slots which failed together (the
    database was away) do not all come back in the same instant.
    """
    if failures <= 1:
        return 0.0
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 20))
    return longest * rng.uniform(0.75, 1.0)
