"""The table of servers: how each is started here, how it is told to reload, and how one sees that it has. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

WORKERS = 2
DRAIN_SECONDS = 2
"""How long every server may wait for what is open; the longest answer that ends takes 0.8 s."""
KEEP_ALIVE_SECONDS = 60
"""Idle connections of every server: longer than any client of ours is idle."""
APP = "versioned:app"


class Completion(Enum):
    """How one knows that a reload has come to its end."""

    VERDICT = "the command reports it"
    PROCESSES = "all old workers have ended"


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    distribution: str
    command: Callable[[int, str], list[str]]
    """The arguments after the interpreter's path, given the port and a directory for its own files."""
    reload: str
    """What its documentation says, for people."""
    completion: Completion = Completion.PROCESSES


def socket_path(directory: str) -> str:
    """Return where asgireload's admin socket is."""
    return f"{directory}/admin.sock"


def reload_command(directory: str, timeout: float) -> list[str]:
    """Return the arguments after the interpreter's path that make asgireload reload and tell the verdict."""
    where = ["--socket", socket_path(directory)]
    return ["-m", "asgireload", "reload", "--wait", "--timeout", f"{timeout:g}", *where]


def status_command(directory: str) -> list[str]:
    """Return the arguments after the interpreter's path that tell asgireload's processes as JSON."""
    return ["-m", "asgireload", "status", "--json", "--socket", socket_path(directory)]


def _asgireload(port: int, directory: str) -> list[str]:
    return [
        *("-m", "asgireload", APP, "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"),
        *("--admin-socket", socket_path(directory), "--drain-timeout", str(DRAIN_SECONDS)),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def _uvicorn(port: int, directory: str) -> list[str]:
    return [
        *("-m", "uvicorn", APP, "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(WORKERS), "--no-access-log", "--log-level", "warning"),
        *("--loop", "uvloop", "--http", "httptools", "--ws", "websockets-sansio"),
        *("--timeout-graceful-shutdown", str(DRAIN_SECONDS)),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def _gunicorn(port: int, directory: str) -> list[str]:
    return [
        *("-m", "gunicorn", APP, "--worker-class", "asgi", "--asgi-loop", "uvloop"),
        *("--bind", f"127.0.0.1:{port}", "--workers", str(WORKERS), "--log-level", "warning"),
        *("--graceful-timeout", str(DRAIN_SECONDS), "--keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def _granian(port: int, directory: str) -> list[str]:
    return [
        *("-m", "granian", APP, "--interface", "asgi", "--loop", "uvloop", "--http", "1"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS), "--ws"),
        *("--log-level", "warning", "--workers-kill-timeout", str(DRAIN_SECONDS)),
        *("--http1-header-read-timeout", str(KEEP_ALIVE_SECONDS * 1000)),
        # It does not know when a worker is ready, it waits; the default of 3.5 s is for slow imports.
        *("--respawn-interval", "1.2"),
    ]


def _hypercorn(port: int, directory: str) -> list[str]:
    return [
        *("-m", "hypercorn", APP, "--worker-class", "uvloop", "--bind", f"127.0.0.1:{port}"),
        *("--workers", str(WORKERS), "--log-level", "warning"),
        *("--graceful-timeout", str(DRAIN_SECONDS), "--keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


def _h2corn(port: int, directory: str) -> list[str]:
    return [
        *("-m", "h2corn", APP, "--loop", "uvloop", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", str(WORKERS), "--no-access-log"),
        *("--timeout-graceful-shutdown", str(DRAIN_SECONDS)),
        *("--timeout-keep-alive", str(KEEP_ALIVE_SECONDS)),
    ]


SERVERS: tuple[Server, ...] = (
    Server("asgireload", "asgireload", _asgireload, "asgireload reload --wait", Completion.VERDICT),
    Server("uvicorn", "uvicorn", _uvicorn, "SIGHUP"),
    Server("gunicorn", "gunicorn", _gunicorn, "SIGHUP"),
    Server("granian", "granian", _granian, "SIGHUP"),
    Server("hypercorn", "hypercorn", _hypercorn, "SIGHUP"),
    Server("h2corn", "h2corn", _h2corn, "SIGHUP"),
)
OURS = "asgireload"


def competing(server: Server) -> Server:
    """Return asgireload with the import of a reload at the usual priority, as other servers have it."""
    command = server.command
    option = ("--reload-priority", "normal")
    return replace(
        server,
        name=f"{server.name} {' '.join(option)}",
        command=lambda port, directory: [*command(port, directory), *option],
    )


def choose(names: str) -> list[Server]:
    """Return the servers of a comma-separated list, all for an empty one.

    Raise ValueError, naming what there is, for a name that is unknown.
    """
    if not names:
        return list(SERVERS)
    wanted = names.split(",")
    known = [server.name for server in SERVERS]
    for name in wanted:
        if name not in known:
            raise ValueError(f"no server is called {name!r}; there are: {', '.join(known)}")
    return [server for server in SERVERS if server.name in wanted]
