"""The mode of `--reload`: the parts of the supervisor that differ from a server in production."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from asgireload.config import Config

if TYPE_CHECKING:
    from asgireload.supervisor.handles import Handles
    from asgireload.supervisor.policy import Policy
    from asgireload.supervisor.resources import Resources
    from asgireload.supervisor.template_source import ModeParts, SupervisorPort

_logger = logging.getLogger("asgireload.error")


class Development:
    """The mode of a server with `--reload`."""

    def begin(self, config: Config, resources: "Resources") -> None:
        """Log a warning when `--reload` is most likely a mistake."""
        if looks_like_production(config, os.environ, is_terminal=os.isatty(2)):
            _logger.warning(
                "--reload is for development: every file that is saved in the watched directories is"
                " served, and connections and memory cost more"
            )

    def make_policy(self, config: Config) -> "Policy":
        """Return the policy of a server with `--reload`."""
        from asgireload.development.supervisor.policy import make_development_policy

        return make_development_policy(config)

    def join(
        self,
        handles: "Handles",
        config: Config,
        directory: str,
        supervisor: "SupervisorPort",
    ) -> "ModeParts":
        """Return a preload cache, and the watcher as a job."""
        from asgireload.development.supervisor.code_watch import CodeWatch
        from asgireload.development.supervisor.preload_cache import PreloadCache
        from asgireload.supervisor.template_source import ModeParts

        watch = CodeWatch(config, supervisor)
        watch.cache = PreloadCache(handles, config, directory, watch.watcher.watch_libraries)
        return ModeParts(watch.cache, (watch.watcher.run,))


def looks_like_production(config: Config, environ: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether --reload is most likely a mistake: a service manager runs the server, or several workers serve
    without a terminal. `is_terminal`: stderr is a terminal."""
    is_managed = bool(environ.get("NOTIFY_SOCKET")) or config.pid_file is not None
    return is_managed or (config.workers > 1 and not is_terminal)
