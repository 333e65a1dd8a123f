"""CPU time per request of asgireload, uvicorn and granian, side by side in one run.

    make bench            or: python benchmarks/cpu_per_request.py [--rounds 5] [--seconds 4]

One worker each, plain ASGI application with a 13-byte answer, 64 keep-alive connections with 7 request
headers from wrk. CPU time is user and system time of the whole process tree from /proc, over the time
of the measurement only. Servers run in turn, interleaved; the table shows medians and the spread, and
the ratio to uvicorn. Needs wrk; a server that is not installed is named and left out.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")]})
    await send({"type": "http.response.body", "body": b"Hello, world!"})
"""
HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-US,en;q=0.5",
    "Cookie": "session=0123456789abcdef0123456789abcdef",
    "Cache-Control": "no-cache",
}


@dataclass
class Server:
    name: str
    arguments: list[str]
    needs: tuple[str, ...]
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def servers(port: int) -> list[Server]:
    python = [sys.executable, "-m"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    return [
        Server(
            "asgireload",
            [*python, "asgireload", "bench_app:app", *place, "--no-access-log", "--admin-socket", "none"],
            ("httptools", "uvloop"),
        ),
        Server(
            "uvicorn",
            [*python, "uvicorn", "bench_app:app", *place, "--no-access-log", "--loop", "uvloop",
             "--http", "httptools", "--log-level", "warning"],
            ("uvicorn", "httptools", "uvloop"),
        ),
        Server(
            "granian",
            [*python, "granian", "--interface", "asgi", "--workers", "1", "--loop", "uvloop",
             "--no-ws", "--log-level", "warning", *place, "bench_app:app"],
            ("granian", "uvloop"),
        ),
    ]  # fmt: skip


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    fields = file.read().rsplit(") ", 1)[1].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(name))
    found = [pid]
    for member in found:
        found += parents.get(member, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Return user and system time of the whole tree, of exited children too."""
    ticks = 0
    for member in tree(pid):
        try:
            with open(f"/proc/{member}/stat") as file:
                fields = file.read().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        ticks += sum(int(value) for value in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("server did not open its port")


def load(port: int, seconds: int) -> tuple[int, float]:
    """Run wrk and return requests done and requests per second."""
    arguments = ["wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]
    for name, value in HEADERS.items():
        arguments += ["-H", f"{name}: {value}"]
    if shutil.which("taskset"):
        arguments = ["taskset", "-c", "1", *arguments]
    output = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(m?s)", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert total is not None
    assert rate is not None
    if "Non-2xx" in output or "Socket errors" in output:
        raise SystemExit(f"the load met errors:\n{output}")
    return int(total[1]), float(rate[1])


def measure(server: Server, port: int, seconds: int, directory: str) -> None:
    command = server.arguments
    if shutil.which("taskset"):
        command = ["taskset", "-c", "0", *command]
    process = subprocess.Popen(
        command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_open(port, process)
        load(port, 1)
        before = cpu_seconds(process.pid)
        done, rate = load(port, seconds)
        spent = cpu_seconds(process.pid) - before
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    server.cpu.append(spent / done * 1e6)
    server.rate.append(rate)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("this needs wrk (apt-get install wrk)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    chosen = []
    for server in servers(port):
        absent = [name for name in server.needs if importlib.util.find_spec(name) is None]
        if absent:
            print(f"left out: {server.name} (not installed: {', '.join(absent)})")
        else:
            chosen.append(server)
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "bench_app.py"), "w") as file:
            file.write(APP)
        for _ in range(options.rounds):
            for server in chosen:
                measure(server, port, options.seconds, directory)
    base = next((statistics.median(s.cpu) for s in chosen if s.name == "uvicorn"), None)
    print(
        f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs, {options.rounds} rounds of {options.seconds} s"
    )
    print(
        f"{'server':<12}{'CPU us/request':>16}{'min..max':>16}{'requests/s':>12}{'vs uvicorn':>12}"
    )
    for server in chosen:
        middle = statistics.median(server.cpu)
        spread = f"{min(server.cpu):.1f}..{max(server.cpu):.1f}"
        ratio = f"{middle / base:.2f}" if base else "-"
        print(
            f"{server.name:<12}{middle:>16.1f}{spread:>16}{statistics.median(server.rate):>12.0f}{ratio:>12}"
        )


if __name__ == "__main__":
    main()
