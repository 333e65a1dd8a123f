"""The port through which the supervisor gets the processes of its templates.

In production the implementation is `fresh_templates.py`: each template is a fresh interpreter. With `--reload` it
is `development/supervisor/preload_cache.py`, which forks templates from processes that have imported a part
already. The supervisor's handles depend on neither: they ask for an origin, start a template from it, and pass on
to it what the template reports of its imports, and whether the template died without a report.
"""

import socket
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

import msgspec

from asgireload.ipc.channel import Channel
from asgireload.ipc.messages import AnyMessage, AppLoaded, LoadApp

if TYPE_CHECKING:
    from asgireload.config import Config
    from asgireload.supervisor.events import StartTemplate
    from asgireload.supervisor.handles import Handles
    from asgireload.supervisor.policy import Policy
    from asgireload.supervisor.resources import Resources
    from asgireload.supervisor.system import Process

Job = Callable[[], Coroutine[None, None, None]]
"""An endless job of the supervisor."""


class StartedTemplate(msgspec.Struct, frozen=True):
    """A process that is the template from now on. The receiver closes everything in it."""

    process: "Process | None"
    """None when the process sends its pid in its first message (`ChildStarted`)."""
    channel: Channel | None = None
    """The process's own channel, which replaces the one that was opened for it; None if it has none."""
    fault_file: int | None = None
    """The fault file that was sent with a load request. None: the process has no load request yet."""


class TemplateOrigin(Protocol):
    """Where the process of one template comes from. An origin lives as long as the template and its workers."""

    @property
    def request(self) -> LoadApp:
        """The load request of the template."""

    @property
    def is_fork(self) -> bool:
        """Whether the template is forked from a process that may be at fault when the template dies early."""

    def start(self, end: socket.socket) -> StartedTemplate:
        """Start the process. `end` is its end of a channel, which the caller closes. Raise OSError."""

    def record(self, message: AnyMessage, descriptors: list[int]) -> None:
        """Record a report of the template, or of a worker of it, on its imports. The origin closes the
        descriptors."""

    def describe(self, loaded: AppLoaded) -> str:
        """Return text for the log about what was read for the load; empty when that was not observed."""

    def distrust(self, *, next_too: bool = False) -> None:
        """Called when the template, or a worker of it, has died without a report.

        `next_too`: the next template is to be started in a fresh interpreter.
        """


class TemplateSource(Protocol):
    """Creates the origins of templates. Call `begin()` first and `stop()` last, which ends all its processes."""

    def begin(self) -> None:
        """Start the processes that are needed before the first template. Called from the event loop."""

    def prepare(self, step: "StartTemplate", on_ready: Callable[[TemplateOrigin], None]) -> None:
        """Call `on_ready` with the origin of the template of `step`, at once or later."""

    def prepare_fresh(self, step: "StartTemplate") -> TemplateOrigin:
        """Return an origin that uses no existing process."""

    def begin_anew(self) -> None:
        """Called for a reload that an operator requests: the next template starts in a fresh interpreter."""

    def forget(self, template_id: int) -> None:
        """Called when the template has ended or become a worker."""

    def stop(self) -> None:
        """Kill every process, and start no more. Idempotent."""

    async def wait_stopped(self, timeout: float) -> None:
        """Return when the exit of every killed process has been collected, or after `timeout` seconds."""


class SupervisorPort(Protocol):
    """What the supervisor does for the jobs of a mode that watch the code."""

    def note_change(self, *, gives_up: bool) -> None:
        """Code has changed, and more changes may follow. `gives_up`: a running load may mix old and new code."""

    def reload_changed(self, origin: str, *, supersede: bool) -> None:
        """Load the present code. `origin` is the reason, for the log. `supersede`: give up a load that is
        booting."""

    def tell_workers(self, message: AnyMessage) -> None:
        """Send a message without descriptors to every worker."""


class ModeParts(msgspec.Struct, frozen=True):
    """The parts that a mode adds to the supervisor."""

    templates: TemplateSource
    jobs: tuple[Job, ...] = ()


class Mode(Protocol):
    """The differences between production and `--reload` in the supervisor. `cli/serve.py` chooses one."""

    def begin(self, config: "Config", resources: "Resources") -> None:
        """Called once, after everything that can prevent a start was opened, before the event loop is imported."""

    def make_policy(self, config: "Config") -> "Policy":
        """Return the part of the configuration that decisions depend on."""

    def join(
        self,
        handles: "Handles",
        config: "Config",
        directory: str,
        supervisor: SupervisorPort,
    ) -> ModeParts:
        """Return the parts. Their processes are registered in `handles`; `directory` is the start directory."""
