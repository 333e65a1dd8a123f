"""Every message that the processes of one server send each other.

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

Each message is a frozen value. Descriptors travel beside it (`ipc.channel`), in the order in its docstring; the
receiver owns and closes them. End of file on a channel means that the other process is gone; no message is sent
for that.
"""

import msgspec

from asgireload.config import Config
from asgireload.failures import Failure
from asgireload.net.addresses import ListenerTraits

MESSAGES_VERSION = 1
"""Version of the messages between the supervisor and its children. A reload runs the installed version of
asgireload in the children, while the supervisor is still the one that was started. A field that is added with a
default needs no new version, because an older reader ignores it. A change that an older process would
misunderstand needs one."""


class LoadApp(msgspec.Struct, frozen=True, tag=True):
    """First message to a template. Descriptors: scoreboard, fault file."""

    generation: int
    config: Config
    preload: bool
    """False: import nothing; each worker imports the application itself."""
    directory: str
    """Working directory as the user typed it, so that a `current` symlink is followed again."""
    name: str
    """The application's name in process titles."""
    failure: Failure | None = None
    """Import nothing, and serve this failure instead."""
    becomes_worker: bool = False
    """Become the worker itself, instead of forking, when a worker is requested."""
    checkpoint: str = ""
    """Take an import checkpoint before the module of this name is imported; empty for none."""
    source_variables: dict[str, str | None] | None = None
    """Environment variables, beyond those of every process, that the libraries of the fork source were imported
    with; None without a fork source."""
    ignored_variables: tuple[str, ...] = ()
    """Variables that differ at each load, so no library can depend on their values."""
    messages_version: int = MESSAGES_VERSION
    """The version of the supervisor. A template with another version refuses the load."""


class AppLoaded(msgspec.Struct, frozen=True, tag=True):
    """The template is ready to fork workers."""

    seconds: float
    native_threads: tuple[str, ...] = ()
    """Names of threads that Python does not know (OpenBLAS, jemalloc …): harmless, for the log."""
    failure: Failure | None = None
    """The application could not be imported, and workers will serve this failure."""
    modules: tuple[str, ...] = ()
    """The last of the application's modules that were read for this load."""
    module_count: int = 0
    """The number of the application's modules that were read for this load."""
    cleans_up: bool = False
    """The template removes at its end what the import has created, so it is let go after its last worker."""


class AppUnsafe(msgspec.Struct, frozen=True, tag=True):
    """The import left something behind that does not survive a fork; the template must be replaced."""

    reasons: tuple[str, ...]
    needs_loop: bool = False
    """The import failed because no event loop runs in a template; it can succeed in the event loop of a worker."""


class AppFailed(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported, or logging could not be set up. The template ends."""

    failure: Failure


class AppImported(msgspec.Struct, frozen=True, tag=True):
    """The imports of the template, or of the worker that the template has become.

    Descriptor: an `ipc.records.ImportRecord`.
    """

    is_whole: bool
    """The import was completed."""


class VariablesDiffer(msgspec.Struct, frozen=True, tag=True):
    """The application sets environment variables to other values than the libraries of its fork source were
    imported with. Another template must import everything again; this one sends nothing more."""

    variables: tuple[str, ...]


class CheckpointTaken(msgspec.Struct, frozen=True, tag=True):
    """An import checkpoint, a process that sleeps in the middle of the import, was left behind. Descriptors: its
    channel, and the files that it has read (`ipc.records.FilesRead`)."""

    module: str
    """The module that is imported next in the import checkpoint."""


class BuildLibraryBase(msgspec.Struct, frozen=True, tag=True):
    """First message to a library base. Descriptor: the `ipc.records.ImportRecord` of a template."""

    config: Config
    directory: str
    """Working directory as the user typed it."""
    excluded: tuple[str, ...] = ()
    """Modules whose import creates something that a fork does not carry over."""


class LibraryBaseBuilt(msgspec.Struct, frozen=True, tag=True):
    """The library base is ready to fork templates. Descriptor: `ipc.records.LibraryBaseContents`."""

    seconds: float


class LibraryBaseUnfit(msgspec.Struct, frozen=True, tag=True):
    """Importing a module early has made this process unsafe to fork; the process ends."""

    module: str
    reason: str


class ForkTemplate(msgspec.Struct, frozen=True, tag=True):
    """Fork a template. Descriptor: the template's end of its channel."""


class ForkWorker(msgspec.Struct, frozen=True, tag=True):
    """Fork a worker. Descriptors: its end of its channel, its fault file, the TLS material if `has_tls`
    (`net.tls.seal`), then the listening sockets."""

    child_id: int
    slot: int
    record: int
    """Index of the worker's scoreboard record."""
    listeners: tuple[ListenerTraits, ...] = ()
    """The traits of each listening socket, in the same order."""
    has_tls: bool = False
    succeeds: bool = False
    """Another worker serves in the slot, and hands its connections over later."""
    gives_way: bool = False
    """The fork has low CPU priority (`ipc.linux.give_way`), and so has the worker until it serves."""
    import_in_loop: bool = True
    """If the template has not imported the application: the worker imports it in the running event loop that will
    serve. False: it imports the application before that loop runs."""
    has_other_way: bool = False
    """An import that fails because of the event loop is reported as `WorkerFailed.other_way`, and is retried."""


class ForkFailed(msgspec.Struct, frozen=True, tag=True):
    """The child with this id could not be forked."""

    child_id: int
    error: str


class ChildStarted(msgspec.Struct, frozen=True, tag=True):
    """First message of every forked process, whatever its role: it runs, as a child of the supervisor."""

    pid: int


class WorkerStage(msgspec.Struct, frozen=True, tag=True):
    """The boot has reached this stage: import, lifespan or health. A failure names the last stage."""

    stage: str


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """Lifespan startup is complete and the worker accepts connections."""

    failure: Failure | None = None
    """The application did not start, and the worker serves this failure."""
    has_lifespan: bool = False
    """The application has a lifespan, so its shutdown can fail."""


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """The boot failed; the worker ends."""

    failure: Failure
    other_way: bool = False
    """The import may succeed the other way (`ForkWorker.import_in_loop`)."""


class WorkerImported(msgspec.Struct, frozen=True, tag=True):
    """Development: the libraries that the worker has imported since it was forked. Descriptor: an
    `ipc.records.ImportRecord`."""


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Take nothing new, finish what is open within `timeout` seconds, and exit."""

    reason: str
    """Value of draining.DrainReason."""
    timeout: float
    reports: bool = False
    """Send `WorkerWaits` when the drain takes long."""


class HandOver(msgspec.Struct, frozen=True, tag=True):
    """Hand connections over to the worker at the other end of this passage (`ipc.passage`) while draining.
    Descriptor: this worker's end. Sent before Drain, and again when another target replaces a named one."""

    successor: int = 0
    """The id of the target, for SuccessorSpent; 0 when no SuccessorSpent is wanted."""
    beside: bool = False
    """Share the connections among this target and those named before; False: this target replaces them."""


class TakeOver(msgspec.Struct, frozen=True, tag=True):
    """Take over connections of a draining worker. Descriptor: this worker's end of the passage."""


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Newer code is expected: accept no connections, and begin no requests."""

    timeout: float
    """Seconds after which the worker continues nevertheless, and marks its responses as stale."""


class Release(msgspec.Struct, frozen=True, tag=True):
    """There is no newer code to wait for: continue, and mark the responses as stale."""


class UseCertificates(msgspec.Struct, frozen=True, tag=True):
    """Use these certificates for new connections. Descriptor: the TLS material (`net.tls.seal`)."""


class AssetsChanged(msgspec.Struct, frozen=True, tag=True):
    """Style sheets or images were saved: notify the open pages (--reload-browser)."""

    names: tuple[str, ...]


class MoveTo(msgspec.Struct, frozen=True, tag=True):
    """Move to this CPU, which has only work of low priority; the worker shares its present CPU with another."""

    processor: int
    """The CPU's index, as in sched_setaffinity(2)."""


class WorkerDraining(msgspec.Struct, frozen=True, tag=True):
    """The worker has stopped accepting: from now on other workers accept every new connection."""


class SuccessorSpent(msgspec.Struct, frozen=True, tag=True):
    """The named target takes no more connections: it has no room, takes none, or its passage has ended."""

    successor: int


class OpenWork(msgspec.Struct, frozen=True):
    """A request, stream or connection that a drain waits for."""

    kind: str
    """`request`, `event stream`, `WebSocket`, or `connection`: idle, or waiting for its client."""
    name: str = ""
    """Method and path, without the query, which may contain secrets; empty for a connection."""
    client: str = ""
    seconds: float = 0.0
    """Seconds since the work began."""


class WorkerWaits(msgspec.Struct, frozen=True, tag=True):
    """Open work of a draining worker. Sent after some seconds, and repeated, when Drain asks for reports."""

    counts: dict[str, int]
    """The number of open requests, streams and connections, by kind."""
    oldest: tuple[OpenWork, ...] = ()


class WorkerDrained(msgspec.Struct, frozen=True, tag=True):
    """Last message of a worker that drained."""

    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0
    shutdown_failure: str = ""
    """Why the application's lifespan shutdown failed; empty when it succeeded, or there is no lifespan."""


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
"""Longest traceback sent, in bytes of UTF-8. With a summary beside it, it fits into `channel.MESSAGE_LIMIT`."""
SUMMARY_LIMIT = 2_000
"""Longest summary sent, in bytes of UTF-8."""


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text` cut in the middle to about `limit` bytes: the ends of a traceback matter most."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode()
    half = limit // 2
    start = data[:half].decode("utf-8", "ignore")
    end = data[-half:].decode("utf-8", "ignore")
    return f"{start}\n… {len(data) - 2 * half} bytes left out …\n{end}"
