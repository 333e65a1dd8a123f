"""What can happen to the fleet (events), and what a decision asks to be done (steps). Values only.

Structs, as making two dozen dataclasses of them would be a tenth of what a start takes.
"""

from msgspec import Struct

from asgireload.draining import DrainReason
from asgireload.ipc import messages
from asgireload.supervisor.figures import Traffic
from asgireload.supervisor.reloads import Failure

# --- events ---------------------------------------------------------------------------------------


class TemplateLoaded(Struct, frozen=True):
    template_id: int
    seconds: float
    native_threads: tuple[str, ...] = ()
    broken: Failure | None = None
    """Development: why the code cannot serve; it shows that instead."""
    detail: str = ""
    """What was read, for the log."""
    cleans_up: bool = False
    """It removes at its end what its import has made."""


class TemplateUnsafe(Struct, frozen=True):
    template_id: int
    reasons: tuple[str, ...]
    needs_loop: bool = False
    """Its import needs a running event loop."""


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
    broken: Failure | None = None
    """Development: why the application did not start; the worker shows that instead."""
    has_lifespan: bool = False


class WorkerFailed(Struct, frozen=True):
    worker_id: int
    stage: str
    summary: str
    traceback: str
    other_way: bool = False
    """Its import failed because an event loop ran, or because none ran."""


class WorkerStoppedAccepting(Struct, frozen=True):
    worker_id: int


class SuccessorSpent(Struct, frozen=True):
    """It takes no more of what this worker hands over."""

    worker_id: int
    successor: int


class WorkerWaits(Struct, frozen=True):
    worker_id: int
    waits: messages.WorkerWaits


class WorkerDrained(Struct, frozen=True):
    worker_id: int
    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0
    shutdown_failure: str = ""
    """Why the application's lifespan shutdown failed; empty: it did not, or there is none."""


class WorkerExited(Struct, frozen=True):
    worker_id: int
    description: str
    clean: bool
    """Exit status 0."""
    fault: str = ""
    doing: str = ""
    """What the process did at its end, as its stacks show: such as `running exit handlers (atexit)`."""


class WorkerObserved(Struct, frozen=True):
    """A regular look at a ready worker."""

    worker_id: int
    heartbeat_age: float | None
    requests: int
    rss_bytes: int | None
    is_asleep: bool = False
    """It waits for something outside its loop: as in a debugger, and unlike one that computes."""


class TrafficObserved(Struct, frozen=True):
    """What the workers of each generation have served since the first of them: read while a gate needs it."""

    by_generation: dict[int, Traffic]


class CodeChanging(Struct, frozen=True):
    """Development: files change, so what serves is out of date. A ReloadRequested follows."""

    gives_up: bool
    """Code that is being loaded may be half old and half new."""


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
    | SuccessorSpent
    | WorkerWaits
    | WorkerDrained
    | WorkerExited
    | WorkerObserved
    | TrafficObserved
    | CodeChanging
    | ReloadRequested
    | ScaleRequested
    | StopRequested
)

# --- steps ----------------------------------------------------------------------------------------


class StartTemplate(Struct, frozen=True):
    template_id: int
    generation: int
    preload: bool
    failure: Failure | None = None
    """Import nothing, and show this."""
    becomes_worker: bool = False
    """It is to be the first worker itself, and forks none."""
    gives_way: bool = False
    """Others serve meanwhile, and have the processor first."""


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
    succeeds: bool = False
    """Another worker serves in the slot."""
    gives_way: bool = False
    """It has the processor first until this one serves, too."""
    import_in_loop: bool = True
    """Where it imports the application itself: in the running event loop, and not before it runs."""
    has_other_way: bool = False
    """If that fails because of the loop, the other way will be tried."""


class DrainWorker(Struct, frozen=True):
    worker_id: int
    reason: DrainReason
    timeout: float
    successors: tuple[int, ...] = ()
    """The workers that take its connections over."""
    gives_way: bool = False
    """They have the processor first, when nothing is left for it but to end."""


class HandOver(Struct, frozen=True):
    """Let the connections of a draining worker go to others than were named before."""

    worker_id: int
    successors: tuple[int, ...]


class HoldWorker(Struct, frozen=True):
    """Development: let new requests wait for new code."""

    worker_id: int


class ReleaseWorker(Struct, frozen=True):
    """Let a worker that was held go on: there is no new code, or it cannot be had."""

    worker_id: int


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


class ShutListeners(Struct, frozen=True):
    """No worker accepts any more: end the listening sockets for whoever has a copy."""


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
    | HoldWorker
    | ReleaseWorker
    | KillWorker
    | CloseSlot
    | OpenSlot
    | SteerAway
    | StopAccepting
    | ShutListeners
    | Say
    | SpeakVerdict
    | Finish
)
