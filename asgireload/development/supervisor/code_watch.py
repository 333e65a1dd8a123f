"""How the supervisor reacts to a saved file: drop outdated fork sources, reload, or notify open pages."""

import logging
import os

from asgireload.config import Config
from asgireload.development.supervisor.preload_cache import PreloadCache
from asgireload.development.watch.changes import Changes
from asgireload.development.watch.filters import describe
from asgireload.development.watch.watcher import Watcher
from asgireload.ipc.messages import AssetsChanged
from asgireload.supervisor.template_source import SupervisorPort

MOST_ASSETS = 64
"""Most changed files whose names are sent to pages; more changes come from a build or a checkout."""
MANY_ASSETS = "many files"
"""Sent in place of more names: no page has a file of this name, so every page reloads."""

_logger = logging.getLogger("asgireload.error")


class CodeWatch:
    """Passes the changes that the watcher sees to the supervisor and to the preload cache."""

    def __init__(self, config: Config, supervisor: SupervisorPort) -> None:
        self.watcher = Watcher(config, self)
        self.cache: PreloadCache | None = None
        self._supervisor = supervisor

    def on_changing(self, changes: Changes, *, gives_up: bool) -> None:
        """Called by the watcher at each change: update the preload cache, and announce a reload to the
        supervisor."""
        if self.cache is not None:
            self.cache.take_changes(changes)
        if changes.asks_for_reload:
            self._supervisor.note_change(gives_up=gives_up)

    def on_settled(self, changes: Changes, *, gives_up: bool) -> None:
        """Called by the watcher at the end of a burst of changes: reload."""
        self._supervisor.reload_changed(f"changed: {describe(changes.paths)}", supersede=gives_up)

    def on_assets(self, paths: frozenset[str]) -> None:
        """Called by the watcher when files have changed that open pages replace without a reload of the code."""
        _logger.info("Changed for open pages: %s", describe(paths))
        found = {os.path.basename(path).encode("utf-8", "replace").decode() for path in paths}
        names = tuple(sorted(found))
        if len(names) > MOST_ASSETS:
            names = (MANY_ASSETS,)
        self._supervisor.tell_workers(AssetsChanged(names))
