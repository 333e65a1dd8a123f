"""Events, which can happen to the fleet, and steps, which a decision asks for. Values only.

A message of a child is wrapped as received (`ipc/messages.py`). The types are msgspec Structs, because creating two
dozen dataclasses would take a tenth of the time of a start.
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
    """Text for the log that the receiver adds to the message: for AppLoaded, what was read for the load."""


class ChildExited(Struct, frozen=True):
    """The exit of a child was collected, or the child could not be started."""

    child_id: int
    description: str
    """How the child ended, such as `exit status 3` or `killed by SIGSEGV`."""
    clean: bool = False
    """Whether the exit status was 0."""
    fault: str = ""
    """Stacks that the dying process left in its fault file."""
    doing: str = ""
    """What the process did at its end, according to its stacks, such as `running exit handlers (atexit)`."""


class ChildObserved(Struct, frozen=True):
    """A periodic observation of a child that has a heartbeat."""

    child_id: int
    heartbeat_age: float | None
    requests: int
    rss_bytes: int | None
    is_asleep: bool = False
    """The process waits outside its event loop, as in a debugger, and uses no CPU."""


class TrafficObserved(Struct, frozen=True):
    """What the workers of each generation have served since its first one. Sent only while a gate needs it."""

    by_generation: dict[int, Traffic]


class CodeChanging(Struct, frozen=True):
    """Development: files are changing, so the serving code is out of date. A ReloadRequested follows."""

    gives_up: bool
    """A load that is running may have read old and new files, so it is given up."""


class ReloadRequested(Struct, frozen=True):
    """A person, the file watcher or the supervisor requests a reload. `origin` is the cause, for the log."""

    origin: str
    supersede: bool = False
    """Give up a reload whose code is still booting, because newer code has arrived (file watcher)."""


class ScaleRequested(Struct, frozen=True):
    """Change the number of workers to `workers`."""

    workers: int


class StopRequested(Struct, frozen=True):
    """Stop the server and exit with `exit_code`. `at_once`: kill the workers instead of draining them."""

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
    """Start a template for a generation; `preload`: it imports the application."""

    child_id: int
    generation: int
    preload: bool
    failure: Failure | None = None
    """Import nothing, and show this failure."""
    becomes_worker: bool = False
    """The template becomes the first worker itself and forks no others."""
    gives_way: bool = False
    """The template runs with low CPU priority, because workers serve meanwhile."""


class ForkChild(Struct, frozen=True):
    """Have a template fork a child that has a place."""

    child_id: int
    role: Role
    template_id: int
    place: int
    generation: int
    succeeds: bool = False
    """Another child serves in the same place."""
    gives_way: bool = False
    """The child runs with low CPU priority until it serves, in favor of the child that serves in its place."""
    import_in_loop: bool = True
    """If the child imports the application itself, it does so in its running event loop, not before."""
    has_other_way: bool = False
    """If the import fails because of the event loop, it will be tried the other way."""


class DrainChild(Struct, frozen=True):
    """Tell a child to finish what is open and to exit."""

    child_id: int
    reason: DrainReason
    timeout: float
    targets: tuple[int, ...] = ()
    """The children that take over its connections."""
    gives_way: bool = False
    """The child runs with low CPU priority once it only has to exit, in favor of its targets."""


class LetGo(Struct, frozen=True):
    """Close the channel of a child that does not drain; the child then cleans up and exits."""

    child_id: int


class KillChild(Struct, frozen=True):
    """Send a child SIGKILL."""

    child_id: int
    dump: bool = False
    """Send SIGABRT first, for a dump of the stacks; a KillChild without dump follows if the child stays alive."""


class NameTargets(Struct, frozen=True):
    """Replace the handover targets of a draining child."""

    child_id: int
    targets: tuple[int, ...]


class HoldWorker(Struct, frozen=True):
    """Development: make new requests wait for new code."""

    child_id: int


class ReleaseWorker(Struct, frozen=True):
    """Let a held worker serve again: there is no new code, or it cannot be loaded."""

    child_id: int


class CloseSlot(Struct, frozen=True):
    """Close the listeners of the highest slot, which was removed."""

    slot: int


class OpenSlot(Struct, frozen=True):
    """Open the listeners of a slot that was added at the end, before the next fork."""

    slot: int


class SteerAway(Struct, frozen=True):
    """Send new connections to none of these slots, and to all others."""

    slots: frozenset[int]


class StopAccepting(Struct, frozen=True):
    """Close the listening sockets, because the server stops."""


class ShutListeners(Struct, frozen=True):
    """No worker accepts any more: shut the listening sockets down for all processes that hold a copy."""


class Log(Struct, frozen=True):
    """A line for the log. `role` and `slot` are those of the child concerned, if any."""

    level: str
    text: str
    slot: int | None = None
    generation: int | None = None
    role: Role = WORKER


class ReportOutcome(Struct, frozen=True):
    """A reload is over: log its outcome, and notify its waiters."""

    reload_id: int


class Finish(Struct, frozen=True):
    """Every child has exited; the supervisor exits with this status."""

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
