"""Where the processor time of one request goes: a sampled profile of a worker under load, as a Markdown table.

    .venv-bench/bin/python benchmarks/where_time_goes.py [--seconds 5]

Needs perf (Debian: linux-perf), wrk and taskset, and the rights to sample. One worker of the asgireload that
is installed beside this interpreter answers wrk: 64 keep-alive connections, seven request headers, 13 bytes.
perf looks at the worker's clock some thousand times a second; each look is put down to the place it falls
into. What is told is each place's share of the time, and that share of the CPU time per request, which /proc
tells without sampling.
"""

import argparse
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

APP = """
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"13")]

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": b"Hello, world!"})
"""
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-US,en;q=0.5",
    "Cookie: session=0123456789abcdef0123456789abcdef",
    "Cache-Control: no-cache",
)
SAMPLES_PER_SECOND = 4000
WARM_UP_SECONDS = 1
START_SECONDS = 10.0

KERNEL = "kernel: receive, send, wait"
OURS = "asgireload, compiled: "
PLACES = (
    # object file, symbol, what it is
    (r"kernel", r"", KERNEL),
    (r"asgireload", r"reader|parser|heads|chunked", OURS + "reading the request"),
    (r"asgireload", r"scope", OURS + "the scope"),
    (r"asgireload", r"writer", OURS + "framing the response"),
    (r"asgireload", r"exchange", OURS + "the exchange"),
    (r"asgireload", r"connection|context|scoreboard", OURS + "the connection and counts"),
    (r"asgireload", r"", OURS + "what the compiler adds"),
    (r"^loop\.", r"", "uvloop"),
    (r"_asyncio", r"", "asyncio: the task"),
    (
        r"python",
        r"Malloc|Free|malloc|free|Dealloc|dealloc|_GC_|gc_|New$|clear",
        "Python: making and freeing objects",
    ),
    (r"python", r"[Dd]ict|keys|lookup", "Python: dictionaries"),
    (
        r"python",
        r"EvalFrame|_PyFunction|frame|gen_|coro",
        "Python: the interpreter (application, tasks)",
    ),
    (r"python", r"", "Python: calls, attributes, bytes, the rest"),
    (r"", r"", "libc, clock"),
)
"""The first that fits; an empty expression fits anything."""


def place_of(file: str, symbol: str) -> str:
    """Return the place that a sample falls into. Pure."""
    return next(
        name
        for file_pattern, symbol_pattern, name in PLACES
        if re.search(file_pattern, file) and re.search(symbol_pattern, symbol)
    )


def shares_of(report: str) -> dict[str, float]:
    """Return the share of each place from what `perf report` prints, in the order of PLACES. Pure."""
    found: defaultdict[str, float] = defaultdict(float)
    for line in report.splitlines():
        row = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(\S.*)", line)
        if row is not None:
            found[place_of(row[2], row[3])] += float(row[1])
    whole = sum(found.values())
    if not whole:
        raise SystemExit("perf has seen nothing: may this user sample (perf_event_paranoid)?")
    return {name: found[name] / whole for _, _, name in PLACES if found[name]}


def table(shares: dict[str, float], microseconds: float) -> str:
    """Return the figures as Markdown. Pure."""
    rows = ["| where | share | µs per request |", "|---|---:|---:|"]
    rows += [
        f"| {name} | {share:.0%} | {share * microseconds:.1f} |" for name, share in shares.items()
    ]
    return "\n".join([*rows, f"| **together** | | **{microseconds:.1f}** |"])


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of one process (proc_pid_schedstat: nanoseconds first)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def load(port: int, seconds: int) -> subprocess.Popen[str]:
    headers = [word for header in HEADERS for word in ("-H", header)]
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", *headers]
    return subprocess.Popen(
        [*command, f"http://127.0.0.1:{port}/"], stdout=subprocess.PIPE, text=True
    )


def worker_of(supervisor: int) -> int:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    for child in children:
        if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            return int(child)
    raise SystemExit("the server has no worker")


def wait_until_it_answers(port: int) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            # The port is bound before anybody accepts, so a connection alone says nothing.
            with socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
                sock.recv(1024)
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise SystemExit("the server does not answer") from None
            time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=5)
    seconds = parser.parse_args().seconds
    for program in ("perf", "wrk", "taskset"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is needed and not installed")
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "hello.py").write_text(APP)
        program = str(Path(sys.executable).with_name("asgireload"))
        options = ["hello:app", "--app-dir", directory, "--no-access-log"]
        server = subprocess.Popen(
            ["taskset", "-c", "0", program, *options, "--port", str(port)],
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_it_answers(port)
            worker = worker_of(server.pid)
            load(port, WARM_UP_SECONDS).wait()
            wrk = load(port, seconds)
            before = cpu_seconds(worker)
            samples = f"{directory}/samples"
            record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND)]
            subprocess.run(
                [*record, "-p", str(worker), "-o", samples, "sleep", str(seconds - 1)], check=True
            )
            output, _ = wrk.communicate()
            spent = cpu_seconds(worker) - before
        finally:
            server.terminate()
            server.wait()
        report = subprocess.run(
            ["perf", "report", "-i", samples, "--stdio", "--sort", "dso,symbol"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    requests = re.search(r"(\d+) requests in", output)
    if requests is None:
        raise SystemExit(f"wrk told no count: {output!r}")
    print(table(shares_of(report), spent / int(requests[1]) * 1e6))


if __name__ == "__main__":
    main()
