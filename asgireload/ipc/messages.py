"""Every message that our processes send each other.

    supervisor ──LoadApp, ForkWorker──▶ template
    supervisor ◀──AppLoaded, AppUnsafe, AppFailed, ForkFailed── template
    supervisor ──HandOver, Drain, TakeOver, UseCertificates──▶ worker
    supervisor ◀──WorkerStarted, WorkerStage, WorkerReady, WorkerFailed, WorkerDraining, SuccessorSpent,
                  WorkerDrained── worker

Each message is a frozen value; descriptors travel beside it (`ipc.channel`), in the order its docstring
gives, and belong to the receiver, who closes them. End of file on a channel means that the other process
is gone; no message says so.
"""

import msgspec

from asgireload.config import Config
from asgireload.net.addresses import ListenerTraits


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


class AppLoaded(msgspec.Struct, frozen=True, tag=True):
    """The template can fork workers."""

    seconds: float
    native_threads: tuple[str, ...] = ()
    """Names of threads that Python does not know (OpenBLAS, jemalloc …): harmless, for the log."""


class AppUnsafe(msgspec.Struct, frozen=True, tag=True):
    """The import left something behind that does not survive a fork; the template must be replaced."""

    reasons: tuple[str, ...]


class AppFailed(msgspec.Struct, frozen=True, tag=True):
    """The application could not be imported, or the log not be set up. The template ends."""

    summary: str
    traceback: str
    stage: str = "import"
    """What failed, for the verdict: import or logging."""


class ForkWorker(msgspec.Struct, frozen=True, tag=True):
    """Fork a worker. Descriptors: its channel, its fault file, what TLS is spoken with if `has_tls`
    (`net.tls.seal`), then the listening sockets."""

    worker_id: int
    slot: int
    record: int
    """Index of its scoreboard record."""
    listeners: tuple[ListenerTraits, ...] = ()
    """Of each listening socket, in the same order."""
    has_tls: bool = False


class ForkFailed(msgspec.Struct, frozen=True, tag=True):
    worker_id: int
    error: str


class WorkerStarted(msgspec.Struct, frozen=True, tag=True):
    """First message of a worker: it runs and is a child of the supervisor."""

    pid: int


class WorkerStage(msgspec.Struct, frozen=True, tag=True):
    """The boot has reached this stage: import, lifespan or health. A verdict names the last one."""

    stage: str


class WorkerReady(msgspec.Struct, frozen=True, tag=True):
    """Lifespan startup is complete and the worker accepts connections."""


class WorkerFailed(msgspec.Struct, frozen=True, tag=True):
    """The boot failed; the worker ends."""

    stage: str
    summary: str
    traceback: str


class Drain(msgspec.Struct, frozen=True, tag=True):
    """Take nothing new, finish what is open within `timeout` seconds, leave."""

    reason: str
    """Value of draining.DrainReason."""
    timeout: float


class HandOver(msgspec.Struct, frozen=True, tag=True):
    """Your connections may go to the worker behind this passage (`ipc.passage`), once you drain. Descriptor:
    your end. Comes before Drain, and again when another worker takes the place of the one that was named."""

    successor: int = 0
    """Its id, to name it in SuccessorSpent; 0: nobody wants to hear of that."""
    beside: bool = False
    """It takes its share beside those that were named before, and not their place."""


class TakeOver(msgspec.Struct, frozen=True, tag=True):
    """A worker that leaves hands you its connections. Descriptor: your end of the passage."""


class UseCertificates(msgspec.Struct, frozen=True, tag=True):
    """Show these certificates on new connections. Descriptor: what TLS is spoken with (`net.tls.seal`)."""


class WorkerDraining(msgspec.Struct, frozen=True, tag=True):
    """The worker has stopped accepting: from now on every new connection goes to others."""


class SuccessorSpent(msgspec.Struct, frozen=True, tag=True):
    """The worker that was named takes nothing more: it has no room, takes nothing, or its passage has ended."""

    successor: int


class WorkerDrained(msgspec.Struct, frozen=True, tag=True):
    """Last message of a worker that drained."""

    exchanges_cut: int
    websockets_closed: int
    handed_over: int = 0
    came_back: int = 0


ToTemplate = LoadApp | ForkWorker
FromTemplate = AppLoaded | AppUnsafe | AppFailed | ForkFailed
ToWorker = HandOver | Drain | TakeOver | UseCertificates
FromWorker = (
    WorkerStarted
    | WorkerStage
    | WorkerReady
    | WorkerFailed
    | WorkerDraining
    | SuccessorSpent
    | WorkerDrained
)
AnyMessage = ToTemplate | FromTemplate | ToWorker | FromWorker

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
