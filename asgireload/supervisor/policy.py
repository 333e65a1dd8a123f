"""The part of the configuration that decisions depend on, as one value. Decisions read no other option."""

import msgspec

from asgireload.config import Config

BROKEN_MOMENT = 0.06
"""Seconds without further changes before broken code is shown: a checkout may be under way."""


class Policy(msgspec.Struct, frozen=True):
    """The options that decisions depend on. Times in seconds."""

    workers: int = 1
    preload: bool | None = None
    """None: preload, and fall back to no preloading when the application cannot be forked safely."""
    boot_timeout: float = 120.0
    changes_give_way: bool = False
    """Processes that import, boot or exit while other workers serve have low CPU priority."""
    probation: float = 1.0
    surge: int = 1
    drain_overlap: bool = True
    drain_generations: int = 2
    keep_generations: int = 1
    revert_window: float = 60.0
    give_up_after: float = 300.0
    heartbeat_timeout: float = 30.0
    drain_timeout: float = 20.0
    lifespan_timeout: float = 5.0
    exit_timeout: float | None = None
    """Seconds that a worker may take to exit after its drain; None: what is left of its time to drain."""
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_rss: int | None = None
    worker_lifetime: float | None = None
    max_workers: int = 512
    coalesce_window: float = 0.05
    """Seconds that a reload waits for further requests, which are then served by the same reload."""
    tries_everywhere: bool = False
    """New code boots in all slots at once, instead of being tried in one slot first."""
    shows_failures: bool = False
    """Code that cannot be loaded, does not start or keeps dying shows its failure instead of being refused."""
    waits_after_failed_start: bool = False
    """When the first load fails, the server waits for the next reload instead of exiting."""
    awaits_superseded: bool = False
    """A reload waits for the end of processes that were killed while they imported older code, because they could
    still write outdated bytecode after the check for it."""
    old_generations: int | None = None
    """The number of generations that may still drain when another reload begins: at that number, the workers of the
    oldest are killed. None: the reload waits for them instead, limited by `drain_generations`."""
    template_becomes_worker: bool = False
    """When one worker is wanted, the template becomes that worker and forks none."""
    replaces_from_disk: bool = False
    """A worker that no template can fork again is replaced by a load of the present code."""
    remembers_unsafe: bool = False
    """Code that could not be shared by forking is loaded without preloading from then on. Otherwise each change
    would cost a second load."""
    names_changes: bool = False
    """The log message about a reload names what was read instead of the steps of each slot."""
    is_patient: bool = False
    """At a terminal: a worker may be stopped in a debugger, so a missing heartbeat does not kill it."""
    hold_timeout: float = 0.0
    """Seconds that workers hold new requests for newer code; 0: they do not."""


def make_policy(config: Config) -> Policy:
    """Return the policy of a production server."""
    return Policy(
        workers=config.workers,
        preload=config.preload,
        boot_timeout=config.boot_timeout,
        changes_give_way=config.reload_priority == "low",
        probation=config.probation,
        surge=config.surge,
        drain_overlap=config.drain_overlap,
        drain_generations=config.drain_generations,
        keep_generations=config.keep_generations,
        revert_window=config.revert_window,
        give_up_after=config.give_up_after,
        heartbeat_timeout=config.timeout_worker_healthcheck,
        drain_timeout=config.drain_timeout,
        lifespan_timeout=config.lifespan_timeout,
        exit_timeout=config.exit_timeout,
        max_requests=config.max_requests,
        max_requests_jitter=config.max_requests_jitter,
        max_rss=config.max_rss,
        worker_lifetime=config.worker_lifetime,
    )
