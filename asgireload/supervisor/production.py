"""The production mode: what differs from a server with `--reload`.

This module imports little, because the first template gets its load request only after these imports.
"""

import logging
from typing import TYPE_CHECKING

from asgireload.config import Config
from asgireload.supervisor.early_template import EarlyTemplate
from asgireload.supervisor.load_requests import first_request

if TYPE_CHECKING:
    from asgireload.supervisor.handles import Handles
    from asgireload.supervisor.policy import Policy
    from asgireload.supervisor.resources import Resources
    from asgireload.supervisor.template_source import ModeParts, SupervisorPort

_logger = logging.getLogger("asgireload.error")


class Production:
    """The mode without `--reload`. The caller ends the early template."""

    def __init__(self, early_template: EarlyTemplate) -> None:
        self._early_template = early_template

    def begin(self, config: Config, resources: "Resources") -> None:
        """Let the first template import the application while the supervisor imports its event loop."""
        if resources.refused_calls and config.reload_priority == "low":
            _logger.info(
                "Reloads run at the usual CPU priority, because a system call filter refuses calls: %s",
                "; ".join(f"{name} ({why})" for name, why in resources.refused_calls.items()),
            )
        request = first_request(config, resources.directory)
        self._early_template.request(request, resources.scoreboard.descriptor)

    def make_policy(self, config: Config) -> "Policy":
        """Return the part of the configuration that decisions depend on."""
        from asgireload.supervisor.policy import make_policy

        return make_policy(config)

    def join(
        self,
        handles: "Handles",
        config: Config,
        directory: str,
        supervisor: "SupervisorPort",
    ) -> "ModeParts":
        """Return a source of templates in fresh interpreters."""
        from asgireload.supervisor.fresh_templates import FreshTemplates
        from asgireload.supervisor.template_source import ModeParts

        return ModeParts(FreshTemplates(config, directory, self._early_template, handles.system))
