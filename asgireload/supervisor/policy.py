"""The part of the configuration that decisions depend on, as a value: they branch on its fields alone."""

import msgspec

from asgireload.config import Config

BROKEN_MOMENT = 0.06
"""Seconds without further changes before broken code is shown: it may be half a checkout."""


class Policy(msgspec.Struct, frozen=True):
    """The part of the configuration that decisions depend on. Times in seconds."""

    workers: int = 1
    preload: bool | None = None
    """None: preload, and fall back when the application does not allow it."""
    boot_timeout: float = 120.0
    changes_give_way: bool = False
    """What imports, starts or ends while workers serve in its place computes only when they do not."""
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
    """How long a worker may take to leave once it has drained; None: what is left of its time to drain."""
    max_requests: int | None = None
    max_requests_jitter: int = 0
    max_rss: int | None = None
    worker_lifetime: float | None = None
    max_workers: int = 512
    coalesce_window: float = 0.05
    """How long a reload waits for more requests that mean the same, so that all get one id."""
    tries_everywhere: bool = False
    """New code boots in all slots at once, and not first in one that tries it."""
    shows_failures: bool = False
    """Code that cannot be loaded, does not start or keeps dying is shown instead of refused."""
    waits_after_failed_start: bool = False
    """When the first load fails the server waits for the next reload instead of ending."""
    awaits_superseded: bool = False
    """New code waits for the end of processes that were killed while they imported older code: they could still
    write outdated bytecode, behind the eyes that look for it."""
    old_generations: int | None = None
    """Generations of which workers may still drain when another reload begins: the workers of the oldest are ended
    then. None: the reload waits for them instead, and `drain_generations` says how many may drain."""
    template_becomes_worker: bool = False
    """Where one worker is wanted, its template becomes it and forks none."""
    replaces_from_disk: bool = False
    """A worker that no template can fork anew is replaced by a load of what is there now."""
    remembers_unsafe: bool = False
    """Code that could not be shared by forking is loaded without preloading from then on: finding it out anew
    would cost each change a second load."""
    names_changes: bool = False
    """A verdict says what was read rather than what became of each slot."""
    is_patient: bool = False
    """At a terminal: a worker may sit in a debugger, so it is not killed for being silent."""
    hold_timeout: float = 0.0
    """How long workers let new requests wait for newer code; 0: they do not."""


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
