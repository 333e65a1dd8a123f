"""Load on a server from the driver's side: wrk, our clients, and connections that only stay open."""

import json
import os
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.common.asking import HELLO, LoadError, ask, connected, read_line
from benchmarks.common.machine import ROOT, pinned

from .cases import Case, request_headers
from .clients import Order, Outcome, request_bytes

SATURATED = 0.9
"""A client that used more of its CPU than this may have been the bottleneck."""
LATE_LIMIT = 0.001
"""Seconds by which the paced client may miss its schedule (99th percentile) before its run is refused."""
WARM_REQUESTS, WARM_SECONDS = 200, 0.1
STEP_TIMEOUT = 90.0
"""Seconds after the measuring time in which a client must be done."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load was, beside what it cost the server."""

    units: int
    seconds: float
    client_share: float
    """CPU of the client, as a share of one CPU."""
    server_cpu: float
    """CPU seconds of the server's process tree meanwhile."""
    p50: float | None = None
    p99: float | None = None
    late_p99: float | None = None

    @property
    def server_share(self) -> float:
        return self.server_cpu / self.seconds

    @property
    def is_client_bound(self) -> bool:
        """Whether the rate may be the client's limit rather than the server's."""
        return self.client_share > SATURATED and self.server_share < SATURATED


def parse_wrk(output: str) -> tuple[int, float]:
    """Return requests and seconds of a run of wrk. Raise LoadError when answers were wrong."""
    done = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", output)
    if done is None:
        raise LoadError(f"wrk said nothing of requests: {output.strip()[-200:]}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    if wrong is not None:
        raise LoadError(f"{wrong[1]} answers were not 2xx")
    errors = re.search(r"Socket errors: (.*)", output)
    if errors is not None:
        raise LoadError(f"wrk met socket errors: {errors[1]}")
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[done[3]]
    if done[1] == "0":
        raise LoadError("wrk got no answer")
    return int(done[1]), float(done[2]) * unit


def wrk_script(case: Case) -> str | None:
    """Return the Lua script a case needs, None when wrk's own request will do."""
    lines = []
    if case.body_bytes:
        lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {case.body_bytes})']
    if case.depth > 1:
        lines += [
            "local whole",
            "function init(args)",
            "  local one = wrk.format()",
            f"  whole = string.rep(one, {case.depth})",
            "end",
            "function request() return whole end",
        ]
    return "\n".join(lines) + "\n" if lines else None


def run_wrk(
    case: Case,
    port: int,
    seconds: int,
    cpus: str | None,
    server_cpu: Callable[[], float],
    directory: str,
) -> Load:
    """Run wrk against a case. Raise LoadError when it met errors."""
    scheme = "https" if case.setting.tls else "http"
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--timeout", "20s"]
    headers = request_headers(case.headers)
    if case.closes:
        headers["Connection"] = "close"
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    script = wrk_script(case)
    if script is not None:
        path = Path(directory) / f"{case.name}.lua"
        path.write_text(script)
        command += ["-s", str(path)]
    command.append(f"{scheme}://127.0.0.1:{port}{case.path}")
    before = server_cpu()
    spent = _children_cpu()
    try:
        done = subprocess.run(
            pinned(command, cpus),
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds + STEP_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise LoadError(f"wrk did not end within {seconds + STEP_TIMEOUT:g} s") from None
    spent = _children_cpu() - spent
    used = server_cpu() - before
    if done.returncode != 0:
        raise LoadError(f"wrk ended with {done.returncode}: {done.stderr.strip()}")
    units, took = parse_wrk(done.stdout)
    return Load(units, took, spent / took, used)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def order_for(case: Case, port: int, seconds: float, *, paced: bool = False) -> Order:
    """Return what the client of this case is asked to do."""
    return Order(
        port=port,
        seconds=seconds,
        connections=min(case.connections, 32) if paced else case.connections,
        path=case.path,
        headers=tuple(request_headers(case.headers).items()),
        body_bytes=case.body_bytes,
        deflate=case.setting.deflate,
        rate=case.latency_rate if paced else 0,
    )


def run_client(kind: str, order: Order, cpus: str | None, server_cpu: Callable[[], float]) -> Load:
    """Run one of our clients. Raise LoadError when it could not do its work."""
    module = [sys.executable, "-m", "benchmarks.suite.clients", kind, json.dumps(asdict(order))]
    process = subprocess.Popen(
        pinned(module, cpus),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        _expect(process, "ready\n", STEP_TIMEOUT)
        before = server_cpu()
        process.stdin.write("go\n")
        process.stdin.flush()
        line = read_line(process, order.seconds + STEP_TIMEOUT)
        used = server_cpu() - before
    finally:
        process.kill()
        process.communicate()
    outcome = Outcome(**json.loads(line))
    return Load(
        outcome.units,
        outcome.seconds,
        outcome.cpu_seconds / outcome.seconds,
        used,
        outcome.p50,
        outcome.p99,
        outcome.late_p99,
    )


def _expect(process: subprocess.Popen[str], wanted: str, timeout: float) -> None:
    line = read_line(process, timeout)
    if line != wanted:
        raise LoadError(f"the client said {line!r}")


def raise_descriptor_limit(wanted: int) -> None:
    """Allow this process and its children so many descriptors. Raise LoadError when the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise LoadError(f"{wanted} descriptors are needed and {hard} allowed (ulimit -n)")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warm_up(case: Case, port: int) -> None:
    """Ask a while over one connection, and see that the answers are right. Raise LoadError if not."""
    request = request_bytes(order_for(case, port, 0))
    until = time.monotonic() + WARM_SECONDS
    with connected(port, tls=case.setting.tls) as client:
        body = b""
        for _ in range(WARM_REQUESTS):
            body = ask(client, request)
            if time.monotonic() > until:
                break
    if case.body_bytes and body != b"%d" % case.body_bytes:
        raise LoadError(f"of {case.body_bytes} bytes the application read {body[:20]!r}")


@contextmanager
def held_connections(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that have had one answer each and stay open; close them at the end."""
    raise_descriptor_limit(count + 200)
    clients: list[socket.socket] = []
    try:
        for _ in range(count):
            client = connected(port)
            clients.append(client)
            ask(client, HELLO)
        yield clients
    finally:
        for client in clients:
            client.close()


def call_without_server(
    module: str,
    path: str,
    seconds: float,
    tasks: int,
    cpus: str | None,
    environment: dict[str, str],
) -> tuple[int, float]:
    """Return how often the application was called in a bare loop, and the CPU seconds that took."""
    arguments = ["-m", "benchmarks.suite.bare", module, path, str(seconds), str(tasks)]
    done = subprocess.run(
        pinned([sys.executable, *arguments], cpus),
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds + STEP_TIMEOUT,
    )
    if done.returncode != 0:
        raise LoadError(done.stderr.strip().rpartition("\n")[2])
    outcome = json.loads(done.stdout)
    return outcome["units"], outcome["cpu"]
