"""What the admin surface may see and ask of the server: snapshots out, commands in.

The admin application and the control commands know the supervisor only through `ServerPort`. Every
snapshot is an immutable value, encoded to JSON as it stands; field names are part of the public API.
"""

from typing import Protocol

import msgspec

from asgireload.failures import Failure


class WorkerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker as the supervisor sees it now."""

    slot: int
    generation: int
    pid: int | None
    state: str
    """starting, booting, ready, stalled (was ready, and its loop does not turn), draining or dying."""
    ready_at: float | None
    """Wall clock, seconds since the epoch."""
    age: float
    """Seconds since its fork was asked for."""
    heartbeat_age: float | None
    """Seconds since its loop last turned; None before it is ready."""
    connections: int
    websockets: int
    exchanges: int
    requests_total: int
    rss_bytes: int | None
    waits_for: str = ""
    """What is open in a worker that drains, such as `1 event stream: GET /events for 21 s from 10.0.0.1:4711`;
    empty in the first seconds of a drain."""
    role: str = "worker"


class TemplateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    generation: int
    pid: int | None
    state: str
    """loading, serving, sleeping or leaving."""
    preload: bool
    """False when each worker imports the application by itself."""
    unsafe_reasons: tuple[str, ...]
    """Why preloading was given up: threads, loops or connected sockets made at import."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a slot during a reload."""

    name: str
    """fork, ready, retire, drained, killed, crashed or restored."""
    seconds: float
    """Since the reload began."""
    generation: int
    detail: str = ""


class SlotSteps(msgspec.Struct, frozen=True, kw_only=True):
    slot: int
    steps: tuple[Step, ...]


class ReloadSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A reload: asked for, running, or with its verdict."""

    id: int
    outcome: str
    """pending, running, committed, failed, reverted, superseded or abandoned (the server stopped first)."""
    phase: str
    """pending, preparing, proving, probation, rolling, restoring, done."""
    origins: tuple[str, ...]
    """Who asked, one entry per request that was coalesced into this reload."""
    from_generation: int | None
    to_generation: int | None
    requested_at: float
    """Wall clock, seconds since the epoch."""
    started_at: float | None
    ended_at: float | None
    duration: float | None
    """Seconds from start to verdict, or to now."""
    serving_generation: int | None
    """The generation that served when the verdict was spoken."""
    uniform: bool
    """False while slots serve different generations."""
    failure: Failure | None
    slots: tuple[SlotSteps, ...]
    waited: float = 0.0
    """Seconds that it waited for older workers to drain before it began; not part of `duration`."""
    waits_for: str = ""
    """What it waits for now, such as `4 of 8 workers of generations 1, 2 to drain, 14 s at most`."""
    workers_draining: int = 0
    """Workers that it has replaced and that have not left yet, also after the verdict."""
    workers_drained: int = 0
    workers_killed: int = 0
    workers_crashed: int = 0
    """Workers that it has replaced and that ended in the middle of their drain."""
    exchanges_cut: int = 0
    """Exchanges cancelled at the drain deadline."""
    websockets_closed: int = 0
    handed_over: int = 0
    """Connections that went on in another worker."""
    came_back: int = 0
    """Offers of a connection that were not taken; it was offered to another, or ended as without one."""
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""


class CertificateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that the server shows to clients."""

    certfile: str
    """As it was configured."""
    subject: str
    """Distinguished name as RFC 4514 writes it."""
    names: tuple[str, ...]
    """Host names and addresses that it is for."""
    not_before: float
    """Wall clock, seconds since the epoch."""
    not_after: float
    loaded_at: float


class StatusSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a dashboard or a deploy script wants to know at once."""

    version: str
    pid: int
    state: str
    """starting, serving, degraded (fewer workers ready than wanted), failing (an error page is served instead of
    the application), reloading or stopping."""
    message: str
    """One line for a person, such as `serving generation 7; generation 8 failed: …`."""
    app: str
    started_at: float
    uptime: float
    generation: int | None
    """The generation that serves, None before the first is ready."""
    workers_wanted: int
    workers_ready: int
    """May receive traffic, and turn their loops."""
    workers_old: int
    """Workers that drain."""
    listeners: tuple[str, ...]
    accept: str
    restarts_total: int
    """Workers that were replaced after a crash."""
    reloads_total: int
    workers: tuple[WorkerSnapshot, ...]
    templates: tuple[TemplateSnapshot, ...]
    current_reload: ReloadSnapshot | None
    pending_reload: ReloadSnapshot | None
    last_reload: ReloadSnapshot | None
    certificates: tuple[CertificateSnapshot, ...] = ()
    """Those that are shown to clients; none without TLS."""
    certificates_error: str | None = None
    """Why the files on disk could not be taken, while older certificates are shown."""
    waits_for: str = ""
    """Who waits for workers to drain, such as `The stop waits for 1 worker to drain, 14 s at most`; empty: none."""
    broken: Failure | None = None
    """Development: why every request is answered with an error page, while that is so."""
    directory: str = ""
    """Where it was started, as its user typed it."""
    app_dir: str = ""
    """Where the application is looked for (--app-dir), absolute; empty: in `directory`."""
    admin_socket: str = ""
    """Path of its admin socket; empty: it has none."""
    pid_file: str = ""
    """Absolute path of the file that it has written its pid to; empty: it writes none."""


class ReloadTicket(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request for a reload."""

    id: int
    """The reload that will serve the request; several requests may get the same."""
    outcome: str
    """running or pending."""
    coalesced: bool
    """True when another request had already asked for this reload."""
    waits_for: str = ""
    """As in `ReloadSnapshot`."""


class SlotCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the life of a slot, of all its workers living and gone, for one generation."""

    slot: int
    generation: int
    values: tuple[int, ...]
    """Indexed by ipc.scoreboard.Field; gauges hold living workers only."""
    role: str = "worker"


class MetricsSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    status: StatusSnapshot
    counters: tuple[SlotCounters, ...]
    reload_outcomes: dict[str, int]
    """Verdicts spoken so far, by outcome."""
    worker_exits: dict[str, int]
    """Worker exits so far: clean, discarded (it never served and was not needed any more), crashed, killed or
    stalled."""
    shutdown_failures: int = 0
    """Workers so far whose lifespan shutdown failed or was not completed."""


class ServerPort(Protocol):
    """The supervisor, as the admin surface knows it. Calls never block; `wait_reload` is awaited."""

    def status(self) -> StatusSnapshot: ...

    def metrics(self) -> MetricsSnapshot: ...

    def reloads(self) -> tuple[ReloadSnapshot, ...]:
        """The last reloads, newest first, pending and running ones included."""
        ...

    def reload(self, reload_id: int) -> ReloadSnapshot | None:
        """One of `reloads()`; None when unknown or forgotten."""
        ...

    def request_reload(self, origin: str) -> ReloadTicket:
        """Ask for a reload. Raise ControlError while the server stops."""
        ...

    async def wait_reload(self, reload_id: int) -> ReloadSnapshot:
        """Return the reload once its verdict is spoken. Raise ControlError for an unknown id."""
        ...

    def reload_certificates(self, origin: str) -> tuple[CertificateSnapshot, ...]:
        """Read the certificates again and return them.

        Raise TlsError when the files do not fit, which changes nothing, and ControlError where no TLS is
        spoken or while the server stops.
        """
        ...

    def scale(self, workers: int) -> None:
        """Set the number of workers. Raise ControlError when it is out of range or the server stops."""
        ...

    def stop(self) -> None:
        """Begin a graceful stop; the same as SIGTERM."""
        ...
