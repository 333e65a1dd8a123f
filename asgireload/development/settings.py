"""How `--reload` changes a configuration.

A developer stops and starts the server all the time, and waits for it.
"""

from msgspec.structs import replace

from asgireload.config import Config

EXIT_TIMEOUT = 3.0
"""Default exit timeout in seconds: the developer who presses Ctrl-C waits for the exit."""
DRAIN_GRACE = 0.1
"""Longest drain grace in seconds: the developer who presses Ctrl-C waits for idle connections."""
EVENT_STREAM_NOTICE = 1.0
"""Longest event stream notice in seconds, for streams that cannot be handed over: an open page waits for the new
code."""


def development_config(config: Config) -> Config:
    """Return `config` as a server with `--reload` uses it."""
    return replace(
        config,
        exit_timeout=EXIT_TIMEOUT if config.exit_timeout is None else config.exit_timeout,
        drain_grace=min(config.drain_grace, DRAIN_GRACE),
        event_stream_notice=min(config.event_stream_notice, EVENT_STREAM_NOTICE),
        # A developer would wait for connections that the kernel defers.
        defer_accept=False,
        # The limits of a worker leave room for one draining worker beside it.
        drain_generations=1,
    )
