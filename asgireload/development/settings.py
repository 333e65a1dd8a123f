"""What `--reload` changes of a configuration, whatever it says.

A server on a developer's machine is stopped and started all the time, and somebody waits for it.
"""

from msgspec.structs import replace

from asgireload.config import Config

EXIT_TIMEOUT = 3.0
"""Seconds to leave unless the option says more: who presses Ctrl-C waits for it."""
DRAIN_GRACE = 0.1
"""Seconds for idle connections of a worker that stops: who presses Ctrl-C waits for them."""
EVENT_STREAM_NOTICE = 1.0
"""Seconds for event streams that cannot move: an open page waits for the new code."""


def development_config(config: Config) -> Config:
    """Return the configuration that a server with `--reload` runs with."""
    return replace(
        config,
        exit_timeout=EXIT_TIMEOUT if config.exit_timeout is None else config.exit_timeout,
        drain_grace=min(config.drain_grace, DRAIN_GRACE),
        event_stream_notice=min(config.event_stream_notice, EVENT_STREAM_NOTICE),
        # Whoever develops would wait for what the kernel holds back.
        defer_accept=False,
        # A worker leaves room for one that drains beside it.
        drain_generations=1,
    )
