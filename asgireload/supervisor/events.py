"""What can happen to the fleet (events), and what a decision asks to be done (steps). Values only.

What a child says is heard as the message itself (`ipc/messages.py`). Structs, because making two dozen dataclasses
would take a tenth of the time of a start.
"""

from msgspec import Struct

from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.messages import AnyMessage
from asgireload.supervisor.figures import Traffic
from asgireload.supervisor.roles import WORKER, Role

# --- events ---------------------------------------------------------------------------------------


class ChildSaid(Struct, frozen=True):
    """A message of a child."""

    child_id: int
    message: AnyMessage
    detail: str = ""
    """What the message says for the log and only the receiver knows; of AppLoaded, what was read for the load."""


class ChildExited(Struct, frozen=True):
    """The exit of a child was collected, or it could not be started."""

    child_id: int
    description: str
    """Such as `exit status 3` or `killed by SIGSEGV`."""
    clean: bool = False
    """Exit status 0."""
    fault: str = ""
    """Stacks that the dying process left in its fault file."""
    doing: str = ""
    """What the process did at its end, as its stacks show: such as `running exit handlers (atexit)`."""


class ChildObserved(Struct, frozen=True):
    """A regular look at a child that has a heartbeat."""

    child_id: int
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
    ChildSaid
    | ChildExited
    | ChildObserved
    | TrafficObserved
    | CodeChanging
    | ReloadRequested
    | ScaleRequested
    | StopRequested
)

# --- steps ----------------------------------------------------------------------------------------


class StartTemplate(Struct, frozen=True):
    child_id: int
    generation: int
    preload: bool
    failure: Failure | None = None
    """Import nothing, and show this."""
    becomes_worker: bool = False
    """It is to be the first worker itself, and forks none."""
    gives_way: bool = False
    """Others serve meanwhile, and have the CPU first."""


class ForkChild(Struct, frozen=True):
    """Have a template fork a child that has a place."""

    child_id: int
    role: Role
    template_id: int
    place: int
    generation: int
    succeeds: bool = False
    """Another child serves in the place."""
    gives_way: bool = False
    """The other has the CPU first until this one serves, too."""
    import_in_loop: bool = True
    """Where it imports the application itself: in the running event loop, and not before it runs."""
    has_other_way: bool = False
    """If that fails because of the loop, the other way will be tried."""


class DrainChild(Struct, frozen=True):
    """Tell a child to finish what is open and to leave."""

    child_id: int
    reason: DrainReason
    timeout: float
    targets: tuple[int, ...] = ()
    """The children that take its connections over."""
    gives_way: bool = False
    """They have the CPU first, when nothing is left for it but to end."""


class LetGo(Struct, frozen=True):
    """Close the channel of a child that does not drain; it cleans up and ends."""

    child_id: int


class KillChild(Struct, frozen=True):
    child_id: int
    dump: bool = False
    """Ask for its stacks first (SIGABRT); a second, silent kill follows if it lives on."""


class NameTargets(Struct, frozen=True):
    """Let the connections of a draining child go to others than were named before."""

    child_id: int
    targets: tuple[int, ...]


class HoldWorker(Struct, frozen=True):
    """Development: let new requests wait for new code."""

    child_id: int


class ReleaseWorker(Struct, frozen=True):
    """Let a worker that was held go on: there is no new code, or it cannot be loaded."""

    child_id: int


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


class Log(Struct, frozen=True):
    """A line for the log. `role` and `slot`: of the child that it is about, if any."""

    level: str
    text: str
    slot: int | None = None
    generation: int | None = None
    role: Role = WORKER


class ReportOutcome(Struct, frozen=True):
    """A reload is over: log its outcome, and tell whoever waits for it."""

    reload_id: int


class Finish(Struct, frozen=True):
    """Everything has left; the supervisor ends with this status."""

    exit_code: int


Step = (
    StartTemplate
    | ForkChild
    | DrainChild
    | LetGo
    | KillChild
    | NameTargets
    | HoldWorker
    | ReleaseWorker
    | CloseSlot
    | OpenSlot
    | SteerAway
    | StopAccepting
    | ShutListeners
    | Log
    | ReportOutcome
    | Finish
)
