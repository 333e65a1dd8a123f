"""What an idle connection costs, and what others notice of thousands of them, with both event loops.

    python -m benchmarks.idle_connections [--connections 10000]

One worker of each server, started afresh. So many clients send one request each, read the answer, and then
stay connected. Told are the memory of the server's process tree (PSS from /proc/PID/smaps_rollup) per
connection, over what it had after the first request; its CPU time in ten idle seconds; and the median and
99th percentile of 200 requests from one more client meanwhile. Keep-alive timeouts are raised so that
nothing is closed. Clients live in this process: needs as many descriptors as connections (ulimit -n).
"""

import argparse
import dataclasses
import sys
import tempfile

from benchmarks.common.asking import LoadError
from benchmarks.common.serving import free_port
from benchmarks.suite.cases import Setting
from benchmarks.suite.run import measure_idle, missing
from benchmarks.suite.running import running
from benchmarks.suite.servers import SERVERS, Place, Server

IDLE_SECONDS = 10.0
SETTING = Setting(many=True, pinned=False)


def with_loop(server: Server, loop: str) -> Server:
    """Return the server as started on this event loop."""

    def command(setting: Setting, place: Place) -> list[str]:
        return [*server.command(setting, place), "--loop", loop]

    return dataclasses.replace(server, command=command)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {arguments.connections} connections")
    print("| server | memory per connection | CPU in 10 idle s | median answer | 99th percentile |")
    print("|---|---|---|---|---|")
    for server in SERVERS:
        if server.name not in {"asgireload", "uvicorn"}:
            continue
        reason = missing(server)
        if reason is not None:
            print(f"| {server.name} | left out: {reason} | | | |")
            continue
        for loop in ("uvloop", "asyncio"):
            place, chosen = Place(free_port()), with_loop(server, loop)
            try:
                with (
                    tempfile.TemporaryDirectory() as directory,
                    running(chosen, SETTING, place, None, {}, directory) as live,
                ):
                    cost = measure_idle(live, arguments.connections, IDLE_SECONDS)
            except LoadError as error:
                raise SystemExit(f"{server.name}, {loop}: {error}") from error
            cpu = cost["idle_cpu_ms_per_s"] * IDLE_SECONDS / 1e3
            print(
                f"| {server.name}, {loop} | {cost['connection_kib']:.1f} KiB | {cpu:.2f} s |"
                f" {cost['p50_ms']:.2f} ms | {cost['p99_ms']:.2f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    main()
