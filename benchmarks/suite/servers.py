"""The table of servers, and how each is started in the fastest way that it documents. Pure.

Every access log is off. Limits that a case would run into (connections, keep-alive timeouts) are raised
where `Setting.many` asks for it. What a server does not offer is not asked of it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

from .cases import QUICK_CASES, Ability, Case, Kind, Setting

MANY = 16384
"""Connections that are allowed where a case opens ten thousand."""
LONG = 600
"""Seconds of keep-alive where connections have to stay idle."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, and with which certificate if its setting asks for TLS."""

    port: int
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    distribution: str
    """The installed package whose version is told; empty: part of the suite."""
    abilities: frozenset[Ability]
    command: Callable[[Setting, Place], list[str]]
    """The arguments after the interpreter's path."""
    kinds: frozenset[Kind] | None = None
    """The kinds of case it takes part in; None: all that its abilities allow."""
    only_closing: bool = False
    """It takes part only where each request has its own connection."""
    is_peer: bool = True
    """It is one of the servers that ours is compared with."""
    from_checkout: bool = False
    """Run from the sources of this checkout, not as installed. Takes part in the quick cases only."""


def _asgireload(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("-m", "asgireload", f"{setting.app}:app"),
        "--sendfile",
        *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
        *("--no-access-log", "--admin-socket", "none", "--log-level", "warning"),
    ]
    if setting.tls:
        arguments += ["--ssl-certfile", place.certificate, "--ssl-keyfile", place.key]
    if setting.many:
        arguments += ["--timeout-keep-alive", str(LONG), "--timeout-request-head", str(LONG)]
    return arguments


def _per_slot(setting: Setting, place: Place) -> list[str]:
    return [*_asgireload(setting, place), "--accept", "per-slot"]


def _uvicorn_with(websocket: str) -> Callable[[Setting, Place], list[str]]:
    def command(setting: Setting, place: Place) -> list[str]:
        arguments = [
            *("-m", "uvicorn", f"{setting.app}:app", "--loop", "uvloop", "--http", "httptools"),
            *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
            *("--no-access-log", "--log-level", "warning", "--ws", websocket),
            *("--ws-per-message-deflate", str(setting.deflate).lower()),
        ]
        if setting.tls:
            arguments += ["--ssl-certfile", place.certificate, "--ssl-keyfile", place.key]
        if setting.many:
            arguments += ["--timeout-keep-alive", str(LONG)]
        return arguments

    return command


def _gunicorn(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("-m", "gunicorn", f"{setting.app}:app", "--worker-class", "asgi"),
        *("--bind", f"127.0.0.1:{place.port}", "--workers", str(setting.workers)),
        *("--asgi-loop", "uvloop", "--log-level", "warning", "--keep-alive", str(LONG)),
        *("--worker-connections", str(MANY)),
    ]
    if setting.tls:
        arguments += ["--certfile", place.certificate, "--keyfile", place.key]
    return arguments


def _granian(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("-m", "granian", f"{setting.app}:app", "--interface", "asgi", "--loop", "uvloop"),
        *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
        *("--http", "1", "--ws" if setting.websocket else "--no-ws", "--log-level", "warning"),
    ]
    if setting.tls:
        arguments += ["--ssl-certificate", place.certificate, "--ssl-keyfile", place.key]
    if setting.many:
        arguments += ["--backlog", str(MANY), "--backpressure", str(MANY)]
        arguments += ["--http1-header-read-timeout", "60000"]
    return arguments


def _hypercorn(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("-m", "hypercorn", f"{setting.app}:app", "--worker-class", "uvloop"),
        *("--bind", f"127.0.0.1:{place.port}", "--workers", str(setting.workers)),
        *("--log-level", "warning", "--keep-alive", str(LONG), "--backlog", str(MANY)),
    ]
    if setting.tls:
        arguments += ["--certfile", place.certificate, "--keyfile", place.key]
    return arguments


def _h2corn(setting: Setting, place: Place) -> list[str]:
    deflate = "" if setting.deflate else "no-"
    arguments = [
        *("-m", "h2corn", f"{setting.app}:app", "--loop", "uvloop", "--runtime-threads", "1"),
        *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
        *("--no-access-log", f"--{deflate}websocket-per-message-deflate"),
    ]
    if setting.tls:
        arguments += ["--certfile", place.certificate, "--keyfile", place.key]
    if setting.many:
        arguments += ["--timeout-keep-alive", str(LONG), "--backlog", str(MANY)]
    return arguments


def _fastpysgi(setting: Setting, place: Place) -> list[str]:
    # Its command line has no option for workers, and Nagle's delay is on unless asked otherwise.
    tls = f"[({place.certificate!r}, {place.key!r})]" if setting.tls else "None"
    code = (
        f"import fastpysgi; from {setting.app} import app; s = fastpysgi.server; s.tcp_nodelay = 1; "
        f"s.tls_list = {tls}; "
        f"fastpysgi.run(app, host='127.0.0.1', port={place.port}, workers={setting.workers})"
    )
    return ["-c", code]


def _peregrine(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("-m", "peregrine", "--protocol", "asgi", "--log-level", "warning"),
        *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
    ]
    if setting.tls:
        arguments += ["--tls-cert", place.certificate, "--tls-key", place.key]
    if setting.many:
        arguments += ["--max-connections", str(MANY), "--keep-alive", str(LONG * 1000)]
        arguments += ["--backlog", str(MANY)]
    if setting.deflate:
        arguments.append("--ws-compress")
    return [*arguments, f"{setting.app}:app"]


def _freastal(setting: Setting, place: Place) -> list[str]:
    # It has no command line.
    tls = f", certfile={place.certificate!r}, keyfile={place.key!r}" if setting.tls else ""
    code = (
        f"import freastal; from {setting.app} import app; "
        f"freastal.serve_asgi(app, host='127.0.0.1', port={place.port}, workers={setting.workers}{tls})"
    )
    return ["-c", code]


def _m0serve(setting: Setting, place: Place) -> list[str]:
    arguments = [
        *("--host", "127.0.0.1", "--port", str(place.port), "--workers", str(setting.workers)),
        *("--protocol", "asgi", "--max-keepalive-requests", "0", "--max-body", "1g"),
    ]
    if setting.many:
        arguments += ["--idle-timeout", str(LONG)]
    # Its program looks for the interpreter in PATH.
    code = (
        "import os, runpy, sys; "
        "os.environ['PATH'] = os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH']; "
        "runpy.run_module('m0serve', run_name='__main__')"
    )
    return ["-c", code, *arguments, f"{setting.app}:app"]


def _floor(setting: Setting, place: Place) -> list[str]:
    return ["-m", "benchmarks.suite.floor", str(place.port)]


_HTTP = frozenset({Ability.FIXED, Ability.APP, Ability.TLS, Ability.WORKERS})
_SOCKETS = _HTTP | {Ability.WEBSOCKET}
_ALL = _SOCKETS | {Ability.DEFLATE}
_ECHOES = frozenset({Kind.ECHO, Kind.BROADCAST})

SERVERS: tuple[Server, ...] = (
    Server("asgireload", "asgireload", _ALL, _asgireload, is_peer=False),
    Server(
        "asgireload pure", "asgireload", _ALL, _asgireload, is_peer=False, from_checkout=True
    ),
    Server(
        "asgireload per-slot", "asgireload", _HTTP, _per_slot, only_closing=True, is_peer=False
    ),
    Server("uvicorn", "uvicorn", _ALL, _uvicorn_with("websockets-sansio")),
    Server("uvicorn wsproto", "uvicorn", _ALL, _uvicorn_with("wsproto"), kinds=_ECHOES),
    Server("gunicorn", "gunicorn", _SOCKETS, _gunicorn),
    Server("granian", "granian", _SOCKETS, _granian),
    Server("hypercorn", "hypercorn", _ALL, _hypercorn),
    Server("h2corn", "h2corn", _ALL, _h2corn),
    Server("fastpysgi", "fastpysgi", _HTTP, _fastpysgi),
    Server("peregrine", "peregrine-server", _ALL, _peregrine),
    Server("freastal", "freastal", _HTTP, _freastal),
    Server("m0serve", "m0serve", _HTTP - {Ability.TLS}, _m0serve),
    Server(
        "floor", "", frozenset({Ability.FIXED, Ability.WEBSOCKET}), _floor, is_peer=False,
        kinds=frozenset({Kind.WRK, Kind.CLOSED, Kind.ECHO}),
    ),
)  # fmt: skip

NEEDS = {"uvicorn": ("httptools", "uvloop"), "uvicorn wsproto": ("wsproto", "httptools", "uvloop")}
"""What must be installed beside a server's own package for its command to be the fastest."""


def takes_part(server: Server, case: Case) -> bool:
    """Return whether the case makes sense for the server."""
    return (
        case.needs <= server.abilities
        and (case.only is None or server.name in case.only)
        and (server.kinds is None or case.kind in server.kinds)
        and (not server.only_closing or case.closes)
        and (not server.from_checkout or case.name in QUICK_CASES)
    )


def command_line(server: Server, setting: Setting, place: Place, cpus: str | None) -> list[str]:
    """Return the whole command; `cpus` as taskset(1) takes them, None: not pinned."""
    pinning = ["taskset", "-c", cpus] if cpus is not None else []
    return [*pinning, sys.executable, *server.command(setting, place)]


def choose(names: str) -> list[Server]:
    """Return the servers of a comma-separated list; `uvicorn` stands for all its variants.

    Raise ValueError, naming what there is, for a name that is unknown.
    """
    found = []
    for name in names.split(","):
        fitting = [s for s in SERVERS if s.name == name or s.name.split()[0] == name]
        if not fitting:
            known = ", ".join(server.name for server in SERVERS)
            raise ValueError(f"no server is called {name!r}; there are: {known}")
        found += fitting
    return [server for server in SERVERS if server in found]
