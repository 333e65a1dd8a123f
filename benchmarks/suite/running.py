"""A server of the table, started for one setting."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.common.machine import ROOT
from benchmarks.common.measure import wait_settled
from benchmarks.common.serving import Started, server_environment, started

from .cases import Setting
from .servers import Place, Server, command_line

APPS = Path(__file__).parent / "apps"
SETTLE_TIMEOUT = 5.0
"""For the other workers, after the first one answered."""


def environment_of(
    server: Server | None = None, extra: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment for a server of the table, or, for None, for an application without a server.

    The applications can be imported. So can all that lies in this checkout, ahead of what is installed, where the
    server is part of the suite or is run from the checkout.
    """
    is_installed = server is not None and server.distribution and not server.from_checkout
    return server_environment(*((APPS,) if is_installed else (APPS, ROOT)), extra=extra)


@contextmanager
def running(
    server: Server,
    setting: Setting,
    place: Place,
    cpus: str | None,
    environment: Mapping[str, str],
    directory: str,
) -> Iterator[Started]:
    """Start a server, give it out when it answers, and end all its processes afterwards.

    Raise LoadError with the last line of its log when it does not answer.
    """
    with started(
        command_line(server, setting, place, cpus),
        place.port,
        Path(directory) / "server.log",
        cwd=APPS,
        environment=environment_of(server, environment),
        is_tls=setting.tls,
    ) as live:
        if setting.workers > 1:
            wait_settled(live.pid, SETTLE_TIMEOUT)
        yield live
