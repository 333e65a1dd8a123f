"""The tables of servers and frameworks. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    is_ours: bool
    loop: str
    is_tls: bool

    @property
    def reference(self) -> str:
        """The name of the server whose facts are compared with this one's."""
        return "uvicorn, TLS" if self.is_tls else "uvicorn"


SERVERS: tuple[Server, ...] = (
    Server("uvicorn", False, "uvloop", False),
    Server("uvicorn, TLS", False, "uvloop", True),
    Server("uvloop", True, "uvloop", False),
    Server("asyncio", True, "asyncio", False),
    Server("TLS", True, "uvloop", True),
)


def arguments(server: Server, app: str, port: int, certificate: tuple[str, str]) -> list[str]:
    """Return what follows the interpreter's path. One worker: what it holds in memory is asked for again."""
    common = ["--host", "127.0.0.1", "--port", str(port), "--loop", server.loop]
    common += ["--no-access-log", "--log-level", "warning"]
    if server.is_tls:
        common += ["--ssl-certfile", certificate[0], "--ssl-keyfile", certificate[1]]
    if server.is_ours:
        return ["-m", "asgireload", app, *common, "--workers", "1", "--admin-socket", "none"]
    return ["-m", "uvicorn", app, *common, "--http", "httptools"]


@dataclass(frozen=True, slots=True)
class Framework:
    name: str
    module: str
    """Below apps/; its `app` is served, and its STACKS are the middleware."""
    distribution: str
    lacks: tuple[str, ...] = ()
    """Routes of checks.py that its application does not have."""


FRAMEWORKS: tuple[Framework, ...] = (
    Framework("Starlette", "starlette_app", "starlette", ("/plain-sync", "/dependency")),
    Framework("FastAPI", "fastapi_app", "fastapi", ("/plain-sync", "/scope", "/wsgi")),
    Framework(
        "Django",
        "django_app",
        "django",
        (
            *("/busy-sync", "/background", "/scope", "/state", "/wsgi", "/disconnected", "/echo"),
            *("/deny", "/reject", "/push", "/dependency"),
        ),
    ),
    Framework(
        "Litestar",
        "litestar_app",
        "litestar",
        ("/plain-sync", "/scope", "/wsgi", "/disconnected", "/deny", "/dependency"),
    ),
    Framework(
        "Quart",
        "quart_app",
        "quart",
        (
            *("/plain-sync", "/busy-sync", "/background", "/scope", "/state", "/wsgi", "/reject"),
            *("/disconnected", "/dependency"),
        ),
    ),
    Framework(
        "baize",
        "baize_app",
        "baize",
        (
            *("/plain-sync", "/busy-sync", "/background", "/scope", "/state", "/wsgi", "/deny"),
            *("/reject", "/push", "/dependency"),
        ),
    ),
)


def choose(names: str) -> list[Framework]:
    """Return the frameworks of a comma-separated list. Raise ValueError, naming what there is."""
    known = {framework.name.lower(): framework for framework in FRAMEWORKS}
    unknown = [name for name in names.lower().split(",") if name not in known]
    if unknown:
        raise ValueError(f"no framework is called {unknown[0]!r}; there are: {', '.join(known)}")
    return [known[name] for name in names.lower().split(",")]
