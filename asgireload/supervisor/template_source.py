"""The port through which the supervisor gets the processes of its templates.

In production `fresh_templates.py` stands behind it: each template is an interpreter of its own. With `--reload` it
is `development/supervisor/preload_cache.py`, which forks them from processes that have imported a part already. The
supervisor's hands know neither: they ask for an origin, have a template started from it, and tell it what the
template says of its import and whether it died without a word.
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
"""An endless job of the supervisor's."""


class StartedTemplate(msgspec.Struct, frozen=True):
    """A process that is the template from now on. Everything in it is the receiver's to close."""

    process: "Process | None"
    """None: it says its pid itself, in its first message (`ChildStarted`)."""
    channel: Channel | None = None
    """It has waited with a channel of its own, which takes the place of the one that was opened for it."""
    fault_file: int | None = None
    """It has its load request already, and a fault file with it; None: it has neither."""


class TemplateOrigin(Protocol):
    """Where the process of one template comes from. It lives as long as the template and its workers."""

    @property
    def request(self) -> LoadApp:
        """What the template is told to load."""

    @property
    def is_fork(self) -> bool:
        """The template is forked from a process that may be at fault for its early death."""

    def start(self, end: socket.socket) -> StartedTemplate:
        """Start the process. `end` is its end of a channel, the caller's to close. Raise OSError."""

    def record(self, message: AnyMessage, descriptors: list[int]) -> None:
        """Take what the template, or a worker of it, tells of its imports. The descriptors are the origin's
        to close."""

    def describe(self, loaded: AppLoaded) -> str:
        """Return what was read for the load, for the log; empty when nobody looked."""

    def distrust(self, *, next_too: bool = False) -> None:
        """The template, or a worker of it, has died without a word.

        `next_too`: the next template is to be started from a fresh interpreter.
        """


class TemplateSource(Protocol):
    """Gives templates their origins. `begin()` it, `stop()` it; each of its processes dies with it."""

    def begin(self) -> None:
        """Start what is to be there before the first template. Called from the event loop."""

    def prepare(self, step: "StartTemplate", on_ready: Callable[[TemplateOrigin], None]) -> None:
        """Call `on_ready` with the origin of a template, at once or later."""

    def prepare_fresh(self, step: "StartTemplate") -> TemplateOrigin:
        """Return an origin that relies on no process that has been there before."""

    def begin_anew(self) -> None:
        """Somebody asks for a reload for reasons that only a fresh interpreter can do justice to."""

    def forget(self, template_id: int) -> None:
        """The template has ended, or become a worker."""

    def stop(self) -> None:
        """Kill every process, and start none any more. Idempotent."""

    async def wait_stopped(self, timeout: float) -> None:
        """Return when the exit of every process that was killed has been collected, or after `timeout`
        seconds."""


class SupervisorPort(Protocol):
    """What the supervisor does for those who watch the code for it."""

    def note_change(self, *, gives_up: bool) -> None:
        """Code has changed and more may follow. `gives_up`: a load that has begun may be half and half."""

    def reload_changed(self, origin: str, *, supersede: bool) -> None:
        """Load what is there now. `origin` says why, for the log."""

    def tell_workers(self, message: AnyMessage) -> None:
        """Send a message without descriptors to every worker."""


class ModeParts(msgspec.Struct, frozen=True):
    """What a mode adds to the supervisor."""

    templates: TemplateSource
    jobs: tuple[Job, ...] = ()


class Mode(Protocol):
    """What differs between production and `--reload` in the supervisor. `cli/serve.py` chooses one."""

    def begin(self, config: "Config", resources: "Resources") -> None:
        """Called once, when everything is open that can refuse a start, before the event loop is imported."""

    def make_policy(self, config: "Config") -> "Policy":
        """Return the slice of the configuration that decisions depend on."""

    def join(
        self,
        handles: "Handles",
        config: "Config",
        directory: str,
        supervisor: SupervisorPort,
    ) -> ModeParts:
        """Return the parts. Their processes are kept in `handles`; `directory` is the start directory."""
