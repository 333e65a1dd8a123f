"""The table of servers, and how each is started to reload when a file changes. Pure.

Each with the defaults of its reloader; only the loop and the parser are the fastest it documents, and the
backlog is long enough for every question that waits.
"""

from collections.abc import Callable
from dataclasses import dataclass

BACKLOG = "2048"
OURS = "asgireload"


@dataclass(frozen=True, slots=True)
class Reloader:
    name: str
    distributions: tuple[str, ...]
    """What must be installed; the first is the server."""
    arguments: Callable[[str, int], list[str]]
    """What follows the interpreter's path, given the import string and the port."""


def _asgireload(app: str, port: int) -> list[str]:
    return [
        *("-m", "asgireload", app, "--reload", "--host", "127.0.0.1", "--port", str(port)),
        *("--no-access-log", "--admin-socket", "none", "--log-level", "warning"),
    ]


def _uvicorn(app: str, port: int) -> list[str]:
    return [
        *("-m", "uvicorn", app, "--reload", "--host", "127.0.0.1", "--port", str(port)),
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]


def _granian(app: str, port: int) -> list[str]:
    return [
        *("-m", "granian", app, "--reload", "--host", "127.0.0.1", "--port", str(port)),
        *("--interface", "asgi", "--loop", "uvloop", "--log-level", "warning"),
    ]


def _hypercorn(app: str, port: int) -> list[str]:
    return [
        *("-m", "hypercorn", app, "--reload", "--bind", f"127.0.0.1:{port}"),
        *("--worker-class", "uvloop", "--log-level", "warning", "--backlog", BACKLOG),
    ]


def _gunicorn(app: str, port: int) -> list[str]:
    return [
        *("-m", "gunicorn", app, "--reload", "--bind", f"127.0.0.1:{port}"),
        *("--worker-class", "asgi", "--asgi-loop", "uvloop", "--log-level", "warning"),
    ]


RELOADERS: tuple[Reloader, ...] = (
    Reloader(OURS, ("asgireload", "watchfiles"), _asgireload),
    Reloader("uvicorn", ("uvicorn", "watchfiles", "uvloop", "httptools"), _uvicorn),
    Reloader("granian", ("granian", "watchfiles", "uvloop"), _granian),
    Reloader("hypercorn", ("hypercorn", "uvloop"), _hypercorn),
    Reloader("gunicorn", ("gunicorn", "uvloop"), _gunicorn),
)


def choose(names: str) -> list[Reloader]:
    """Return the servers of a comma-separated list. Raise ValueError, naming what there is."""
    known = {server.name: server for server in RELOADERS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise ValueError(f"no server is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [server for server in RELOADERS if server.name in names.split(",")]
