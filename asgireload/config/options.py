"""The option table, in which every option is declared once.

Flags, `ASGIRELOAD_*` variables, file keys, validation, `--help` and docs/reference/options.md are made from its
rows. `sources.py` reads the sources, `config.py` merges them, and `rules.py` has the rules between options.

The table is the class `Config` itself: each field is declared by its row.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from asgireload.config.kinds import (
    Choice,
    Duration,
    FileMode,
    FileOwner,
    Header,
    HeaderName,
    HostPattern,
    Integer,
    Kind,
    Network,
    Optional,
    Secret,
    Several,
    Size,
    Switch,
    Text,
    is_secret,
)

VARIABLE_PREFIX = "ASGIRELOAD_"
FOREIGN_VARIABLE_PREFIX = "UVICORN_"
KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the option table."""

    name: str = ""
    """The name of the field of Config, which is also the file key; set after the class is made."""
    kind: Kind
    default: Any = None
    group: str
    help: str
    aliases: tuple[str, ...] = ()
    """Other flags with the same meaning and kind."""
    scaled_aliases: Mapping[str, Kind] = msgspec.field(default_factory=dict)
    """Flags of other servers that set this option in another unit, with their kinds."""
    uvicorn: str | None = None
    """uvicorn's keyword for the same option; `UVICORN_<keyword>` is read if the option's variable is not set."""
    uvicorn_variable: bool = True
    """False if uvicorn's variable has another syntax and is not read."""
    default_variable: str | None = None
    """A variable that platforms set for all programs, such as PORT. It only replaces the default, so all other
    sources override it."""

    @property
    def flag(self) -> str:
        """The flag on the command line, such as `--drain-timeout`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable, such as `ASGIRELOAD_DRAIN_TIMEOUT`."""
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def foreign_variable(self) -> str | None:
        """uvicorn's environment variable for the option, or None."""
        if self.uvicorn is None or not self.uvicorn_variable:
            return None
        return FOREIGN_VARIABLE_PREFIX + self.uvicorn.upper()

    @property
    def is_pair(self) -> bool:
        """True for `--flag/--no-flag`."""
        kind = self.kind.item if isinstance(self.kind, Optional) else self.kind
        return isinstance(kind, Switch) and not kind.valued


_rows: list[Option] = []
"""The rows of the fields of Config, in the order of declaration."""


def _row(kind: Kind, default: object, group: str, text: str, **more: Any) -> Any:
    """Add the row of a field of Config to the table; return the field's default."""
    _rows.append(Option(kind=kind, default=default, group=group, help=text, **more))
    return default


APPLICATION = "Application"
ADDRESSES = "Addresses"
TLS = "TLS"
PROXIES = "Proxies"
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
    TLS,
    PROXIES,
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
_LOG_FILE = Text("FILE", "a path, or - for the standard stream")
_DIRECTORY = Text("DIRECTORY", "a path")
_NETWORKS = Several(Network(), always_splits=True)
_SECONDS = Duration()
_SECONDS_ABOVE_ZERO = Duration(positive=True)
_ASGI3_ONLY = (
    "asgireload serves ASGI 3 applications; wrap an ASGI 2 application in"
    " asgiref.compatibility.guarantee_single_callable"
)
_WORD_OF_A_BIND = re.compile(r"[a-z]+(=.*)?")
"""A word after an address, such as `tls` or `cert=/etc/a.pem`; an address itself has a colon or is a number."""
_OLD_TLS = "TLS 1.0 and 1.1 are withdrawn (RFC 8996); the lowest version is tls1.2"
_NO_SSL = "SSL and the client's side of TLS are not for a server; give tls1.2 or tls1.3"
_NO_WSGI = "asgireload serves ASGI 3 applications; wrap a WSGI application in a2wsgi.WSGIMiddleware"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration: one value for each option. Other parts receive the slice that they use.

    A Config that is made directly is not checked; `load_config` and `config_from_keywords` in `config.py` check.
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
        "Directory of the application; it is put first on the import path. Default: the directory in which"
        " the server was started.",
        uvicorn="app_dir",
    )
    lifespan: str = _row(
        Choice(("auto", "on", "off")),
        "auto",
        APPLICATION,
        "Run the lifespan protocol: on requires that the application supports it, auto detects whether it does.",
        uvicorn="lifespan",
    )
    interface: str = _row(
        Choice(
            ("auto", "asgi3"),
            spellings={"asgi": "asgi3"},
            refused={
                "asgi2": _ASGI3_ONLY,
                "asginl": "granian's asginl is ASGI 3 without lifespan; give --lifespan off",
                "rsgi": "RSGI is granian's own interface; give the framework's ASGI application",
                "wsgi": _NO_WSGI,
            },
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
        "Put the variables of this file into the application's environment; it is read again at"
        " each reload. These variables do not configure the server.",
        uvicorn="env_file",
    )
    root_path: str = _row(
        Text("PATH", "a path"),
        "",
        APPLICATION,
        "ASGI root_path: the prefix under which a proxy serves the application.",
        uvicorn="root_path",
    )
    sendfile: bool = _row(
        Switch(),
        False,
        APPLICATION,
        "Offer the ASGI extensions http.response.pathsend and http.response.zerocopysend: the kernel sends files."
        " Frameworks use them as soon as they are offered, and then middleware that compresses, counts or rewrites"
        " bodies does not see those of files.",
    )

    host: str = _row(
        Text("HOST", "a host name or address"),
        "127.0.0.1",
        ADDRESSES,
        "Listen on this host; :: accepts IPv4 as well.",
        uvicorn="host",
    )
    port: int = _row(
        Integer(0, 65535),
        8000,
        ADDRESSES,
        "Listen on this port; 0 selects a free port and logs it.",
        uvicorn="port",
        default_variable="PORT",
    )
    uds: str | None = _row(
        Optional(_FILE), None, ADDRESSES, "Listen on this Unix socket.", uvicorn="uds"
    )
    uds_mode: str | None = _row(
        Optional(FileMode()),
        None,
        ADDRESSES,
        "Permissions of Unix sockets, such as 0660. Default: those of the socket that is replaced, else 0666.",
    )
    uds_owner: str | None = _row(
        Optional(FileOwner()),
        None,
        ADDRESSES,
        "Owner of Unix sockets: USER, USER:GROUP or :GROUP. Default: the user that runs the server.",
    )
    fd: int | None = _row(
        Optional(Integer(0)),
        None,
        ADDRESSES,
        "Accept from the listening socket inherited as this descriptor.",
        uvicorn="fd",
    )
    bind: tuple[str, ...] = _row(
        Several(
            Text("ADDRESS", "HOST:PORT, [V6]:PORT, unix:PATH or fd://N"), attached=_WORD_OF_A_BIND
        ),
        (),
        ADDRESSES,
        "Listen on HOST:PORT, [V6]:PORT, unix:PATH or fd://N; repeat for several. Words may follow the"
        " address: plain, tls, cert=FILE, key=FILE, proxy; for unix:PATH also mode=0660 and"
        " owner=USER:GROUP. Replaces --host, --port, --uds and --fd.",
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
        "How workers share a TCP address: one socket for all of them, or one SO_REUSEPORT socket"
        " for each slot.",
    )
    defer_accept: bool = _row(
        Switch(),
        True,
        ADDRESSES,
        "Leave a TCP connection in the kernel until its first bytes have arrived, for a second"
        " at most. Not used under --reload, nor for inherited sockets.",
    )

    ssl_certfile: str | None = _row(
        Optional(_FILE),
        None,
        TLS,
        "Serve TLS with the certificate in this PEM file, followed by its intermediates. It is"
        " read again when it changes.",
        aliases=("--certfile",),
        uvicorn="ssl_certfile",
    )
    ssl_keyfile: str | None = _row(
        Optional(_FILE),
        None,
        TLS,
        "PEM file with the certificate's private key. Default: the key is in --ssl-certfile.",
        aliases=("--keyfile",),
        uvicorn="ssl_keyfile",
    )
    ssl_keyfile_password: str | None = _row(
        Optional(Secret("PASSWORD")),
        None,
        TLS,
        "Password of the private keys. Other users of the machine can read a command line:"
        " prefer --ssl-keyfile-password-file.",
        uvicorn="ssl_keyfile_password",
    )
    ssl_keyfile_password_file: str | None = _row(
        Optional(_FILE),
        None,
        TLS,
        "File with the password of the private keys.",
    )
    ssl_sni: tuple[str, ...] = _row(
        Several(Text("CERTFILE[:KEYFILE]", "CERTFILE or CERTFILE:KEYFILE"), separator="\n"),
        (),
        TLS,
        "Another certificate, for clients that request a name that it contains; repeat for several."
        " Other clients get --ssl-certfile.",
    )
    ssl_version: str = _row(
        Choice(
            ("tls1.2", "tls1.3"),
            spellings={
                # Python's constants for the highest version that both sides support, by number and by name; the
                # lowest version that is allowed here is TLS 1.2.
                **dict.fromkeys(("2", "17", "tls", "tls_server", "sslv23"), "tls1.2"),
                **dict.fromkeys(("5", "1.2", "tlsv1.2", "tlsv1_2"), "tls1.2"),
                **dict.fromkeys(("1.3", "tlsv1.3", "tlsv1_3"), "tls1.3"),
            },
            refused={
                **dict.fromkeys(("3", "4", "tlsv1", "tlsv1_1", "tls1.0", "tls1.1"), _OLD_TLS),
                **dict.fromkeys(("0", "1", "16", "sslv2", "sslv3", "tls_client"), _NO_SSL),
            },
        ),
        "tls1.2",
        TLS,
        "Lowest version of TLS that clients may use.",
        uvicorn="ssl_version",
    )
    ssl_cert_reqs: str = _row(
        Choice(
            ("none", "optional", "required"),
            spellings={
                "0": "none",
                "1": "optional",
                "2": "required",
                "cert_none": "none",
                "cert_optional": "optional",
                "cert_required": "required",
            },
        ),
        "none",
        TLS,
        "Ask clients for a certificate: optional verifies one that is sent, required refuses"
        " clients without one.",
        aliases=("--cert-reqs",),
        uvicorn="ssl_cert_reqs",
    )
    ssl_ca_certs: str | None = _row(
        Optional(_FILE),
        None,
        TLS,
        "PEM file with the authorities that client certificates are verified against.",
        aliases=("--ca-certs",),
        uvicorn="ssl_ca_certs",
    )
    ssl_ciphers: str | None = _row(
        Optional(Text("CIPHERS", "a cipher list as OpenSSL reads it")),
        None,
        TLS,
        "Ciphers for TLS 1.2, as OpenSSL reads them. Default: OpenSSL's.",
        aliases=("--ciphers",),
        uvicorn="ssl_ciphers",
    )
    ssl_context_factory: str | None = _row(
        Optional(Text("MODULE:CALLABLE", "an import string <module>:<attribute>")),
        None,
        TLS,
        "Function that makes the ssl.SSLContext in each worker. It is called with the"
        " configuration and a function that returns the context that the options describe.",
        uvicorn="ssl_context_factory",
        uvicorn_variable=False,
    )
    proxy_headers: bool = _row(
        Switch(),
        True,
        PROXIES,
        "Take client and scheme from forwarded headers of trusted proxies.",
        uvicorn="proxy_headers",
    )
    forwarded_allow_ips: tuple[str, ...] = _row(
        _NETWORKS,
        ("127.0.0.1", "::1"),
        PROXIES,
        "Proxies whose forwarded headers are trusted: addresses, networks, unix for Unix"
        " sockets, or * for all peers, which lets every client forge its address.",
        uvicorn="forwarded_allow_ips",
        default_variable="FORWARDED_ALLOW_IPS",
    )
    forwarded_headers: str = _row(
        Choice(("x-forwarded", "forwarded")),
        "x-forwarded",
        PROXIES,
        "Which headers the proxies write: the X-Forwarded-* family, or Forwarded (RFC 7239)."
        " Headers of the other family are ignored, because a client may have written them.",
    )
    forwarded_fields: tuple[str, ...] = _row(
        Several(
            Choice(("for", "proto", "host", "port", "prefix")),
            always_splits=True,
        ),
        ("for", "proto"),
        PROXIES,
        "Which fields of these headers are trusted: for (the client), proto (the scheme), host and port"
        " (of the Host header), prefix (root_path). Name only those that the proxy always writes.",
    )
    proxy_protocol: bool = _row(
        Switch(),
        False,
        PROXIES,
        "Expect a PROXY header, version 1 or 2, at the start of every connection on every address.",
    )
    proxy_protocol_allow_from: tuple[str, ...] = _row(
        _NETWORKS,
        ("127.0.0.1", "::1"),
        PROXIES,
        "Proxies that may send PROXY headers, as in --forwarded-allow-ips; the connections of others"
        " are closed.",
        aliases=("--proxy-allow-from",),
    )
    allowed_hosts: tuple[str, ...] = _row(
        Several(HostPattern(), always_splits=True),
        (),
        PROXIES,
        "Hosts that are served, such as example.com, *.example.com, localhost; requests for"
        " others are answered with 400. Default: any.",
    )

    loop: str = _row(
        Choice(("auto", "asyncio", "uvloop"), substitutes={"zuvloop": "auto"}),
        "auto",
        PROTOCOLS,
        "Event loop; auto selects uvloop if it is installed.",
        uvicorn="loop",
    )
    http: str = _row(
        Choice(("auto", "builtin", "h11", "httptools"), substitutes={"zttp": "auto"}),
        "auto",
        PROTOCOLS,
        "Parser of header lines: the built-in one (auto, builtin) or a library. All of them accept the"
        " same grammar.",
        uvicorn="http",
    )
    ws: str = _row(
        Choice(
            ("auto", "builtin", "wsproto", "none"),
            substitutes={"websockets": "auto", "websockets-sansio": "auto"},
        ),
        "auto",
        PROTOCOLS,
        "Implementation of WebSocket frames: the built-in one (auto, builtin) or wsproto, with the"
        " same limits. With none, a WebSocket handshake is served as an ordinary request.",
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
        "How many times its received size a compressed WebSocket message above 1 MiB may grow;"
        " beyond that the connection is closed with 1009. None: only the message size is limited.",
    )
    ws_max_queue: int = _row(
        Integer(1),
        32,
        PROTOCOLS,
        "WebSocket messages that may wait for the application; while so many wait, the socket is"
        " not read.",
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
        "Add a header to every response; repeat for several. In a variable, one header on each"
        " line.",
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
        "Seconds that an idle keep-alive connection is kept open.",
        aliases=("--keep-alive",),
        uvicorn="timeout_keep_alive",
    )
    timeout_handshake: float = _row(
        _SECONDS_ABOVE_ZERO,
        10.0,
        LIMITS,
        "Seconds a client may take until its PROXY header and its TLS handshake are complete.",
    )
    timeout_request_head: float = _row(
        _SECONDS_ABOVE_ZERO,
        15.0,
        LIMITS,
        "Seconds until a client has sent its first byte and its whole request head; then 408.",
    )
    timeout_request_body: float = _row(
        _SECONDS_ABOVE_ZERO,
        60.0,
        LIMITS,
        "Seconds a client may pause within a request body; then 408.",
    )
    timeout_write: float = _row(
        _SECONDS_ABOVE_ZERO,
        60.0,
        LIMITS,
        "Seconds that a client may leave pending data unread; then the connection is dropped.",
    )
    timeout_request: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        None,
        LIMITS,
        "Seconds from a request's head to the end of its response; then the application is"
        " cancelled, and the client gets 504 or its response is cut. Streams are limited, too.",
    )
    limit_request_line: int = _row(
        Size(),
        8 * KIBIBYTE,
        LIMITS,
        "Longest request line in bytes; a longer one is answered with 414.",
    )
    limit_request_fields: int = _row(
        Integer(1), 100, LIMITS, "Most header lines of a request; more are answered with 431."
    )
    limit_request_head: int = _row(
        Size(),
        64 * KIBIBYTE,
        LIMITS,
        "Largest request line and headers together, in bytes; larger ones are answered with 431.",
        aliases=("--h11-max-incomplete-event-size",),
        uvicorn="h11_max_incomplete_event_size",
    )
    limit_request_body: int | None = _row(
        Optional(Size()),
        GIBIBYTE,
        LIMITS,
        "Largest request body in bytes, or with a unit such as 10M, 2G; a larger one is answered with 413."
        " none sets no limit.",
    )
    limit_concurrency: int | None = _row(
        Optional(Integer(1)),
        None,
        LIMITS,
        "Most connections and exchanges that a worker serves at once; it answers further requests with 503.",
        uvicorn="limit_concurrency",
    )
    limit_connections: int | None = _row(
        Optional(Integer(1)),
        None,
        LIMITS,
        "Most connections that a worker holds at once; at this number idle ones are closed, and no"
        " more are accepted until there is room. Default: derived from the limit of open files.",
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
        " leaves something behind that a fork would break: threads, processes, connections.",
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
        "Recycle a worker whose resident memory is above this many bytes; units such as 512M, 2G.",
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
        "Stop the server after this many seconds in which workers died and none served.",
    )

    probation: float = _row(
        _SECONDS,
        1.0,
        RELOADING,
        "Seconds that the first worker of a new generation serves before the other slots follow.",
    )
    health_path: str | None = _row(
        Optional(Text("PATH", "a path that starts with /")),
        None,
        RELOADING,
        "Path that the first worker of a new generation must answer with a 2xx or 3xx status"
        " before it serves.",
    )
    surge: int = _row(
        Integer(1, 64),
        1,
        RELOADING,
        "How many new workers a reload starts beside the old ones at a time.",
    )
    drain_overlap: bool = _row(
        Switch(),
        True,
        RELOADING,
        "Let old workers drain while the reload continues. With --no-drain-overlap the next slot,"
        " and the next reload, wait until they have ended: a reload then needs less memory, but"
        " takes up to --drain-timeout for each slot.",
    )
    drain_generations: int = _row(
        Integer(1, 16),
        2,
        RELOADING,
        "How many old workers may drain at a time, in multiples of --workers; a reload that"
        " would exceed this waits.",
    )
    keep_generations: int = _row(
        Integer(0, 8),
        1,
        RELOADING,
        "How many old generations are kept in memory, asleep, so that the server can go back to"
        " them.",
    )
    revert_window: float = _row(
        _SECONDS,
        60.0,
        RELOADING,
        "Seconds after a reload in which a crash loop makes the server go back to the old"
        " generation; 0 never goes back.",
    )
    reload_priority: str = _row(
        Choice(("low", "normal")),
        "low",
        RELOADING,
        "CPU priority of the processes that a reload imports, starts and ends. low runs each of"
        " them on idle CPU time only, for 10 s at most, if the system allows the priority to be"
        " raised again (root, CAP_SYS_NICE or RLIMIT_NICE); normal gives them the usual"
        " priority.",
    )

    drain_timeout: float = _row(
        _SECONDS,
        20.0,
        STOPPING,
        "Seconds that a draining worker may take to finish open exchanges.",
        aliases=("--timeout-graceful-shutdown", "--graceful-timeout"),
        uvicorn="timeout_graceful_shutdown",
    )
    drain_grace: float = _row(
        _SECONDS,
        2.0,
        STOPPING,
        "Seconds that a draining worker still answers on idle connections that no other worker"
        " can take over (TLS, a stop); at most as long as the drain.",
    )
    lifespan_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        5.0,
        STOPPING,
        "Seconds for the application's lifespan shutdown, after the drain.",
    )
    exit_timeout: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        None,
        STOPPING,
        "Seconds a worker may take to exit after the lifespan shutdown: first its threads (at"
        " most half of the time), then exit handlers (atexit), such as those of Sentry,"
        " OpenTelemetry or Kafka that send buffered data. Default: the rest of"
        " --drain-timeout and --lifespan-timeout, at least 1.5; 3 under --reload. A reload does"
        " not wait for the exit.",
    )
    ws_close_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        2.0,
        STOPPING,
        "Seconds to wait for a client's answer to a WebSocket close.",
    )
    event_stream_handover: bool = _row(
        Switch(),
        True,
        STOPPING,
        "Continue streams of server-sent events that have ids in the next worker, which calls the"
        " application with the same request and Last-Event-ID.",
    )
    event_stream_notice: float = _row(
        _SECONDS,
        10.0,
        STOPPING,
        "Seconds from the start of a drain until event streams that cannot move are ended,"
        " between two events; at most half of --drain-timeout. The application may end them"
        " earlier.",
    )
    ws_close_window: float = _row(
        _SECONDS,
        5.0,
        STOPPING,
        "Longest time in seconds over which a draining worker spreads the closes of its"
        " WebSockets and the ends of its event streams. It closes fifty a second, or more if that"
        " would take longer.",
    )
    ws_handover_timeout: float = _row(
        _SECONDS_ABOVE_ZERO,
        5.0,
        STOPPING,
        "Seconds an application may take to give the state of a WebSocket that moves to another"
        " worker.",
    )
    ws_handover_max_state: int = _row(
        Size(),
        64 * KIBIBYTE,
        STOPPING,
        "Largest state in bytes that an application may give for a WebSocket that moves.",
    )

    pid_file: str | None = _row(
        Optional(_FILE),
        None,
        ADMIN,
        "Write the supervisor's pid to this file.",
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
        "Host of the admin port; any host but loopback needs --admin-token-file.",
    )
    admin_socket: str = _row(
        Text("FILE", "a path, auto or none"),
        "auto",
        ADMIN,
        "Unix socket for the commands, such as `asgireload reload`: a path, auto for one in a private"
        " directory, or none.",
    )
    admin_socket_mode: str = _row(
        FileMode(),
        "0600",
        ADMIN,
        "Permissions of the admin socket. A user who may write to it can reload and stop the server.",
    )
    admin_socket_owner: str | None = _row(
        Optional(FileOwner()),
        None,
        ADMIN,
        "Owner of the admin socket: USER, USER:GROUP or :GROUP. Default: the user that runs the server.",
    )
    admin_token_file: str | None = _row(
        Optional(_FILE),
        None,
        ADMIN,
        "File with the bearer token that clients of the admin port must send.",
    )

    reload: bool = _row(
        Switch(), False, DEVELOPMENT, "Reload when a file changes.", uvicorn="reload"
    )
    reload_dir: tuple[str, ...] = _row(
        Several(_DIRECTORY, separator=":"),
        (),
        DEVELOPMENT,
        "Watch this directory; repeat for several. Default: --app-dir, or the working directory.",
        uvicorn="reload_dirs",
    )
    reload_include: tuple[str, ...] = _row(
        Several(Text("PATTERN", "a file pattern")),
        (),
        DEVELOPMENT,
        "Also reload for files that match; repeat for several. Python files are always watched.",
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
        0.05,
        DEVELOPMENT,
        "Seconds without a change to wait for when several files change in a row; the first"
        " change is loaded at once.",
        uvicorn="reload_delay",
    )
    reload_watcher: str = _row(
        Choice(("auto", "inotify", "watchfiles", "polling")),
        "auto",
        DEVELOPMENT,
        "How changes are detected: by inotify, which auto selects if the kernel reports changes;"
        " by the package watchfiles; or by polling, which checks every file.",
    )
    reload_poll: float | None = _row(
        Optional(_SECONDS),
        None,
        DEVELOPMENT,
        "Seconds between two checks of every file, for file systems that do not report changes."
        " Default: poll only file systems that are known not to report them; 0 switches polling off.",
    )
    reload_hold_timeout: float = _row(
        _SECONDS,
        10.0,
        DEVELOPMENT,
        "Seconds that a new request waits for code that was saved before it; then the old code"
        " answers, with a header asgireload-stale.",
    )
    reload_browser: bool = _row(
        Switch(),
        False,
        DEVELOPMENT,
        "With --reload: open pages load themselves again after a reload, and replace style"
        " sheets and images that are saved, without a reload.",
    )
    debug_extension: bool = _row(
        Switch(),
        False,
        DEVELOPMENT,
        "Offer the ASGI extension http.response.debug; data that applications send with it is logged at"
        " debug level.",
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
    access_log_format: str | None = _row(
        Optional(
            Text("FORMAT", "uvicorn, common, combined, json, or a format with atoms as %(h)s")
        ),
        None,
        LOGGING,
        "Format of the line for a request: uvicorn, common, combined, json, or one with"
        " gunicorn's atoms, such as '%(h)s %(s)s'. Default: uvicorn; json with --log-format json.",
        aliases=("--access-logformat",),
    )
    access_log_file: str = _row(
        _LOG_FILE,
        "-",
        LOGGING,
        "Append the lines for requests to this file; - is standard output. The file may be moved"
        " away at any time: a new one is opened.",
        aliases=("--access-logfile",),
    )
    access_log_exclude: tuple[str, ...] = _row(
        Several(Text("PATTERN", "a path, or a pattern such as /static/*")),
        (),
        LOGGING,
        "Do not log requests whose path matches, such as /healthz or /static/*; repeat for several.",
    )
    log_slow_requests: float | None = _row(
        Optional(_SECONDS_ABOVE_ZERO),
        None,
        LOGGING,
        "Log a warning for each request that takes longer than this; for an event stream the time until it"
        " begins counts.",
    )
    request_id_header: str | None = _row(
        Optional(HeaderName()),
        None,
        LOGGING,
        "Give each request an id, from this header or a new one, and send it back in the same"
        " header; the id is in the log and in the scope.",
    )
    error_log_file: str = _row(
        _LOG_FILE,
        "-",
        LOGGING,
        "Append all other log lines to this file; - is standard error. The file may be moved"
        " away at any time: a new one is opened.",
        aliases=("--error-logfile", "--log-file"),
    )
    log_format: str = _row(
        Choice(("text", "json")),
        "text",
        LOGGING,
        "Write the log as text, or as one JSON object on each line.",
    )
    log_config: str | None = _row(
        Optional(_FILE),
        None,
        LOGGING,
        "Configure logging by this file, in the format of Python's logging.config: .toml, .json,"
        " .yaml or .ini. It is read again at each reload.",
        uvicorn="log_config",
    )
    use_colors: bool | None = _row(
        Optional(Switch()),
        None,
        LOGGING,
        "Colour the log. Default: on a terminal; NO_COLOR and FORCE_COLOR are honoured.",
        uvicorn="use_colors",
    )

    def __repr__(self) -> str:
        """Show all options except secrets, because a Config may end up in a log."""
        shown = (name for name, row in OPTIONS.items() if not is_secret(row.kind))
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


OPTIONS: Mapping[str, Option] = {
    name: msgspec.structs.replace(row, name=name)
    for name, row in zip(Config.__struct_fields__, _rows, strict=True)
}
