"""Watch the application's files and report bursts of changes.

watchfiles does the watching; it runs in a thread of the supervisor, which starts its children by exec,
so no fork can meet it. A burst of changes (a checkout, a formatter) is one report, once it has been
quiet for `reload_delay`.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

from asgireload.config import Config
from asgireload.watch.filters import describe, make_filter

RETRY_INTERVAL = 1.0
"""Seconds before a watch that broke (a directory was deleted, limits were hit) is set up again."""
LOOK_INTERVAL = 1.0
"""Seconds between two looks whether the watched directories are still the same ones."""
LONGEST_BURST = 10
"""Quiet periods after which a burst is reported although it goes on, so that a file which changes all the
time does not keep everything else waiting."""
STEP_MILLISECONDS = 50
"""How long watchfiles gathers changes before it hands them over."""

_logger = logging.getLogger("asgireload.error")

Identity = tuple[int, int]
"""Device and inode of a directory."""


async def watch(config: Config, on_change: Callable[[str], None]) -> None:
    """Call `on_change` with a description of each burst, until cancelled.

    Needs the package watchfiles.
    """
    directories = _directories(config)
    _logger.info("Watching %s for changes", ", ".join(directories))
    burst = _Burst(asyncio.get_running_loop(), config.reload_delay, on_change)
    chosen = make_filter(directories, config.reload_include, config.reload_exclude)
    while True:
        try:
            await _watch_these(_identities(directories), chosen.accepts, burst)
        except (OSError, RuntimeError) as error:
            _logger.warning("Watching for changes failed (%s); trying again", error)
        await asyncio.sleep(RETRY_INTERVAL)
        returned = [name for name in directories if name in _identities(directories)]
        burst.add(set(returned))


async def _watch_these(
    watched: dict[str, Identity], accepts: Callable[[str], bool], burst: "_Burst"
) -> None:
    """Return when one of the directories is gone or another one, or a missing one is back."""
    import watchfiles  # an extra: loaded only in development

    with contextlib.ExitStack() as held:
        # While a directory is held open its inode cannot be given to the one that replaces it.
        for directory in watched:
            held.callback(os.close, os.open(directory, os.O_DIRECTORY))
        async for changes in watchfiles.awatch(
            *watched,
            watch_filter=lambda change, path: accepts(path),
            debounce=STEP_MILLISECONDS,
            step=STEP_MILLISECONDS,
            rust_timeout=int(LOOK_INTERVAL * 1000),
            yield_on_timeout=True,
        ):
            burst.add({path for _, path in changes})
            # A watch follows the directory, not its name: one that was made anew under the old name
            # would be silent for ever.
            if _identities(list(watched)) != watched:
                return


class _Burst:
    """Changes that belong together: reported when there were no more for a while."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, quiet: float, report: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._quiet = quiet
        self._report = report
        self._paths: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._latest = 0.0

    def add(self, paths: set[str]) -> None:
        if not paths:
            return
        now = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        else:
            self._latest = now + self._quiet * LONGEST_BURST
        self._paths |= paths
        self._timer = self._loop.call_at(min(now + self._quiet, self._latest), self._finish)

    def _finish(self) -> None:
        paths, self._paths = self._paths, set()
        self._timer = None
        self._report(f"changed: {describe(paths)}")


def _directories(config: Config) -> list[str]:
    return [os.path.realpath(path) for path in config.reload_dir or (config.app_dir or ".",)]


def _identities(directories: list[str]) -> dict[str, Identity]:
    """Return those that exist. A directory that was deleted may come back; the others are watched."""
    found = {}
    for directory in directories:
        try:
            status = os.stat(directory)
        except OSError:
            continue
        found[directory] = (status.st_dev, status.st_ino)
    return found
