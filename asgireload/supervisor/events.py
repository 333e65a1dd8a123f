"""What can happen to the fleet (events), and what a decision asks to be done (steps). Values only."""

from dataclasses import dataclass

from asgireload.draining import DrainReason
from asgireload.supervisor.reloads import Failure

# --- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TemplateLoaded:
    template_id: int
    seconds: float
    native_threads: tuple[str, ...] = ()
    broken: Failure | None = None
    """Development: why the code cannot serve; it shows that instead."""
    detail: str = ""
    """What was read, for the log."""


@dataclass(frozen=True, slots=True)
class TemplateUnsafe:
    template_id: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TemplateFailed:
    template_id: int
    summary: str
    traceback: str
    stage: str = "import"


@dataclass(frozen=True, slots=True)
class TemplateExited:
    template_id: int
    description: str
    """Such as `exit status 3` or `killed by SIGSEGV`."""
    fault: str = ""
    """Stacks that the dying process left in its fault file."""


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    worker_id: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerReachedStage:
    worker_id: int
    stage: str


@dataclass(frozen=True, slots=True)
class WorkerReady:
    worker_id: int
    broken: Failure | None = None
    """Development: why the application did not start; the worker shows that instead."""


@dataclass(frozen=True, slots=True)
class WorkerFailed:
    worker_id: int
    stage: str
    summary: str
    traceback: str


@dataclass(frozen=True, slots=True)
class WorkerStoppedAccepting:
    worker_id: int


@dataclass(frozen=True, slots=True)
class SuccessorSpent:
    """It takes no more of what this worker hands over."""

    worker_id: int
    successor: int


@dataclass(frozen=True, slots=True)
class WorkerDrained:
    worker_id: int
    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExited:
    worker_id: int
    description: str
    clean: bool
    """Exit status 0."""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class WorkerObserved:
    """A regular look at a ready worker."""

    worker_id: int
    heartbeat_age: float | None
    requests: int
    rss_bytes: int | None
    is_asleep: bool = False
    """It waits for something outside its loop: as in a debugger, and unlike one that computes."""


@dataclass(frozen=True, slots=True)
class CodeChanging:
    """Development: files change, so what serves is out of date. A ReloadRequested follows."""

    gives_up: bool
    """Code that is being loaded may be half old and half new."""


@dataclass(frozen=True, slots=True)
class ReloadRequested:
    origin: str
    supersede: bool = False
    """Give up a reload whose code is still booting: newer code is there (file watcher)."""


@dataclass(frozen=True, slots=True)
class ScaleRequested:
    workers: int


@dataclass(frozen=True, slots=True)
class StopRequested:
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
    | SuccessorSpent
    | WorkerDrained
    | WorkerExited
    | WorkerObserved
    | CodeChanging
    | ReloadRequested
    | ScaleRequested
    | StopRequested
)

# --- steps ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartTemplate:
    template_id: int
    generation: int
    preload: bool
    failure: Failure | None = None
    """Import nothing, and show this."""
    becomes_worker: bool = False
    """It is to be the first worker itself, and forks none."""


@dataclass(frozen=True, slots=True)
class CloseTemplate:
    """Let a template go; it ends when its channel closes."""

    template_id: int


@dataclass(frozen=True, slots=True)
class KillTemplate:
    template_id: int
    dump: bool = False
    """Ask for its stacks first (SIGABRT); a second, silent kill follows if it lives on."""


@dataclass(frozen=True, slots=True)
class ForkWorker:
    worker_id: int
    template_id: int
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class DrainWorker:
    worker_id: int
    reason: DrainReason
    timeout: float
    successors: tuple[int, ...] = ()
    """The workers that take its connections over."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let the connections of a draining worker go to others than were named before."""

    worker_id: int
    successors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HoldWorker:
    """Development: let new requests wait for new code."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class ReleaseWorker:
    """Let a worker that was held go on: there is no new code, or it cannot be had."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class KillWorker:
    worker_id: int
    dump: bool = False


@dataclass(frozen=True, slots=True)
class CloseSlot:
    """The highest slot is empty and gone."""

    slot: int


@dataclass(frozen=True, slots=True)
class OpenSlot:
    """A slot was added at the end; its listeners must exist before the next fork."""

    slot: int


@dataclass(frozen=True, slots=True)
class SteerAway:
    """New connections must go to no slot of these, and to all others."""

    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class StopAccepting:
    """Close the listening sockets: the server stops."""


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log."""

    level: str
    text: str
    slot: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class SpeakVerdict:
    reload_id: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Everything has left; the supervisor ends with this status."""

    exit_code: int


Step = (
    StartTemplate
    | CloseTemplate
    | KillTemplate
    | ForkWorker
    | DrainWorker
    | HandOver
    | HoldWorker
    | ReleaseWorker
    | KillWorker
    | CloseSlot
    | OpenSlot
    | SteerAway
    | StopAccepting
    | Say
    | SpeakVerdict
    | Finish
)
