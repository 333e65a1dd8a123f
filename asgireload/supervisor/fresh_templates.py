"""Templates of a production server: each is a fresh interpreter, except the first, which may be an early
template."""

import socket
from collections.abc import Callable

import msgspec

from asgireload.config import Config
from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AnyMessage, AppLoaded, LoadApp
from asgireload.supervisor.early_template import Begun, EarlyTemplate
from asgireload.supervisor.events import StartTemplate
from asgireload.supervisor.load_requests import request_of
from asgireload.supervisor.spawning import TEMPLATE_MODULE
from asgireload.supervisor.system import System
from asgireload.supervisor.template_source import StartedTemplate, TemplateOrigin


def start_fresh(system: System, module: str, end: socket.socket) -> StartedTemplate:
    """Start a template in a fresh interpreter that runs `module`. Raise OSError."""
    return StartedTemplate(system.spawn(module, end.fileno()))


class FreshOrigin(msgspec.Struct, frozen=True):
    request: LoadApp
    early_template: EarlyTemplate
    system: System
    is_fork: bool = False

    def start(self, end: socket.socket) -> StartedTemplate:
        begun = self.early_template.take(self.request)
        return (
            start_fresh(self.system, TEMPLATE_MODULE, end)
            if begun is None
            else _adopt(self.system, begun)
        )

    def record(self, message: AnyMessage, descriptors: list[int]) -> None:
        raise AssertionError(message)  # no template of production sends such a message

    def describe(self, loaded: AppLoaded) -> str:
        return ""

    def distrust(self, *, next_too: bool = False) -> None:
        """Do nothing: there is no fork source."""


class FreshTemplates:
    """The template source of production. The caller ends the early template."""

    def __init__(
        self, config: Config, directory: str, early_template: EarlyTemplate, system: System
    ) -> None:
        self._config = config
        self._directory = directory
        self._early_template = early_template
        self._system = system

    def prepare(self, step: StartTemplate, on_ready: Callable[[TemplateOrigin], None]) -> None:
        on_ready(self.prepare_fresh(step))

    def prepare_fresh(self, step: StartTemplate) -> FreshOrigin:
        request = request_of(step, self._config, self._directory)
        return FreshOrigin(request, self._early_template, self._system)

    def begin(self) -> None:
        """Do nothing: no process is needed before the first template."""

    def begin_anew(self) -> None:
        """Do nothing: every template is fresh."""

    def forget(self, template_id: int) -> None:
        """Do nothing: no data is kept about a template."""

    def stop(self) -> None:
        """Do nothing: there is no process to kill."""

    async def wait_stopped(self, timeout: float) -> None:
        return


def _adopt(system: System, begun: Begun) -> StartedTemplate:
    """Use a process that was started before the supervisor's event loop as the template. Raise OSError."""
    try:
        process = system.open_process(begun.pid)
    except OSError:
        begun.socket.close()  # the process ends at end of file
        raise
    fault_file = begun.fault_file if begun.request is not None else None
    return StartedTemplate(process, Channel(begun.socket), fault_file)
