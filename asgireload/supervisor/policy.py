"""The slice of the configuration that decisions depend on."""

from asgireload.config import Config
from asgireload.supervisor.fleet import Policy


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
