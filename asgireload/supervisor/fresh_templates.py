"""Templates of a production server: each is a fresh interpreter, but for the first, which may have begun early."""

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
        raise AssertionError(message)  # nobody has asked for it

    def describe(self, loaded: AppLoaded) -> str:
        return ""

    def distrust(self, *, next_too: bool = False) -> None:
        """There is nothing to distrust."""


class FreshTemplates:
    """The template source of production. The early template is the caller's to end."""

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
        """There is nothing to start before the first template."""

    def begin_anew(self) -> None:
        """Every template is fresh."""

    def forget(self, template_id: int) -> None:
        """Nothing is kept of a template."""

    def stop(self) -> None:
        """There is no process to kill."""

    async def wait_stopped(self, timeout: float) -> None:
        return


def _adopt(system: System, begun: Begun) -> StartedTemplate:
    """Let a process that was begun before the supervisor stood be the template. Raise OSError."""
    try:
        process = system.open_process(begun.pid)
    except OSError:
        begun.socket.close()  # then it ends by itself
        raise
    fault_file = begun.fault_file if begun.request is not None else None
    return StartedTemplate(process, Channel(begun.socket), fault_file)
