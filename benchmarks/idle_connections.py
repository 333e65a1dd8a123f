"""What an idle connection costs, and what others notice of thousands of them.

    python benchmarks/idle_connections.py [--connections 10000]

One worker of each server, started afresh. So many clients send one request each, read the answer, and then
stay connected. Told are the memory of the server's process tree (PSS from /proc/PID/smaps_rollup) per
connection, over what it had after the first request; its CPU time in ten idle seconds; and the median and
worst time of 200 requests from one more client meanwhile. Keep-alive timeouts are raised so that nothing is
closed. Clients live in this process: needs as many descriptors as connections (ulimit -n).
"""

import argparse
import importlib.util
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from cpu_per_request import APP, cpu_seconds, tree, wait_until_open

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: idle\r\nAccept: */*\r\n\r\n"
IDLE_SECONDS = 10


def servers(port: int) -> dict[str, tuple[list[str], tuple[str, ...]]]:
    python = [sys.executable, "-m"]
    place = ["--host", "127.0.0.1", "--port", str(port)]
    ours = [*python, "asgireload", "bench_app:app", *place, "--no-access-log", "--admin-socket", "none",
            "--timeout-keep-alive", "600", "--timeout-request-head", "600"]  # fmt: skip
    uvicorn = [*python, "uvicorn", "bench_app:app", *place, "--no-access-log", "--log-level",
               "warning", "--timeout-keep-alive", "600", "--http", "httptools"]  # fmt: skip
    return {
        "asgireload, uvloop": ([*ours, "--loop", "uvloop"], ("uvloop",)),
        "asgireload, asyncio": ([*ours, "--loop", "asyncio"], ()),
        "uvicorn, uvloop": ([*uvicorn, "--loop", "uvloop"], ("uvicorn", "uvloop", "httptools")),
        "uvicorn, asyncio": ([*uvicorn, "--loop", "asyncio"], ("uvicorn", "httptools")),
    }


def pss_bytes(pid: int) -> int:
    total = 0
    for member in tree(pid):
        with open(f"/proc/{member}/smaps_rollup") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return total


def ask(client: socket.socket) -> None:
    client.sendall(REQUEST)
    reply = b""
    while not reply.endswith(b"Hello, world!"):
        piece = client.recv(4096)
        if not piece:
            raise SystemExit("the server closed a connection")
        reply += piece


def measure(command: list[str], port: int, count: int, directory: str) -> tuple[float, ...]:
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    clients: list[socket.socket] = []
    try:
        wait_until_open(port, process)
        other = socket.create_connection(("127.0.0.1", port))
        clients.append(other)
        for _ in range(200):
            ask(other)
        before = pss_bytes(process.pid)
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port))
            clients.append(client)
            ask(client)
        memory = (pss_bytes(process.pid) - before) / count
        cpu = cpu_seconds(process.pid)
        time.sleep(IDLE_SECONDS)
        cpu = cpu_seconds(process.pid) - cpu
        times = []
        for _ in range(200):
            started = time.perf_counter()
            ask(other)
            times.append(time.perf_counter() - started)
        return memory, cpu, statistics.median(times) * 1e3, max(times) * 1e3
    finally:
        for client in clients:
            client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if arguments.connections + 200 > hard:
        raise SystemExit(f"{arguments.connections} connections need a higher limit than {hard}")
    print(f"Python {sys.version.split()[0]}, {arguments.connections} connections")
    print("| server | memory per connection | CPU in 10 idle s | median answer | slowest answer |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "bench_app.py"), "w") as file:
            file.write(APP)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for name, (command, needs) in servers(port).items():
            missing = [module for module in needs if importlib.util.find_spec(module) is None]
            if missing:
                print(f"| {name} | left out: {', '.join(missing)} not installed | | | |")
                continue
            memory, cpu, median, worst = measure(command, port, arguments.connections, directory)
            print(
                f"| {name} | {memory / 1024:.1f} KiB | {cpu:.2f} s | {median:.2f} ms |"
                f" {worst:.2f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    main()
