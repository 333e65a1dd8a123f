"""Watch the application's files and report bursts of changes.

watchfiles does the watching; it runs in a thread of the supervisor, which starts its children by exec,
so no fork can meet it. A burst of changes (a checkout, a formatter) is one report once it has been
quiet for `reload_delay`.
"""

import asyncio
import logging
import os
from collections.abc import Callable

from asgireload.config import Config
from asgireload.watch.filters import PathFilter, describe, make_filter

RETRY_INTERVAL = 1.0
"""Seconds before a watch that broke (a directory was deleted, limits were hit) is set up again."""
QUIET_STEP = 0.05
"""Seconds without a new path after which watchfiles takes a burst to be over."""

_logger = logging.getLogger("asgireload.error")


async def watch(config: Config, on_change: Callable[[str], None]) -> None:
    """Call `on_change` with a description of each burst, until cancelled.

    Needs the package watchfiles.
    """
    import watchfiles  # an extra: loaded only in development

    directories = _directories(config)
    accepts = make_filter(directories, config.reload_include, config.reload_exclude)
    _logger.info("Watching %s for changes", ", ".join(directories))
    while True:
        try:
            async for changes in watchfiles.awatch(
                *_existing(directories),
                watch_filter=lambda change, path: accepts.accepts(path),
                debounce=max(1, int(config.reload_delay * 1000)),
                step=int(QUIET_STEP * 1000),
            ):
                _report(accepts, {path for _, path in changes}, on_change)
        except (OSError, RuntimeError) as error:
            _logger.warning("Watching for changes failed (%s); trying again", error)
        await asyncio.sleep(RETRY_INTERVAL)


def _directories(config: Config) -> list[str]:
    return [os.path.realpath(path) for path in config.reload_dir or (config.app_dir or ".",)]


def _existing(directories: list[str]) -> list[str]:
    """A directory that was deleted may come back; until then the others are watched."""
    return [directory for directory in directories if os.path.isdir(directory)]


def _report(accepts: PathFilter, paths: set[str], on_change: Callable[[str], None]) -> None:
    relevant = [path for path in paths if accepts.accepts(path)]
    if relevant:
        on_change(f"changed: {describe(relevant)}")
