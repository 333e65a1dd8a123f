"""The option table: every option is declared here, once.

Flags, `ASGIRELOAD_*` variables, file keys, validation, `--help` and docs/reference/options.md are
made from these rows. Reading and merging the sources is `sources.py`; rules between options are
`rules.py`.

The table is the class `Config` itself: a frozen dataclass whose fields carry their row as metadata.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asgireload.config.kinds import (
    Choice,
    Duration,
    Header,
    Integer,
    Kind,
    Optional,
    Several,
    Size,
    Switch,
    Text,
)

VARIABLE_PREFIX = "ASGIRELOAD_"
FOREIGN_VARIABLE_PREFIX = "UVICORN_"
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row of the table."""

    name: str = ""
    """The field's name, which is also the file key; set when the table is read."""
    kind: Kind
    default: Any = None
    group: str
    help: str
    aliases: tuple[str, ...] = ()
    """More flags with the same meaning and kind."""
    scaled_aliases: Mapping[str, Kind] = field(default_factory=dict)
    """Flags of other servers that set this option in another unit."""
    uvicorn: str | None = None
    """uvicorn's keyword for the same option; `UVICORN_<keyword>` is read in place of our variable."""
    uvicorn_variable: bool = True
    """False where uvicorn's variable is written in another syntax."""
    default_variable: str | None = None
    """A variable that platforms set for everybody: it gives the default, so what is said on purpose
    anywhere else wins."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def foreign_variable(self) -> str | None:
        if self.uvicorn is None or not self.uvicorn_variable:
            return None
        return FOREIGN_VARIABLE_PREFIX + self.uvicorn.upper()

    @property
    def is_pair(self) -> bool:
        """True for `--flag/--no-flag`."""
        kind = self.kind.item if isinstance(self.kind, Optional) else self.kind
        return isinstance(kind, Switch) and not kind.valued


def _row(kind: Kind, default: object, group: str, text: str, **more: Any) -> Any:
    """Declare a field of Config with its row."""
    row = Option(kind=kind, default=default, group=group, help=text, **more)
    return field(default=default, metadata={"option": row})


APPLICATION = "Application"
ADDRESSES = "Addresses"
PROTOCOLS = "Protocols"
LIMITS = "Limits and timeouts"
WORKERS = "Workers"
RELOADING = "Reloading"
STOPPING = "Draining and stopping"
ADMIN = "Administration"
DEVELOPMENT = "Development"
LOGGING = "Logging"

GROUPS = (
    APPLICATION,
    ADDRESSES,
    PROTOCOLS,
    LIMITS,
    WORKERS,
    RELOADING,
    STOPPING,
    ADMIN,
    DEVELOPMENT,
    LOGGING,
)

_FILE = Text("FILE", "a path")
_DIRECTORY = Text("DIRECTORY", "a path")
_SECONDS = Duration()
_SECONDS_ABOVE_ZERO = Duration(positive=True)
_ASGI3_ONLY = (
    "asgireload serves ASGI 3 applications; wrap an ASGI 2 application in"
    " asgiref.compatibility.guarantee_single_callable"
)
_NO_WSGI = "asgireload serves ASGI 3 applications; wrap a WSGI application in a2wsgi.WSGIMiddleware"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The frozen result: one value for each option. Parts receive the slice they use.

    Built directly it is not checked: `load_config` and `config_from_keywords` in `config.py` check.
    """

    app: str = _row(
        Text("APP", "an import string <module>:<attribute>"),
        "",
        APPLICATION,
        "Application to serve, as <module>:<attribute>; the same as the first argument.",
        uvicorn="app",
    )
    factory: bool = _row(
        Switch(),
        False,
        APPLICATION,
        "Treat the attribute as a function that returns the application.",
        uvicorn="factory",
    )
    app_dir: str = _row(
        _DIRECTORY,
        "",
        APPLICATION,
        "Look for the application in this directory, put first on the import path."
        " Default: where the server was started.",
        uvicorn="app_dir",
    )
    lifespan: str = _row(
        Choice(("auto", "on", "off")),
        "auto",
        APPLICATION,
        "Run the lifespan protocol: on requires the application to support it, auto asks it.",
        uvicorn="lifespan",
    )
    interface: str = _row(
        Choice(
            ("auto", "asgi3"),
            refused={"asgi2": _ASGI3_ONLY, "wsgi": _NO_WSGI},
        ),
        "auto",
        APPLICATION,
        "Interface of the application; only ASGI 3 is served.",
        uvicorn="interface",
    )
    env_file: str | None = _row(
        Optional(_FILE),
        None,
        APPLICATION,
        "Put the variables of this file into the application's environment, again at each reload."
        " It does not configure the server.",
        uvicorn="env_file",
    )
    root_path: str = _row(
        Text("PATH", "a path"),
        "",
        APPLICATION,
        "ASGI root_path: the prefix under which a proxy serves the application.",
        uvicorn="root_path",
    )

    host: str = _row(
        Text("HOST", "a host name or address"),
        "127.0.0.1",
        ADDRESSES,
        "Listen on this host; :: answers IPv4 too.",
        uvicorn="host",
    )
    port: int = _row(
        Integer(0, 65535),
        8000,
        ADDRESSES,
        "Listen on this port; 0 takes a free one and reports it.",
        uvicorn="port",
        default_variable="PORT",
    )
    uds: str | None = _row(
        Optional(_FILE), None, ADDRESSES, "Listen on this Unix socket.", uvicorn="uds"
    )
    fd: int | None = _row(
        Optional(Integer(0)),
        None,
        ADDRESSES,
        "Accept from the listening socket inherited as this descriptor.",
        uvicorn="fd",
    )
    bind: tuple[str, ...] = _row(
        Several(Text("ADDRESS", "HOST:PORT, [V6]:PORT, unix:PATH or fd://N")),
        (),
        ADDRESSES,
        "Listen on HOST:PORT, [V6]:PORT, unix:PATH or fd://N; repeat for several."
        " Replaces --host, --port, --uds and --fd.",
        aliases=("-b",),
    )
    backlog: int = _row(
        Integer(1, 2**31 - 1),
        2048,
        ADDRESSES,
        "Connections the kernel may queue for each listening socket; net.core.somaxconn caps it.",
        uvicorn="backlog",
    )
    accept: str = _row(
        Choice(("shared", "per-slot")),
        "shared",
        ADDRESSES,
        "How workers share a TCP address: one socket for all, or a SO_REUSEPORT socket a slot.",
    )

    loop: str = _row(
        Choice(("auto", "asyncio", "uvloop"), substitutes={"zuvloop": "auto"}),
        "auto",
        PROTOCOLS,
        "Event loop; auto takes uvloop when it is installed.",
        uvicorn="loop",
    )
    http: str = _row(
        Choice(("auto", "h11", "httptools"), substitutes={"zttp": "auto"}),
        "auto",
        PROTOCOLS,
        "HTTP parser; auto takes httptools when it is installed.",
        uvicorn="http",
    )
    ws: str = _row(
        Choice(
            ("auto", "none"),
            substitutes={"websockets": "auto", "websockets-sansio": "auto", "wsproto": "auto"},
        ),
        "auto",
        PROTOCOLS,
        "WebSocket; none makes of a handshake an ordinary request.",
        uvicorn="ws",
    )
    ws_max_size: int = _row(
        Size(),
        16 * MEBIBYTE,
        PROTOCOLS,
        "Largest WebSocket message in bytes, decompressed; a larger one closes with 1009.",
        uvicorn="ws_max_size",
    )
    ws_max_frame_size: int | None = _row(
        Optional(Size()),
        None,
        PROTOCOLS,
        "Largest WebSocket frame in bytes, as received; a larger one closes with 1009. None: as large"
        " as a message.",
    )
    ws_max_fragments: int = _row(
        Integer(1),
        1024,
        PROTOCOLS,
        "Most fragments of one WebSocket message; more close with 1008.",
    )
    ws_max_inflation_ratio: int | None = _row(
        Optional(Integer(1)),
        200,
        PROTOCOLS,
        "How many times larger than received a compressed WebSocket message beyond 1 MiB may become;"
        " more closes with 1009. None: only the message size counts.",
    )
    ws_max_queue: int = _row(
        Integer(1),
        32,
        PROTOCOLS,
        "WebSocket messages that may wait for the application; then the socket is not read.",
        uvicorn="ws_max_queue",
    )
    ws_ping_interval: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        20.0,
        PROTOCOLS,
        "Seconds between WebSocket pings; none sends no pings.",
        uvicorn="ws_ping_interval",
    )
    ws_ping_timeout: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        20.0,
        PROTOCOLS,
        "Seconds to wait for the pong before the WebSocket is closed; none waits for ever.",
        uvicorn="ws_ping_timeout",
    )
    ws_per_message_deflate: bool = _row(
        Switch(valued=True),
        True,
        PROTOCOLS,
        "Offer permessage-deflate to WebSocket clients.",
        uvicorn="ws_per_message_deflate",
    )
    header: tuple[tuple[str, str], ...] = _row(
        Several(Header(), separator="\n"),
        (),
        PROTOCOLS,
        "Add a header to every response; repeat for several. In a variable, one on each line.",
        uvicorn="headers",
        uvicorn_variable=False,
    )
    server_header: bool = _row(
        Switch(), True, PROTOCOLS, "Send the Server header.", uvicorn="server_header"
    )
    date_header: bool = _row(
        Switch(), True, PROTOCOLS, "Send the Date header.", uvicorn="date_header"
    )

    timeout_keep_alive: float = _row(
        _SECONDS,
        5.0,
        LIMITS,
        "Seconds an idle keep-alive connection is kept.",
        aliases=("--keep-alive",),
        uvicorn="timeout_keep_alive",
    )
    limit_concurrency: int | None = _row(
        Optional(Integer(1)),
        None,
        LIMITS,
        "Connections and exchanges a worker serves at once before it answers 503.",
        uvicorn="limit_concurrency",
    )

    workers: int = _row(
        Integer(1, 512),
        1,
        WORKERS,
        "Number of workers.",
        aliases=("-w",),
        uvicorn="workers",
        default_variable="WEB_CONCURRENCY",
    )
    preload: bool | None = _row(
        Optional(Switch()),
        None,
        WORKERS,
        "Import the application once and fork workers from it. Default: yes, unless its import"
        " starts threads or opens connections.",
    )
    boot_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        120.0,
        WORKERS,
        "Seconds a worker may take from its start until it is ready, import and lifespan included.",
    )
    timeout_worker_healthcheck: float = _row(
        _SECONDS_ABOVE_ZERO,
        30.0,
        WORKERS,
        "Seconds without a heartbeat after which a worker counts as stalled and is replaced.",
        uvicorn="timeout_worker_healthcheck",
    )
    max_requests: int | None = _row(
        Optional(Integer(1)),
        None,
        WORKERS,
        "Recycle a worker after this many requests.",
        aliases=("--limit-max-requests",),
        uvicorn="limit_max_requests",
    )
    max_requests_jitter: int = _row(
        Integer(0),
        0,
        WORKERS,
        "Largest random number added to --max-requests, so that workers are not recycled together.",
        aliases=("--limit-max-requests-jitter",),
        uvicorn="limit_max_requests_jitter",
    )
    max_rss: int | None = _row(
        Optional(Size()),
        None,
        WORKERS,
        "Recycle a worker whose resident memory is above this many bytes, or 512M, or 2G.",
        scaled_aliases={"--workers-max-rss": Optional(Size(unit=MEBIBYTE))},
    )
    worker_lifetime: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        None,
        WORKERS,
        "Recycle a worker at this age.",
        aliases=("--workers-lifetime",),
    )
    give_up_after: float = _row(
        _SECONDS_ABOVE_ZERO,
        300.0,
        WORKERS,
        "End the server after this many seconds in which workers kept dying and none served.",
    )

    probation: float = _row(
        _SECONDS,
        1.0,
        RELOADING,
        "Seconds the first worker of a new generation serves alone before the roll goes on.",
    )
    health_path: str | None = _row(
        Optional(Text("PATH", "a path that starts with /")),
        None,
        RELOADING,
        "Path that the first worker of a new generation must answer with a 2xx or 3xx status"
        " before it serves.",
    )
    surge: int = _row(
        Integer(1, 64), 1, RELOADING, "Workers a reload may have more than --workers."
    )
    drain_overlap: bool = _row(
        Switch(),
        False,
        RELOADING,
        "Let the next slot begin while old workers still drain.",
    )
    keep_generations: int = _row(
        Integer(0, 8),
        1,
        RELOADING,
        "Old generations kept asleep in memory, to go back to.",
    )
    revert_window: float = _row(
        _SECONDS,
        60.0,
        RELOADING,
        "Seconds after a reload during which a crash loop takes it back; 0 never does.",
    )

    drain_timeout: float = _row(
        _SECONDS,
        20.0,
        STOPPING,
        "Seconds a draining worker may take to finish what is open.",
        aliases=("--timeout-graceful-shutdown", "--graceful-timeout"),
        uvicorn="timeout_graceful_shutdown",
    )
    drain_grace: float = _row(
        _SECONDS,
        2.0,
        STOPPING,
        "Seconds a draining worker still answers on connections that are idle; at most the drain's.",
    )
    lifespan_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        5.0,
        STOPPING,
        "Seconds for the application's lifespan shutdown, after the drain.",
    )
    ws_close_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        2.0,
        STOPPING,
        "Seconds to wait for a client's answer to a WebSocket close.",
    )

    pid_file: str | None = _row(
        Optional(_FILE),
        None,
        ADMIN,
        "Write the supervisor's process id to this file.",
        aliases=("-p", "--pid"),
    )
    admin_port: int | None = _row(
        Optional(Integer(0, 65535)),
        None,
        ADMIN,
        "Serve the admin pages and API on this TCP port.",
    )
    admin_host: str = _row(
        Text("HOST", "a host name or address"),
        "127.0.0.1",
        ADMIN,
        "Host of the admin port; another than loopback needs --admin-token-file.",
    )
    admin_socket: str = _row(
        Text("FILE", "a path, auto or none"),
        "auto",
        ADMIN,
        "Unix socket for `asgireload reload` and its like; auto takes a private place, none opens"
        " none.",
    )
    admin_token_file: str | None = _row(
        Optional(_FILE),
        None,
        ADMIN,
        "File with the bearer token that the admin port asks for.",
    )

    reload: bool = _row(
        Switch(), False, DEVELOPMENT, "Reload when a file changes.", uvicorn="reload"
    )
    reload_dir: tuple[str, ...] = _row(
        Several(_DIRECTORY, separator=":"),
        (),
        DEVELOPMENT,
        "Watch this directory; repeat for several. Default: the working directory.",
        uvicorn="reload_dirs",
    )
    reload_include: tuple[str, ...] = _row(
        Several(Text("PATTERN", "a file pattern")),
        (),
        DEVELOPMENT,
        "Also reload for files that match; repeat for several. Python files always count.",
        uvicorn="reload_includes",
    )
    reload_exclude: tuple[str, ...] = _row(
        Several(Text("PATTERN", "a file pattern")),
        (),
        DEVELOPMENT,
        "Do not reload for files or directories that match; repeat for several.",
        uvicorn="reload_excludes",
    )
    reload_delay: float = _row(
        _SECONDS,
        0.25,
        DEVELOPMENT,
        "Seconds without further changes to wait for before reloading.",
        uvicorn="reload_delay",
    )

    log_level: str = _row(
        Choice(("critical", "error", "warning", "info", "debug", "trace")),
        "info",
        LOGGING,
        "Least severe messages to log.",
        uvicorn="log_level",
    )
    access_log: bool = _row(
        Switch(), True, LOGGING, "Log each request on standard output.", uvicorn="access_log"
    )
    use_colors: bool | None = _row(
        Optional(Switch()),
        None,
        LOGGING,
        "Colour the log. Default: on a terminal; NO_COLOR and FORCE_COLOR are honoured.",
        uvicorn="use_colors",
    )


def _read_table() -> dict[str, Option]:
    """Return the rows of Config by name, in the order of declaration."""
    return {
        entry.name: dataclasses.replace(entry.metadata["option"], name=entry.name)
        for entry in dataclasses.fields(Config)
    }


OPTIONS: Mapping[str, Option] = _read_table()
