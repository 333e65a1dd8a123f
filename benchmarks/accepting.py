"""How workers share the accepting: `--accept shared` beside `--accept per-slot`, in one run.

    python -m benchmarks.accepting [--rounds 3] [--seconds 4] [--workers 4]

Three questions. What does a new connection cost: wrk opens one for each request, CPU time is that of the
whole process tree. And who waits behind a worker that blocks: an open-loop client sends 100 connections
a second, every tenth asks for an answer that blocks its worker's loop for 50 ms; the latencies of the
others are shown. Also how evenly connections were spread over the workers. And what becomes of
connections that are opened at once and stay: wrk opens 32, each request takes 200 µs of CPU, ten times; with
all of them at one worker it is as if there were no other.
"""

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.common.asking import wait_answer
from benchmarks.common.measure import cpu_seconds
from benchmarks.common.serving import free_port

START_TIMEOUT = 20.0
TRIES = 10
APP = """
import os, time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/block":
        time.sleep(0.05)
    if scope["path"] == "/burn":
        until = time.perf_counter() + 200e-6
        while time.perf_counter() < until:
            pass
    body = b"%d" % os.getpid()
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


def start(accept: str, workers: int, port: int, directory: str) -> subprocess.Popen[bytes]:
    place = ["--port", str(port), "--workers", str(workers), "--accept", accept]
    quiet = ["--no-access-log", "--admin-socket", "none"]
    command = [sys.executable, "-m", "asgireload", "accept_app:app", *place, *quiet]
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_answer(port, lambda: process.poll() is None, tls=False, timeout=START_TIMEOUT)
    time.sleep(1)
    return process


def cost_of_a_connection(process: subprocess.Popen[bytes], port: int, seconds: int) -> float:
    """Return CPU microseconds of the server per connection with one request."""
    before = cpu_seconds(process.pid)
    output = subprocess.run(
        [
            "wrk",
            "-t1",
            "-c32",
            f"-d{seconds}s",
            "-H",
            "Connection: close",
            f"http://127.0.0.1:{port}/",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    done = re.search(r"(\d+) requests in", output)
    assert done is not None
    return (cpu_seconds(process.pid) - before) / int(done[1]) * 1e6


def opened_at_once(port: int) -> float:
    """Return the requests per second over 32 connections that are opened in one instant."""
    output = subprocess.run(
        ["wrk", "-t1", "-c32", "-d1s", f"http://127.0.0.1:{port}/burn"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found is not None
    return float(found[1])


async def behind_a_blocked_worker(port: int, seconds: int) -> tuple[list[float], dict[bytes, int]]:
    """Return latencies in seconds of the requests that do not block, and answers by worker."""
    latencies: list[float] = []
    workers: dict[bytes, int] = {}

    async def ask(path: str) -> None:
        started = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        if path == "/":
            latencies.append(time.monotonic() - started)
        worker = answer.rsplit(b"\r\n", 1)[1]
        workers[worker] = workers.get(worker, 0) + 1

    tasks = []
    begun = time.monotonic()
    for number in range(seconds * 100):
        tasks.append(asyncio.create_task(ask("/block" if number % 10 == 0 else "/")))
        await asyncio.sleep(max(0.0, begun + number / 100 - time.monotonic()))
    await asyncio.gather(*tasks)
    return latencies, workers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=4)
    options = parser.parse_args()
    port = free_port()
    costs: dict[str, list[float]] = {}
    delays: dict[str, list[float]] = {}
    shares: dict[str, list[str]] = {}
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "accept_app.py"), "w") as file:
            file.write(APP)
        for _ in range(options.rounds):
            for accept in ("shared", "per-slot"):
                process = start(accept, options.workers, port, directory)
                try:
                    costs.setdefault(accept, []).append(
                        cost_of_a_connection(process, port, options.seconds)
                    )
                    time.sleep(1)  # workers go by how long connections have stayed lately
                    rates.setdefault(accept, []).extend(opened_at_once(port) for _ in range(TRIES))
                    found, workers = asyncio.run(behind_a_blocked_worker(port, options.seconds))
                    delays.setdefault(accept, []).extend(found)
                    total = sum(workers.values())
                    shares.setdefault(accept, []).append(
                        "/".join(f"{100 * count // total}%" for count in sorted(workers.values()))
                    )
                finally:
                    process.send_signal(signal.SIGTERM)
                    process.wait(40)
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {options.workers} workers")
    print(
        f"{'accept':<10}{'CPU us/connection':>19}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}  spread, and"
        " requests a second over connections opened at once, least to most"
    )
    for accept, values in costs.items():
        parts = statistics.quantiles(delays[accept], n=100)
        print(
            f"{accept:<10}{statistics.median(values):>19.1f}{parts[49] * 1e3:>9.1f}"
            f"{parts[89] * 1e3:>9.1f}{parts[98] * 1e3:>9.1f}  {shares[accept][-1]}"
            f"  {min(rates[accept]):,.0f} to {max(rates[accept]):,.0f}"
        )


if __name__ == "__main__":
    main()
