"""What answering a new connection before the event loop has its socket brings: CPU time per connection.

Kept connections are measured beside them: there is nothing to be gained for these, and nothing to be lost.
"""

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.suite.load import parse_wrk, pinned
from benchmarks.suite.measure import cpu_seconds
from benchmarks.suite.running import APPS

from .early import turned
from .figures import Samples
from .serving import Live, serving
from .variants import Variant

CONNECTIONS = 16
SECONDS = 1
NEW, KEPT = "new connection, CPU µs", "request on a kept connection, CPU µs"
METRICS = {NEW: 1, KEPT: 1}
APP = "plain:app"


def measure(homes: Mapping[Variant, Path], rounds: int, cpus: str | None = None) -> Samples:
    """Put a second of each load on each variant in each round; `cpus`: where wrk runs."""
    samples = Samples(METRICS)
    with ExitStack() as stack:
        servers: dict[Variant, Live] = {}
        for variant, home in homes.items():
            flags = ("--workers", "1", "--admin-socket", "none")
            servers[variant] = stack.enter_context(serving(home, variant, APP, APPS, flags))
        for number in range(rounds):
            for variant in turned(list(servers), number):
                live = servers[variant]
                closed, kept = (_load(live, cpus, closes=closes) for closes in (True, False))
                samples.add(variant.name, {NEW: closed, KEPT: kept})
    return samples


def _load(live: Live, cpus: str | None, *, closes: bool) -> float:
    """Return the microseconds of CPU that the server takes for each request. Raise LoadError."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
    command += ["-H", "Connection: close"] if closes else []
    before = cpu_seconds(live.pid)
    done = subprocess.run(
        pinned([*command, f"http://127.0.0.1:{live.port}/"], cpus),
        check=True,
        capture_output=True,
        text=True,
    )
    used = cpu_seconds(live.pid) - before
    units, _ = parse_wrk(done.stdout)
    return used / units * 1e6
