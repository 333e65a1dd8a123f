"""The interface between the admin application and the supervisor: snapshots and commands.

The admin application uses the supervisor only through `ServerPort`. Snapshots are immutable values, encoded to JSON
as they are; field names are part of the public API.
"""

from typing import Protocol

import msgspec

from asgireload.failures import Failure


class WorkerSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of one worker."""

    slot: int
    generation: int
    pid: int | None
    state: str
    """starting, booting, ready, stalled (it was ready, and its event loop is blocked), draining or dying."""
    ready_at: float | None
    """Wall clock, seconds since the epoch."""
    age: float
    """Seconds since the supervisor ordered the fork of the worker."""
    heartbeat_age: float | None
    """Seconds since the last heartbeat of its event loop; None before the worker is ready."""
    connections: int
    websockets: int
    exchanges: int
    requests_total: int
    rss_bytes: int | None
    waits_for: str = ""
    """Open connections and exchanges of a draining worker, such as
    `1 event stream: GET /events for 21 s from 10.0.0.1:4711`; empty in the first seconds of a drain."""
    role: str = "worker"


class TemplateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The present state of one template."""

    generation: int
    pid: int | None
    state: str
    """loading, serving, sleeping or leaving."""
    preload: bool
    """False when each worker imports the application itself."""
    unsafe_reasons: tuple[str, ...]
    """Why preloading was given up: threads, loops or connected sockets made at import."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a slot during a reload."""

    name: str
    """fork, ready, retire, drained, killed, crashed or restored."""
    seconds: float
    """Seconds since the reload began."""
    generation: int
    detail: str = ""


class SlotSteps(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one slot during a reload."""

    slot: int
    steps: tuple[Step, ...]


class ReloadSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A reload that is pending, running or ended."""

    id: int
    outcome: str
    """pending, running, committed, failed, reverted, superseded or abandoned (the server stopped first)."""
    phase: str
    """pending, preparing, proving, probation, rolling, restoring, done."""
    origins: tuple[str, ...]
    """The origin of each request that was coalesced into this reload."""
    from_generation: int | None
    to_generation: int | None
    requested_at: float
    """Wall clock, seconds since the epoch."""
    started_at: float | None
    ended_at: float | None
    duration: float | None
    """Seconds from the start to the verdict, or to now."""
    serving_generation: int | None
    """The generation that served at the time of the verdict."""
    uniform: bool
    """False while slots serve different generations."""
    failure: Failure | None
    slots: tuple[SlotSteps, ...]
    waited: float = 0.0
    """Seconds that the reload waited for older workers to drain before it began; not part of `duration`."""
    waits_for: str = ""
    """What the reload waits for now, such as `4 of 8 workers of generations 1, 2 to drain, 14 s at most`."""
    workers_draining: int = 0
    """Workers that the reload has replaced and that have not exited yet, also after the verdict."""
    workers_drained: int = 0
    workers_killed: int = 0
    workers_crashed: int = 0
    """Workers that the reload has replaced and that crashed during their drain."""
    exchanges_cut: int = 0
    """Exchanges cancelled at the drain deadline."""
    websockets_closed: int = 0
    handed_over: int = 0
    """Connections that continue in another worker."""
    came_back: int = 0
    """Offers of a connection that the target worker has not taken; the connection was offered to another worker, or
    closed as without a handover."""
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""


class CertificateSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate that the server presents to clients."""

    certfile: str
    """The path as configured."""
    subject: str
    """Distinguished name in the format of RFC 4514."""
    names: tuple[str, ...]
    """Host names and addresses of the certificate."""
    not_before: float
    """Wall clock, seconds since the epoch."""
    not_after: float
    loaded_at: float


class StatusSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the server, for dashboards and deploy scripts."""

    version: str
    pid: int
    state: str
    """starting, serving, degraded (fewer workers ready than wanted), failing (an error page is served instead of
    the application), reloading or stopping."""
    message: str
    """The state as one line, such as `serving generation 7; generation 8 failed: …`."""
    app: str
    started_at: float
    uptime: float
    generation: int | None
    """The generation that serves; None before the first one is ready."""
    workers_wanted: int
    workers_ready: int
    """Workers that may receive traffic and are not stalled."""
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
    """The certificates in use; empty without TLS."""
    certificates_error: str | None = None
    """Why the certificate files on disk cannot be used, while older certificates are in use."""
    waits_for: str = ""
    """What waits for workers to drain, such as `The stop waits for 1 worker to drain, 14 s at most`; empty:
    nothing."""
    broken: Failure | None = None
    """With --reload: why every request is answered with an error page; None: the application serves."""
    directory: str = ""
    """The working directory in which the server was started, as the user typed it."""
    app_dir: str = ""
    """Absolute directory of the application (--app-dir); empty: `directory`."""
    admin_socket: str = ""
    """Path of the admin socket; empty: there is none."""
    pid_file: str = ""
    """Absolute path of the PID file that the server writes; empty: there is none."""


class ReloadTicket(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request for a reload."""

    id: int
    """The id of the reload; several requests may get the same one."""
    outcome: str
    """running or pending."""
    coalesced: bool
    """True when another request had already asked for this reload."""
    waits_for: str = ""
    """What the reload waits for, as in `ReloadSnapshot`."""


class SlotCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over all workers of one slot and generation, including those that have exited."""

    slot: int
    generation: int
    values: tuple[int, ...]
    """Indexed by ipc.scoreboard.Field; gauges include running workers only."""
    role: str = "worker"


class MetricsSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The values of all metrics."""

    status: StatusSnapshot
    counters: tuple[SlotCounters, ...]
    reload_outcomes: dict[str, int]
    """Number of ended reloads, by outcome."""
    worker_exits: dict[str, int]
    """Number of worker exits, by kind: clean, discarded (the worker never served and was not needed), crashed,
    killed or stalled."""
    shutdown_failures: int = 0
    """Number of workers whose lifespan shutdown failed or was not completed."""


class ServerPort(Protocol):
    """The interface of the supervisor to the admin application. Methods never block; `wait_reload` is awaited."""

    def status(self) -> StatusSnapshot: ...

    def metrics(self) -> MetricsSnapshot: ...

    def reloads(self) -> tuple[ReloadSnapshot, ...]:
        """Return the last reloads, newest first, including pending and running ones."""
        ...

    def reload(self, reload_id: int) -> ReloadSnapshot | None:
        """Return one of `reloads()`; None when the id is unknown or forgotten."""
        ...

    def request_reload(self, origin: str) -> ReloadTicket:
        """Request a reload. Raise ControlError while the server stops."""
        ...

    async def wait_reload(self, reload_id: int) -> ReloadSnapshot:
        """Return the reload when it has a verdict. Raise ControlError for an unknown id."""
        ...

    def reload_certificates(self, origin: str) -> tuple[CertificateSnapshot, ...]:
        """Read the certificates again and return them.

        Raise TlsError when the files cannot be used, which changes nothing, and ControlError without TLS or while
        the server stops.
        """
        ...

    def scale(self, workers: int) -> None:
        """Set the number of workers. Raise ControlError when it is out of range or the server stops."""
        ...

    def stop(self) -> None:
        """Begin a graceful stop, as SIGTERM does."""
        ...
