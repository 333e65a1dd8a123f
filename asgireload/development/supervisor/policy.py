"""How `--reload` decides: the newest code counts.

It is tried on everybody at once, and nothing goes back to what was before.
"""

import os

from msgspec.structs import replace

from asgireload.config import Config
from asgireload.supervisor.fleet import Policy
from asgireload.supervisor.policy import make_policy

DRAIN_TIMEOUT = 5.0
"""Seconds that old code may go on with what is open: a page that listens to a stream has the new code's only
when the old one has ended."""


def make_development_policy(config: Config) -> Policy:
    """Return the policy of a server with `--reload`."""
    return replace(
        make_policy(config),
        development=True,
        is_patient=config.workers == 1 and os.isatty(0),
        changes_give_way=False,
        hold_timeout=config.reload_hold_timeout,
        coalesce_window=0.0,
        probation=0.0,
        surge=max(config.surge, config.workers),
        drain_overlap=True,
        drain_timeout=min(config.drain_timeout, DRAIN_TIMEOUT),
        keep_generations=0,
        revert_window=0.0,
        give_up_after=0.0,
    )
