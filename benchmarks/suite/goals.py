"""What asgireload wants to reach, and how far it is. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.common.results import Run

from .servers import SERVERS

OURS = "asgireload"
APP_ALONE = "app alone"
"""The name under which the cost of an application without a server is kept."""
PEERS = tuple(server.name for server in SERVERS if server.is_peer)


@dataclass(frozen=True, slots=True)
class Measured:
    """A ratio as it came out."""

    ratio: float
    against: str
    """The server that it is a ratio to."""


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: float
    against: str
    case: str
    compares: tuple[str, ...]
    """The servers whose figures for the case it needs, ours among them."""
    measure: Callable[[Run], Measured | None]
    """None: what it needs was not measured."""


def medians(run: Run, case: str, metric: str, names: tuple[str, ...]) -> dict[str, float]:
    """Return the medians of those of the servers that were measured."""
    found = {name: run.figure(case, name, metric) for name in names}
    return {name: figure.median for name, figure in found.items() if figure is not None}


def to_best(
    case: str, names: tuple[str, ...], metric: str = "cpu_us"
) -> Callable[[Run], Measured | None]:
    """Compare with the cheapest of the named servers."""

    def measure(run: Run) -> Measured | None:
        ours = run.figure(case, OURS, metric)
        theirs = medians(run, case, metric, names)
        if ours is None or not theirs:
            return None
        best = min(theirs, key=theirs.__getitem__)
        return Measured(ours.median / theirs[best], best) if theirs[best] > 0 else None

    return measure


def own_share(case: str, name: str) -> Callable[[Run], Measured | None]:
    """Compare the servers' own shares: the whole cost less that of the application alone."""

    def measure(run: Run) -> Measured | None:
        alone = run.figure(case, APP_ALONE, "cpu_us")
        ours, theirs = run.figure(case, OURS, "cpu_us"), run.figure(case, name, "cpu_us")
        if alone is None or ours is None or theirs is None or theirs.median <= alone.median:
            return None
        return Measured((ours.median - alone.median) / (theirs.median - alone.median), name)

    return measure


def _ratio(
    what: str,
    limit: float,
    against: str,
    case: str,
    names: tuple[str, ...] = (),
    metric: str = "cpu_us",
) -> Goal:
    """`names`: servers of which the cheapest counts, where that is not just the one called `against`."""
    names = names or (against,)
    return Goal(what, limit, against, case, (OURS, *names), to_best(case, names, metric))


def _best(what: str, case: str) -> Goal:
    return _ratio(f"{what}, CPU", 1.0, "the best peer", case, PEERS)


def _share(what: str, case: str) -> Goal:
    compares = (OURS, "uvicorn")
    return Goal(
        f"{what}, the server's own share",
        0.5,
        "uvicorn",
        case,
        compares,
        own_share(case, "uvicorn"),
    )


def _hello(limit: float, name: str) -> Goal:
    return _ratio("hello, 7 request headers, CPU", limit, name, "hello-7")


GOALS: tuple[Goal, ...] = (
    _hello(0.45, "uvicorn"),
    _hello(0.60, "granian"),
    _hello(1.00, "peregrine"),
    _hello(1.40, "floor"),
    _share("await asyncio.sleep(0)", "await-sleep"),
    _share("await a queue", "await-queue"),
    _share("await a connection pool", "await-pool"),
    _share("FastAPI hello", "fastapi"),
    _best("upload 1 MB", "upload-1m"),
    _best("download 1 MB in one piece", "download-1m"),
    _best("download 1 MB in 64 pieces", "stream-64"),
    _best("new connection per request, 1 worker", "connection-1"),
    _best("new connection per request, 4 workers", "connection-4"),
    _ratio(
        "WebSocket echo 64 B, CPU",
        0.5,
        "the better uvicorn",
        "ws-64",
        ("uvicorn", "uvicorn wsproto"),
    ),
    _ratio("WebSocket echo 64 B, CPU", 1.0, "h2corn", "ws-64"),
    _ratio("memory, FastAPI, 4 workers", 0.35, "uvicorn", "memory-fast-4", metric="pss_mib"),
    _ratio(
        "start to first answer, FastAPI, 4 workers", 0.5, "uvicorn", "startup", metric="startup_ms"
    ),
)


def compared() -> dict[str, set[str]]:
    """Return the cases that goals are about, each with the servers that are compared in it."""
    found: dict[str, set[str]] = {}
    for goal in GOALS:
        found.setdefault(goal.case, set()).update(goal.compares)
    return found
