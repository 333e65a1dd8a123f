"""Runs the suite: `make bench`, `make bench-quick`, or `python -m benchmarks.suite --help`."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import keeping, machine
from benchmarks.common.asking import HELLO, LoadError, ask, connected
from benchmarks.common.figures import percentile
from benchmarks.common.machine import ROOT, installed_version, pinned
from benchmarks.common.measure import pss_bytes, wait_settled
from benchmarks.common.results import Failure, Run, Sample, dump
from benchmarks.common.serving import Started, StartError, free_port, make_certificate

from . import cases as case_table
from . import report
from . import servers as server_table
from .cases import Case, Kind
from .goals import APP_ALONE, compared
from .load import (
    LATE_LIMIT,
    SATURATED,
    Load,
    call_without_server,
    held_connections,
    order_for,
    run_client,
    run_wrk,
    warm_up,
)
from .plan import Block, estimate, plan
from .running import environment_of, running
from .servers import NEEDS, Place, Server

IDLE_SECONDS = 5.0
IDLE_QUESTIONS = 200
MEMORY_CONNECTIONS = 64
IMPORT_TIMEOUT, REST_TIMEOUT = 20.0, 2.0
"""Until sixteen workers have imported FastAPI, and until all have rested from a few requests."""
FILE_BYTES = 10 << 20
MIB, KIB = 1 << 20, 1 << 10
GIVEN = ("rounds", "goal_rounds", "seconds", "cases", "servers")
"""Options that are variables of make."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every measurement needs to know."""

    seconds: int
    latency: bool
    server_cpus: str | None
    load_cpus: str | None
    environment: Mapping[str, str]
    certificate: tuple[str, str] | None
    directory: str


def cost(load: Load) -> dict[str, float]:
    """Return the metrics of a closed-loop load. A rate that may be the client's limit is not told."""
    metrics = {
        "cpu_us": load.server_cpu / load.units * 1e6,
        "client_share": load.client_share,
        "server_share": load.server_share,
    }
    if not load.is_client_bound:
        metrics["rate"] = load.units / load.seconds
    return metrics


def latencies(load: Load) -> dict[str, float]:
    """Return the metrics of an open-loop load. Raise LoadError when the client was not able to keep it up."""
    if load.client_share > SATURATED:
        raise LoadError(f"the open-loop client used {load.client_share:.0%} of its CPU")
    if load.late_p99 is None or load.late_p99 > LATE_LIMIT:
        late = (
            "never sent in time" if load.late_p99 is None else f"{load.late_p99 * 1e3:.2f} ms late"
        )
        raise LoadError(f"the open-loop client was {late}")
    assert load.p50 is not None
    assert load.p99 is not None
    return {
        "p50_ms": load.p50 * 1e3,
        "p99_ms": load.p99 * 1e3,
        "paced_client_share": load.client_share,
    }


def measure_idle(live: Started, count: int, seconds: float = IDLE_SECONDS) -> dict[str, float]:
    """Return what so many idle connections cost, and how one more client fares meanwhile."""
    with connected(live.port) as other:
        for _ in range(IDLE_QUESTIONS):
            ask(other, HELLO)
        before = pss_bytes(live.pid)
        with held_connections(live.port, count):
            memory = (pss_bytes(live.pid) - before) / count
            cpu = live.cpu()
            time.sleep(seconds)
            cpu = live.cpu() - cpu
            times = []
            for _ in range(IDLE_QUESTIONS):
                began = time.perf_counter()
                ask(other, HELLO)
                times.append(time.perf_counter() - began)
    times.sort()
    return {
        "connection_kib": memory / KIB,
        "idle_cpu_ms_per_s": cpu / seconds * 1e3,
        "p50_ms": percentile(times, 0.5) * 1e3,
        "p99_ms": percentile(times, 0.99) * 1e3,
    }


def measure_memory(live: Started) -> dict[str, float]:
    """Return the memory of a tree that has started wholly and answered a few requests."""
    wait_settled(live.pid, IMPORT_TIMEOUT)
    for _ in range(MEMORY_CONNECTIONS):
        with connected(live.port) as client:
            ask(client, HELLO)
    wait_settled(live.pid, REST_TIMEOUT)
    return {"pss_mib": pss_bytes(live.pid) / MIB}


def measure(case: Case, live: Started, bench: Bench) -> Iterator[dict[str, float]]:
    """Give the metrics of one case on one server, one part after the other. Raise LoadError."""
    match case.kind:
        case Kind.MEMORY:
            yield measure_memory(live)
        case Kind.STARTUP:
            yield {"startup_ms": live.started_seconds * 1e3}
        case Kind.IDLE:
            yield measure_idle(live, case.connections)
        case Kind.WRK:
            if not case.closes:
                warm_up(case, live.port)
            yield cost(
                run_wrk(case, live.port, bench.seconds, bench.load_cpus, live.cpu, bench.directory)
            )
            if bench.latency and case.latency_rate:
                paced = order_for(case, live.port, bench.seconds, paced=True)
                yield latencies(run_client("paced", paced, bench.load_cpus, live.cpu))
        case Kind.CLOSED | Kind.ECHO | Kind.BROADCAST:
            order = order_for(case, live.port, bench.seconds)
            yield cost(run_client(case.kind.name.lower(), order, bench.load_cpus, live.cpu))


def run_block(block: Block, bench: Bench, run: Run) -> None:
    """Start a server and measure its cases. What fails is noted, and the others go on."""

    def fail(case: Case, reason: object) -> None:
        run.failures.append(Failure(case.name, block.server.name, block.round, str(reason)))

    place = Place(free_port(), *(bench.certificate or ()))
    cpus = bench.server_cpus if block.setting.pinned else None
    try:
        with running(
            block.server, block.setting, place, cpus, bench.environment, bench.directory
        ) as live:
            for case in block.cases:
                metrics: dict[str, float] = {}
                try:
                    for part in measure(case, live, bench):
                        metrics |= part
                except (LoadError, OSError, TimeoutError) as error:
                    fail(case, error)
                if metrics:
                    run.samples.append(Sample(case.name, block.server.name, block.round, metrics))
    except (StartError, TimeoutError) as error:
        for case in block.cases:
            fail(case, f"it did not start: {error}")


def run_alone(chosen: Sequence[Case], number: int, bench: Bench, run: Run) -> None:
    """Measure what the applications cost without a server."""
    for case in chosen:
        if not case.own_share:
            continue
        try:
            units, spent = call_without_server(
                case.setting.app,
                case.path,
                bench.seconds,
                case.connections,
                bench.server_cpus,
                environment_of(extra=bench.environment),
            )
        except (LoadError, subprocess.TimeoutExpired) as error:
            run.failures.append(Failure(case.name, APP_ALONE, number, str(error)))
        else:
            metrics = {"cpu_us": spent / units * 1e6}
            run.samples.append(Sample(case.name, APP_ALONE, number, metrics))


@contextmanager
def socket_peer(cpus: str | None) -> Iterator[int]:
    """Run the socket peer of the pooled case and give its port."""
    command = pinned([sys.executable, "-m", "benchmarks.suite.peer"], cpus)
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def missing(server: Server) -> str | None:
    """Return why a server cannot be measured; None when it can."""
    wanted = (server.distribution, *NEEDS.get(server.name, ())) if server.distribution else ()
    absent = [name for name in wanted if installed_version(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def describe(command: str, options: argparse.Namespace) -> dict[str, str]:
    """Return what one must know to repeat the run and to judge it."""
    more = ""
    if options.goal_rounds > options.rounds:
        more = f", {options.goal_rounds} of what goals are about"
    return {
        **machine.describe(command),
        "wrk": machine.first_line(["wrk", "--version"]).split(" [")[0],
        "commit": machine.commit(),
        "pinned": f"servers to CPU {options.server_cpus}, load to CPU {options.load_cpus}",
        "rounds": f"{options.rounds} of {options.seconds} s{more}",
    }


def versions(chosen: Sequence[Server]) -> dict[str, str]:
    """Return the versions of the servers and of what they stand on."""
    names = [server.distribution for server in chosen if server.distribution]
    names += ["uvloop", "httptools", "websockets", "wsproto", "gunicorn_h1c", "fastapi", "django"]
    found = ((name, installed_version(name)) for name in dict.fromkeys(names))
    return {name: version for name, version in found if version is not None}


def make_command(options: argparse.Namespace) -> str:
    """Return the words with which make would start this run."""
    words = ["make", "bench-quick" if options.quick else "bench"]
    names = [name for name in GIVEN if name in options.given]
    words += [f"{name.upper()}={getattr(options, name)}" for name in names]
    return " ".join(words)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    server_cpus, load_cpus = machine.default_cpus()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=__doc__)
    parser.add_argument("--cases", help="names or beginnings of names, comma-separated")
    parser.add_argument("--servers", help="names, comma-separated")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3)")
    parser.add_argument(
        "--goal-rounds", type=int, help="rounds of what goals are about, where more than --rounds"
    )
    parser.add_argument("--seconds", type=int, help="length of each measurement (1)")
    parser.add_argument("--quick", action="store_true", help="a few cases, ratios only, no file")
    parser.add_argument("--no-latency", action="store_true", help="leave the open-loop runs out")
    parser.add_argument("--server-cpus", default=server_cpus, help="as taskset takes them")
    parser.add_argument("--load-cpus", default=load_cpus, help="as taskset takes them")
    parser.add_argument("--docs", action="store_true", help="write the report into docs/")
    parser.add_argument("--list", action="store_true", help="show cases and servers, and end")
    options = parser.parse_args(arguments)
    # make hands an unset variable down as an empty word
    options.given = {name for name in GIVEN if getattr(options, name)}
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.goal_rounds = options.goal_rounds or options.rounds
    options.seconds = options.seconds or 1
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds are whole numbers from 1")
    if options.quick:
        options.cases = options.cases or ",".join(case_table.QUICK_CASES)
        options.servers = options.servers or ",".join(case_table.QUICK_SERVERS)
    try:
        options.chosen_cases = (
            case_table.choose(options.cases) if options.cases else list(case_table.CASES)
        )
        options.chosen_servers = (
            server_table.choose(options.servers) if options.servers else list(server_table.SERVERS)
        )
    except ValueError as error:
        parser.error(str(error))
    if options.quick:
        # Variants of a server, and what the application costs alone, are for the long run.
        options.chosen_servers = [
            s for s in options.chosen_servers if " " not in s.name or s.from_checkout
        ]
    return options


def carry_out(options: argparse.Namespace) -> Run:
    """Run the plan and return what came of it."""
    for tool in ("wrk", "taskset"):
        if shutil.which(tool) is None:
            raise SystemExit(f"the suite needs {tool}: apt-get install wrk util-linux")
    run = Run(describe(make_command(options), options), versions(options.chosen_servers))
    servers = []
    for server in options.chosen_servers:
        reason = missing(server)
        if reason is None:
            servers.append(server)
        else:
            run.left_out[server.name] = reason
            print(f"left out: {server.name} ({reason})", flush=True)
    blocks = plan(options.chosen_cases, servers, options.rounds, options.goal_rounds, compared())
    latency = not (options.quick or options.no_latency)
    latency_rounds = options.rounds if latency else 0
    minutes = estimate(blocks, options.seconds, latency_rounds=latency_rounds) / 60
    print(f"{len(blocks)} starts of servers, about {minutes:.0f} minutes", flush=True)
    if os.getloadavg()[0] > machine.BUSY_LOAD:
        print("the machine is not quiet: the figures will not be worth much", flush=True)
    with tempfile.TemporaryDirectory() as directory, socket_peer(options.load_cpus) as peer:
        path = Path(directory) / "file"
        path.write_bytes(b"x" * FILE_BYTES)
        certificate = None
        if any(case.setting.tls for case in options.chosen_cases):
            certificate = make_certificate(directory)
        bench = Bench(
            options.seconds,
            latency,
            options.server_cpus,
            options.load_cpus,
            {"BENCH_PEER": str(peer), "BENCH_FILE": str(path)},
            certificate,
            directory,
        )
        done_round = -1
        unable: set[tuple[str, case_table.Setting]] = set()
        for block in blocks:
            if block.round != done_round:
                done_round = block.round
                bench = replace(bench, latency=done_round < latency_rounds)
                last = max(options.rounds, options.goal_rounds)
                print(f"round {done_round + 1} of {last}", flush=True)
                if not options.quick:
                    run_alone(options.chosen_cases, done_round, bench, run)
            if (block.server.name, block.setting) in unable:
                continue
            before = len(run.failures), len(run.samples)
            run_block(block, bench, run)
            for failure in run.failures[before[0] :]:
                print(f"  {failure.server}: {failure.case}: {failure.reason}", flush=True)
            if len(run.samples) == before[1]:
                # Not once more: a server that does not start costs a minute each time.
                unable.add((block.server.name, block.setting))
    return run


def main() -> None:
    options = parse_arguments()
    if options.list:
        for case in case_table.CASES:
            print(f"{case.name:<22}{case.title}")
        print("servers:", ", ".join(server.name for server in server_table.SERVERS))
        return
    began = time.monotonic()
    run = carry_out(options)
    run.about["took"] = f"{(time.monotonic() - began) / 60:.0f} minutes"
    print(report.console(run))
    if not options.quick:
        keeping.keep(dump(run))
    if options.docs:
        keeping.keep_latest(report.kept(run), "suite")
        report.write(run)
