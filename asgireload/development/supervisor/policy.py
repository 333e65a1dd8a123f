"""The policy of `--reload`: the newest code is loaded in all slots at once.

A failure to load it is shown in the browser, and there is no rollback.
"""

import os
from typing import Final

from msgspec.structs import replace

from asgireload.config import Config
from asgireload.supervisor.policy import Policy, make_policy

DRAIN_TIMEOUT: Final = 5.0
"""Longest drain timeout in seconds: a page that listens to a stream of the old code reconnects to the new code only
when that stream has ended."""
OLD_GENERATIONS: Final = 4
"""Generations whose workers may still drain when another reload begins."""


def make_development_policy(config: Config) -> Policy:
    """Return the policy of a server with `--reload`."""
    return for_development(
        make_policy(config),
        hold_timeout=config.reload_hold_timeout,
        is_patient=config.workers == 1 and os.isatty(0),
    )


def for_development(
    policy: Policy, *, hold_timeout: float = 0.0, is_patient: bool = False
) -> Policy:
    """Return `policy`, which is that of a server in production, with the changes for `--reload`."""
    return replace(
        policy,
        tries_everywhere=True,
        shows_failures=True,
        waits_after_failed_start=True,
        awaits_superseded=True,
        old_generations=OLD_GENERATIONS,
        template_becomes_worker=True,
        replaces_from_disk=True,
        remembers_unsafe=True,
        names_changes=True,
        is_patient=is_patient,
        changes_give_way=False,
        hold_timeout=hold_timeout,
        coalesce_window=0.0,
        probation=0.0,
        surge=max(policy.surge, policy.workers),
        drain_overlap=True,
        drain_timeout=min(policy.drain_timeout, DRAIN_TIMEOUT),
        keep_generations=0,
        revert_window=0.0,
        give_up_after=0.0,
    )
