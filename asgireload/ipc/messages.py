"""Every message that our processes send each other.

    supervisor ──LoadApp, ForkWorker──▶ template
    supervisor ◀──AppLoaded, AppUnsafe, AppFailed, ForkFailed── template
    supervisor ◀──ChildStarted, AppImported, VariablesDiffer, CheckpointTaken── template (development)
    supervisor ──BuildLibraryBase, ForkTemplate──▶ library base
    supervisor ◀──LibraryBaseBuilt, LibraryBaseUnfit── library base
    supervisor ──ForkTemplate──▶ import checkpoint
    supervisor ◀──ChildStarted── import checkpoint
    supervisor ──HandOver, Drain, TakeOver, Hold, Release, UseCertificates, AssetsChanged, MoveTo──▶ worker
    supervisor ◀──ChildStarted, WorkerStage, WorkerReady, WorkerFailed, WorkerDraining, WorkerWaits,
                  SuccessorSpent, WorkerDrained── worker
    supervisor ◀──WorkerImported── worker (development)

Each message is a frozen value; descriptors travel beside it (`ipc.channel`), in the order its docstring
gives, and belong to the receiver, who closes them. End of file on a channel means that the other process
is gone; no message says so.
"""

import msgspec

from asgireload.config import Config
from asgireload.failures import Failure
from asgireload.net.addresses import ListenerTraits

MESSAGES_VERSION = 1
"""Version of the messages between the supervisor and its children. A reload runs the installed version of
asgireload in the children, while the supervisor is still the one that was started. A field that is added with a
default needs no new version: an older reader ignores it. Whatever an older process would misunderstand does."""


class LoadApp(msgspec.Struct, frozen=True, tag=True):
    """First message to a template. Descriptors: scoreboard, fault file."""

    generation: int
    config: Config
    preload: bool
    """False: import nothing; each worker will import the application by itself."""
    directory: str
    """Working directory as the user typed it, so that a `current` symlink is followed anew."""
    name: str
    """For process titles."""
    failure: Failure | None = None
    """Import nothing, and serve this instead."""
    becomes_worker: bool = False
    """Do not fork when a worker is asked for, but be it."""
    checkpoint: str = ""
    """Leave a checkpoint before the module of this name is imported; empty: leave none."""
    source_variables: dict[str, str | None] | None = None
    """What the libraries of the fork source have found in the environment beside what every process has;
    None where there is no fork source."""
    ignored_variables: tuple[str, ...] = ()
    """Variables that are different at each load, and so cannot be what libraries are set up with."""
    messages_version: int = MESSAGES_VERSION
    """That of the supervisor. A template of another version refuses the load."""


class AppLoaded(msgspec.Struct, frozen=True, tag=True):
    """The template can fork workers."""

    seconds: float
    native_threads: tuple[str, ...] = ()
    """Names of threads that Python does not know (OpenBLAS, jemalloc …): harmless, for the log."""
    failure: Failure | None = None
    """It could not be imported, and workers will serve that."""
    modules: tuple[str, ...] = ()
    """The last of the application's modules that were read for this load."""
    module_count: int = 0
    """How many they were."""
    cleans_up: bool = False
    """The template removes at its end what the import has made: it is let go when its last worker is gone."""


class AppUnsafe(msgspec.Struct, frozen=True, tag=True):
    """The import left something behind that does not survive a fork; the template must be replaced."""

    reasons: tuple[str, ...]
    needs_loop: bool = False
    """The import failed, because no event loop runs in a template; in that of a worker it can run."""


class AppFailed(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported, or the log not be set up. The template ends."""

    failure: Failure


class AppImported(msgspec.Struct, frozen=True, tag=True):
    """What the template, or the worker that it has become, has imported.

    Descriptor: an `ipc.records.ImportRecord`.
    """

    is_whole: bool
    """The import went through to its end."""


class VariablesDiffer(msgspec.Struct, frozen=True, tag=True):
    """The application changes the environment otherwise than the libraries of its fork source have found it.
    Another template must import everything anew; nothing follows from this one."""

    variables: tuple[str, ...]


class CheckpointTaken(msgspec.Struct, frozen=True, tag=True):
    """A process that sleeps in the middle of the import was left behind. Descriptors: its channel, and the
    files that it has read (`ipc.records.FilesRead`)."""

    module: str
    """It is imported next there."""


class BuildLibraryBase(msgspec.Struct, frozen=True, tag=True):
    """First message to a library base. Descriptor: the `ipc.records.ImportRecord` of a template."""

    config: Config
    directory: str
    """Working directory as the user typed it."""
    excluded: tuple[str, ...] = ()
    """Modules whose import leaves behind what a fork does not carry over."""


class LibraryBaseBuilt(msgspec.Struct, frozen=True, tag=True):
    """The library base can fork templates. Descriptor: `ipc.records.LibraryBaseContents`."""

    seconds: float


class LibraryBaseUnfit(msgspec.Struct, frozen=True, tag=True):
    """Importing a module early has made this process unfit to fork from; it ends."""

    module: str
    reason: str


class ForkTemplate(msgspec.Struct, frozen=True, tag=True):
    """Fork a template. Descriptor: its channel."""


class ForkWorker(msgspec.Struct, frozen=True, tag=True):
    """Fork a worker. Descriptors: its channel, its fault file, what TLS is spoken with if `has_tls`
    (`net.tls.seal`), then the listening sockets."""

    child_id: int
    slot: int
    record: int
    """Index of its scoreboard record."""
    listeners: tuple[ListenerTraits, ...] = ()
    """Of each listening socket, in the same order."""
    has_tls: bool = False
    succeeds: bool = False
    """Another worker serves in the slot, and hands its place over later."""
    gives_way: bool = False
    """The fork gives way to it (`ipc.linux.give_way`), and the worker until it serves."""
    import_in_loop: bool = True
    """Where the template holds no code: import the application in the running event loop that will serve, and not
    before it runs."""
    has_other_way: bool = False
    """An import that fails because of that is told as `WorkerFailed.other_way`, and tried the other way."""


class ForkFailed(msgspec.Struct, frozen=True, tag=True):
    """A child of this id could not be forked."""

    child_id: int
    error: str


class ChildStarted(msgspec.Struct, frozen=True, tag=True):
    """First message of a process that was forked, whatever its role: it runs and is a child of the supervisor."""

    pid: int


class WorkerStage(msgspec.Struct, frozen=True, tag=True):
    """The boot has reached this stage: import, lifespan or health. A verdict names the last one."""

    stage: str


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """Lifespan startup is complete and the worker accepts connections."""

    failure: Failure | None = None
    """The application did not start, and the worker serves that."""
    has_lifespan: bool = False
    """The application has a lifespan, so it has a shutdown that can fail."""


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """The boot failed; the worker ends."""

    failure: Failure
    other_way: bool = False
    """The import may go well the other way (`ForkWorker.import_in_loop`)."""


class WorkerImported(msgspec.Struct, frozen=True, tag=True):
    """Development: what the worker has imported since it was forked. Descriptor: an
    `ipc.records.ImportRecord` of libraries."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Take nothing new, finish what is open within `timeout` seconds, leave."""

    reason: str
    """Value of draining.DrainReason."""
    timeout: float
    reports: bool = False
    """Say what is waited for, if it takes long (`WorkerWaits`)."""


class HandOver(msgspec.Struct, frozen=True, tag=True):
    """Your connections may go to the worker behind this passage (`ipc.passage`), once you drain. Descriptor:
    your end. Comes before Drain, and again when another worker takes the place of the one that was named."""

    successor: int = 0
    """Its id, to name it in SuccessorSpent; 0: nobody wants to hear of that."""
    beside: bool = False
    """It takes its share beside those that were named before, and not their place."""


class TakeOver(msgspec.Struct, frozen=True, tag=True):
    """A worker that leaves hands you its connections. Descriptor: your end of the passage."""


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Newer code is on its way: begin no request. Connections are accepted by its workers."""

    timeout: float
    """Seconds after which the worker goes on nevertheless, and says that its answers are stale."""


class Release(msgspec.Struct, frozen=True, tag=True):
    """The newer code cannot be had: go on, and say that the answers are stale."""


class UseCertificates(msgspec.Struct, frozen=True, tag=True):
    """Show these certificates on new connections. Descriptor: what TLS is spoken with (`net.tls.seal`)."""


class AssetsChanged(msgspec.Struct, frozen=True, tag=True):
    """Style sheets or images were saved: tell the pages that are open (--reload-browser)."""

    names: tuple[str, ...]


class MoveTo(msgspec.Struct, frozen=True, tag=True):
    """You share a processor with another worker while one has only work that gives way: go there."""

    processor: int
    """Its number, as in sched_setaffinity(2)."""


class WorkerDraining(msgspec.Struct, frozen=True, tag=True):
    """The worker has stopped accepting: from now on every new connection goes to others."""


class SuccessorSpent(msgspec.Struct, frozen=True, tag=True):
    """The worker that was named takes nothing more: it has no room, takes nothing, or its passage has ended."""

    successor: int


class OpenWork(msgspec.Struct, frozen=True):
    """Something that a drain waits for."""

    kind: str
    """`request`, `event stream`, `WebSocket` or `connection`, one that waits for a request or for its client."""
    name: str = ""
    """Method and path, without the query, which may hold secrets; empty for a connection."""
    client: str = ""
    seconds: float = 0.0
    """Since it began."""


class WorkerWaits(msgspec.Struct, frozen=True, tag=True):
    """What is open in a worker that drains. Comes after some seconds, and again, where Drain has asked for it."""

    counts: dict[str, int]
    """By kind."""
    oldest: tuple[OpenWork, ...] = ()


class WorkerDrained(msgspec.Struct, frozen=True, tag=True):
    """Last message of a worker that drained."""

    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0
    shutdown_failure: str = ""
    """Why the application's lifespan shutdown failed; empty: it did not, or there is none."""


ToTemplate = LoadApp | ForkWorker
FromTemplate = (
    AppLoaded
    | AppUnsafe
    | AppFailed
    | ForkFailed
    | ChildStarted
    | AppImported
    | VariablesDiffer
    | CheckpointTaken
)
ToForkSource = BuildLibraryBase | ForkTemplate
FromForkSource = LibraryBaseBuilt | LibraryBaseUnfit | ChildStarted
ToWorker = HandOver | Drain | TakeOver | Hold | Release | UseCertificates | AssetsChanged | MoveTo
FromWorker = (
    AppImported
    | WorkerImported
    | ChildStarted
    | WorkerStage
    | WorkerReady
    | WorkerFailed
    | WorkerDraining
    | WorkerWaits
    | SuccessorSpent
    | WorkerDrained
)
AnyMessage = ToTemplate | FromTemplate | ToForkSource | FromForkSource | ToWorker | FromWorker

TEXT_LIMIT = 100_000
"""Longest traceback sent, in bytes of UTF-8: below `channel.MESSAGE_LIMIT` with a summary beside it."""
SUMMARY_LIMIT = 2_000
"""Longest summary sent, in bytes of UTF-8."""


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text` cut in the middle to about `limit` bytes; the ends of a traceback say most."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2
    start = data[:half].decode("utf-8", "ignore")
    end = data[-half:].decode("utf-8", "ignore")
    return f"{start}\n… {len(data) - 2 * half} bytes left out …\n{end}"
