"""The table of cases: what is asked of each server, in which setting, and what is measured. Pure."""

from dataclasses import dataclass
from enum import Enum, auto


class Ability(Enum):
    """What a server must offer before a case makes sense for it."""

    FIXED = auto()  # answers any request, without an application
    APP = auto()
    WEBSOCKET = auto()
    DEFLATE = auto()
    TLS = auto()
    WORKERS = auto()


class Kind(Enum):
    """How a case is measured, and what one unit of it is."""

    WRK = "request"  # closed loop, by wrk
    CLOSED = "request, own client"  # closed loop, by our client, which counts between two marks
    ECHO = "message"
    BROADCAST = "delivery"
    IDLE = "connection"
    MEMORY = "process tree"
    STARTUP = "start"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a server is started. Cases with an equal setting share one start in each round."""

    app: str = "plain"
    """A module of benchmarks/suite/apps."""
    workers: int = 1
    tls: bool = False
    websocket: bool = False
    deflate: bool = False
    many: bool = False
    """Limits and keep-alive timeouts are raised for thousands of connections."""
    pinned: bool = True
    fresh: bool = False
    """A start of its own: what other cases have made a process allocate, and keep, does not count as free."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    title: str
    setting: Setting = Setting()
    kind: Kind = Kind.WRK
    path: str = "/"
    headers: int = 7
    """Request headers, with Host."""
    connections: int = 64
    body_bytes: int = 0
    """Size of the request body, or of a WebSocket message."""
    depth: int = 1
    """Requests on the way at once on each connection."""
    closes: bool = False
    """Each request has a connection of its own."""
    latency_rate: int = 0
    """Requests per second of the open-loop run; 0: none is made."""
    needs: frozenset[Ability] = frozenset({Ability.APP})
    only: frozenset[str] | None = None
    """Names of the servers that take part; None: all."""
    growth: tuple[tuple[str, float], ...] = ()
    """The curves this case is a point of, with its place on the axis."""
    once: bool = False
    """Measured in the first round only: slow, and steady enough."""
    own_share: bool = False
    """What the application costs without a server is measured too."""


BROWSER_HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-US,en;q=0.5",
    "Cookie": "session=0123456789abcdef0123456789abcdef",
    "Cache-Control": "no-cache",
}
"""With Host these are the seven headers of a plain browser request."""


def request_headers(count: int) -> dict[str, str]:
    """Return the headers beside Host of a request with `count`: those of a browser, then invented ones.

    A count of 0 means nothing that the client could leave out: Host alone, which HTTP/1.1 demands.
    """
    names = list(BROWSER_HEADERS.items())
    extra = [
        (f"X-Forwarded-Note-{n}", f"value {n} of a proxy or a tracing tool") for n in range(count)
    ]
    return dict([*names, *extra][: max(0, count - 1)])


FIXED = frozenset({Ability.FIXED})
SOCKETS = frozenset({Ability.APP, Ability.WEBSOCKET})
DEFLATED = SOCKETS | {Ability.DEFLATE}
FORKING = frozenset({Ability.APP, Ability.WORKERS})
GROWTH_SERVERS = frozenset({"asgireload", "uvicorn", "granian", "peregrine", "floor"})
"""Curves are drawn for these only: the whole suite has to end while somebody waits for it."""

PLAIN = Setting()
MANY = Setting(many=True)
FOUR = Setting(workers=4)
FASTAPI = Setting(app="fast")
DJANGO = Setting(app="classic")
WEBSOCKET = Setting(app="sockets", websocket=True)
DEFLATE = Setting(app="sockets", websocket=True, deflate=True)

HEADER_COUNTS = (0, 7, 20, 50)
MESSAGE_SIZES = {"64": 64, "4k": 4096, "64k": 65536}
CONNECTION_COUNTS = (1, 10, 100, 1000, 10_000)
BODY_SIZES = {"1k": 1 << 10, "10k": 10 << 10, "100k": 100 << 10, "1m": 1 << 20, "10m": 10 << 20}
MEMORY_WORKERS = (1, 4, 16)


def _hello(count: int) -> Case:
    grown: tuple[tuple[str, float], ...] = (("headers", count),)
    if count == 7:
        grown += (("workers", 1),)
    return Case(
        f"hello-{count}",
        "hello, Host alone" if count == 0 else f"hello, {count} request headers",
        headers=count,
        needs=FIXED,
        only=GROWTH_SERVERS if count == 50 else None,
        latency_rate=2000 if count == 7 else 0,
        growth=grown,
    )


def _download(name: str, size: int) -> Case:
    return Case(
        f"download-{name}",
        f"download {name.upper()}B in one piece",
        path=f"/bytes/{size}",
        connections=16,
        only=None if name == "1m" else GROWTH_SERVERS,
        latency_rate=100 if name == "1m" else 0,
        growth=(("body bytes", size),),
    )


def _echo(name: str, size: int, *, deflate: bool) -> Case:
    needs = DEFLATED if deflate else SOCKETS
    if size == 64 and not deflate:
        needs = frozenset({Ability.WEBSOCKET})  # the floor takes part too
    return Case(
        f"ws-{name}" + ("-deflate" if deflate else ""),
        f"WebSocket echo {name.upper()}B" + (", deflated" if deflate else ""),
        DEFLATE if deflate else WEBSOCKET,
        Kind.ECHO,
        path="/echo",
        body_bytes=size,
        needs=needs,
    )


def _memory(app: str, title: str, workers: int) -> Case:
    return Case(
        f"memory-{app}-{workers}",
        f"memory, {title}, {workers} worker{'s' if workers > 1 else ''}",
        Setting(app=app, workers=workers, pinned=False),
        Kind.MEMORY,
        needs=FORKING if workers > 1 else frozenset({Ability.APP}),
        once=True,
    )


CASES: tuple[Case, ...] = (
    *map(_hello, HEADER_COUNTS),
    Case("pipelined", "hello, 16 requests pipelined", depth=16, needs=FIXED),
    Case("json-10k", "JSON 10 KB", path="/json", latency_rate=1000),
    Case("post-1k", "POST 1 KB", path="/upload", body_bytes=1024),
    Case(
        "upload-1m",
        "upload 1 MB",
        path="/upload",
        body_bytes=1 << 20,
        connections=16,
        latency_rate=100,
    ),
    *(_download(name, size) for name, size in BODY_SIZES.items()),
    Case(
        "stream-64", "download 1 MB in 64 pieces", path=f"/stream/{1 << 20}", connections=16,
        latency_rate=50,
    ),
    Case("pathsend-10m", "file of 10 MB by path", path="/file", connections=16),
    Case("await-sleep", "await asyncio.sleep(0)", path="/sleep", own_share=True),
    Case("await-queue", "await a queue", path="/queue", own_share=True, latency_rate=1000),
    Case("await-pool", "await a connection pool", path="/pool", own_share=True),
    Case("connection-1", "new connection per request, 1 worker", closes=True, needs=FIXED),
    Case(
        "connection-4", "new connection per request, 4 workers", FOUR, closes=True, needs=FORKING
    ),
    Case(
        "workers-2", "hello, 2 workers", Setting(workers=2), needs=FORKING, only=GROWTH_SERVERS,
        growth=(("workers", 2),),
    ),
    Case(
        "workers-4", "hello, 4 workers", FOUR, needs=FORKING, only=GROWTH_SERVERS,
        growth=(("workers", 4),),
    ),
    Case("fastapi", "FastAPI hello", FASTAPI, own_share=True, latency_rate=500),
    Case("django", "Django hello", DJANGO, own_share=True, latency_rate=500),
    Case(
        "tls", "hello over TLS", Setting(tls=True), needs=frozenset({Ability.APP, Ability.TLS}),
    ),
    *(_echo(name, size, deflate=False) for name, size in MESSAGE_SIZES.items()),
    Case(
        "ws-broadcast", "one message to 1,000 WebSockets", WEBSOCKET, Kind.BROADCAST,
        path="/broadcast", connections=1000, body_bytes=64, needs=SOCKETS,
    ),
    *(_echo(name, size, deflate=True) for name, size in MESSAGE_SIZES.items()),
    *(
        Case(
            f"connections-{count}", f"hello, {count:,} connections", MANY, Kind.CLOSED,
            connections=count, needs=FIXED, only=GROWTH_SERVERS, once=True,
            growth=(("connections", count),),
        )
        for count in CONNECTION_COUNTS
    ),
    Case(
        "idle-10000", "10,000 idle connections", Setting(many=True, fresh=True), Kind.IDLE,
        connections=10_000, once=True,
    ),
    *(_memory("plain", "plain ASGI", workers) for workers in MEMORY_WORKERS),
    *(_memory("fast", "FastAPI", workers) for workers in MEMORY_WORKERS),
    Case(
        "startup", "start to first answer, FastAPI, 4 workers",
        Setting(app="fast", workers=4, pinned=False), Kind.STARTUP, needs=FORKING,
    ),
)  # fmt: skip

QUICK_CASES = ("hello-7", "post-1k", "download-1m", "connection-1", "await-queue", "ws-64")
QUICK_SERVERS = ("asgireload", "uvicorn", "granian")


def choose(patterns: str) -> list[Case]:
    """Return the cases that are named, or whose name begins with a word of the comma-separated list.

    Raise ValueError, naming what there is, for a word that fits none.
    """
    found = []
    for word in patterns.split(","):
        fitting = [c for c in CASES if c.name == word] or [
            c for c in CASES if c.name.startswith(word)
        ]
        if not word or not fitting:
            known = ", ".join(case.name for case in CASES)
            raise ValueError(f"no case is called {word!r}; there are: {known}")
        found += fitting
    return [case for case in CASES if case in found]
