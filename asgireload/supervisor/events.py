"""What can happen to the fleet (events), and what a decision asks to be done (steps). Values only.

Structs, as making two dozen dataclasses of them would be a tenth of what a start takes.
"""

from msgspec import Struct

from asgireload.draining import DrainReason

# --- events ---------------------------------------------------------------------------------------


class TemplateLoaded(Struct, frozen=True):
    template_id: int
    seconds: float
    native_threads: tuple[str, ...] = ()


class TemplateUnsafe(Struct, frozen=True):
    template_id: int
    reasons: tuple[str, ...]


class TemplateFailed(Struct, frozen=True):
    template_id: int
    summary: str
    traceback: str
    stage: str = "import"


class TemplateExited(Struct, frozen=True):
    template_id: int
    description: str
    """Such as `exit status 3` or `killed by SIGSEGV`."""
    fault: str = ""
    """Stacks that the dying process left in its fault file."""


class WorkerStarted(Struct, frozen=True):
    worker_id: int
    pid: int


class WorkerReachedStage(Struct, frozen=True):
    worker_id: int
    stage: str


class WorkerReady(Struct, frozen=True):
    worker_id: int


class WorkerFailed(Struct, frozen=True):
    worker_id: int
    stage: str
    summary: str
    traceback: str


class WorkerStoppedAccepting(Struct, frozen=True):
    worker_id: int


class WorkerDrained(Struct, frozen=True):
    worker_id: int
    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0


class WorkerExited(Struct, frozen=True):
    worker_id: int
    description: str
    clean: bool
    """Exit status 0."""
    fault: str = ""


class WorkerObserved(Struct, frozen=True):
    """A regular look at a ready worker."""

    worker_id: int
    heartbeat_age: float | None
    requests: int
    rss_bytes: int | None


class ReloadRequested(Struct, frozen=True):
    origin: str
    supersede: bool = False
    """Give up a reload whose code is still booting: newer code is there (file watcher)."""


class ScaleRequested(Struct, frozen=True):
    workers: int


class StopRequested(Struct, frozen=True):
    at_once: bool = False
    exit_code: int = 0


Event = (
    TemplateLoaded
    | TemplateUnsafe
    | TemplateFailed
    | TemplateExited
    | WorkerStarted
    | WorkerReachedStage
    | WorkerReady
    | WorkerFailed
    | WorkerStoppedAccepting
    | WorkerDrained
    | WorkerExited
    | WorkerObserved
    | ReloadRequested
    | ScaleRequested
    | StopRequested
)

# --- steps ----------------------------------------------------------------------------------------


class StartTemplate(Struct, frozen=True):
    template_id: int
    generation: int
    preload: bool


class CloseTemplate(Struct, frozen=True):
    """Let a template go; it ends when its channel closes."""

    template_id: int


class KillTemplate(Struct, frozen=True):
    template_id: int
    dump: bool = False
    """Ask for its stacks first (SIGABRT); a second, silent kill follows if it lives on."""


class ForkWorker(Struct, frozen=True):
    worker_id: int
    template_id: int
    slot: int
    generation: int


class DrainWorker(Struct, frozen=True):
    worker_id: int
    reason: DrainReason
    timeout: float
    successor: int | None = None
    """The worker that takes its connections over."""


class HandOver(Struct, frozen=True):
    """Let the connections of a draining worker go to another than was named before."""

    worker_id: int
    successor: int


class KillWorker(Struct, frozen=True):
    worker_id: int
    dump: bool = False


class CloseSlot(Struct, frozen=True):
    """The highest slot is empty and gone."""

    slot: int


class OpenSlot(Struct, frozen=True):
    """A slot was added at the end; its listeners must exist before the next fork."""

    slot: int


class SteerAway(Struct, frozen=True):
    """New connections must go to no slot of these, and to all others."""

    slots: frozenset[int]


class StopAccepting(Struct, frozen=True):
    """Close the listening sockets: the server stops."""


class Say(Struct, frozen=True):
    """A line for the log."""

    level: str
    text: str
    slot: int | None = None
    generation: int | None = None


class SpeakVerdict(Struct, frozen=True):
    reload_id: int


class Finish(Struct, frozen=True):
    """Everything has left; the supervisor ends with this status."""

    exit_code: int


Step = (
    StartTemplate
    | CloseTemplate
    | KillTemplate
    | ForkWorker
    | DrainWorker
    | HandOver
    | KillWorker
    | CloseSlot
    | OpenSlot
    | SteerAway
    | StopAccepting
    | Say
    | SpeakVerdict
    | Finish
)
