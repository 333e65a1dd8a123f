"""What it brings that a reload gives way, and that workers are spread over CPUs meanwhile, to a steady load.

Two things are told. Latency is what clients feel, and also feels the clients' own place on the machine. *Waited*
is what the kernel notes itself (/proc/PID/schedstat): how long processes of the usual priority were ready to run
and had no CPU, which is what both mechanisms are to shorten.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from asgireload.admin.client import AdminClient
from benchmarks.reloads.quiet import PATH, find_saturation
from benchmarks.reloads.records import STEADY, Outcome
from benchmarks.reloads.servers import APP, OURS, SERVERS, WORKERS, socket_path
from benchmarks.reloads.trial import Live as TrialLive
from benchmarks.reloads.trial import Machine, loaded, write_code
from benchmarks.suite.clients import LoadError
from benchmarks.suite.figures import percentile
from benchmarks.suite.measure import cpu_seconds, tree

from .early import turned
from .figures import Samples
from .serving import serving
from .variants import Variant

BEFORE, AFTER = 1.0, 1.0
"""Seconds of load before a reload and after it."""
RELOAD_TIMEOUT = 60.0
"""Seconds; where others leave no CPU, what gives way is held up for as long as its patience lasts."""
LATE_MS = 4.0
LOOK_INTERVAL = 0.02
METRICS = {
    "p99, ms": 2,
    "longest, ms": 1,
    f"later than {LATE_MS:g} ms": 0,
    "waited for a CPU, ms": 1,
    "reload, ms": 0,
    "CPU, ms": 0,
}


@dataclass(slots=True)
class Waits:
    """How long the processes of a tree were ready without a CPU, those that give way left out."""

    root: int
    total_ns: int = 0
    _seen: dict[int, int] = field(default_factory=dict)

    def look(self) -> None:
        for pid in tree(self.root):
            try:
                with open(f"/proc/{pid}/schedstat") as file:
                    waited = int(file.read().split()[1])
                gives_way = os.sched_getscheduler(pid) == os.SCHED_IDLE
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            before = self._seen.get(pid)
            self._seen[pid] = waited
            if before is not None and not gives_way:
                self.total_ns += waited - before

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look all the time: processes come, go and change their priority."""
        ends = threading.Event()

        def run() -> None:
            while not ends.wait(LOOK_INTERVAL):
                self.look()

        self.look()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
        self.look()


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Let so many other processes compute meanwhile, at the usual priority."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(
    homes: Mapping[Variant, Path], rounds: int, rate: float | None = None, others: int = 0
) -> Samples:
    """Reload each variant once in each round, under a load of `rate` requests a second.

    None: half of what the first variant answers at most. `others`: processes that leave no CPU idle.
    """
    samples = Samples(METRICS)
    server = next(server for server in SERVERS if server.name == OURS)
    with ExitStack() as stack:
        servers: dict[Variant, TrialLive] = {}
        for variant, home in homes.items():
            directory = home / "app"
            directory.mkdir()
            write_code(str(directory), 1)
            flags = ("--workers", str(WORKERS), "--admin-socket", socket_path(str(directory)))
            live = stack.enter_context(serving(home, variant, APP, directory, flags))
            machine = Machine(None, None)
            servers[variant] = TrialLive(
                server, live.pid, live.port, str(directory), machine, live.process
            )
        if rate is None:
            rate = find_saturation(next(iter(servers.values()))) / 2
        print(f"{rate:,.0f} requests per second", flush=True)
        stack.enter_context(busy(others))
        for number in range(rounds):
            for variant in turned(list(servers), number):
                samples.add(variant.name, _reload_under_load(servers[variant], rate, number + 2))
    return samples


def _reload_under_load(live: TrialLive, rate: float, version: int) -> dict[str, float | None]:
    waits = Waits(live.pid)
    with loaded(live, [STEADY], rate=rate, steady_path=PATH) as load:
        time.sleep(BEFORE)
        write_code(live.directory, version)
        spent, began = cpu_seconds(live.pid), time.monotonic()
        with waits.looking():
            client = AdminClient(socket_path(live.directory))
            status, said = client.request(
                "POST", f"/reload?wait=1&timeout={RELOAD_TIMEOUT:g}", RELOAD_TIMEOUT + 5
            )
            took = time.monotonic() - began
            time.sleep(AFTER)
        spent = cpu_seconds(live.pid) - spent
        records, _ = load.finish()
    if status != 200:
        raise LoadError(f"the reload failed: {said}")
    # Only what was asked since: what came before says nothing of the reload.
    delays = sorted(
        (record.end - record.asked) * 1e3
        for record in records
        if record.asked >= began and record.outcome is Outcome.ANSWERED
    )
    return {
        "p99, ms": percentile(delays, 0.99),
        "longest, ms": delays[-1],
        f"later than {LATE_MS:g} ms": float(sum(delay > LATE_MS for delay in delays)),
        "waited for a CPU, ms": waits.total_ns / 1e6,
        "reload, ms": took * 1e3,
        "CPU, ms": spent * 1e3,
    }
