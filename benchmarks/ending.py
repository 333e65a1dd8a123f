"""What does it cost a forked worker to end, with its memory cleared away object by object and without?

    .venv-bench/bin/python benchmarks/ending.py [--times 5]

A process imports FastAPI and what a worker consists of, as a template does, and forks. Each fork ends at once: in
one way as Python programs do, in the other with exit handlers, threads and buffers alone. Told are the CPU time of
the fork from beginning to end, and how many pages it touched for the first time or had copied.
"""

import argparse
import atexit
import gc
import os
import statistics
import sys
import threading
from typing import Any

import fastapi

import asgireload.websocket.connection
import asgireload.worker.main  # noqa: F401 - what a worker has in its memory


def fork_and_end(*, clears_away: bool) -> tuple[float, int]:
    """Return the CPU time of a fork that ends, in milliseconds, and its page faults."""
    child = os.fork()
    if child == 0:
        if clears_away:
            sys.exit(0)
        waiting: Any = threading
        waiting._shutdown()
        atexit._run_exitfuncs()
        os._exit(0)
    _, _, usage = os.wait4(child, 0)
    return (usage.ru_utime + usage.ru_stime) * 1e3, usage.ru_minflt


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    fastapi.FastAPI()
    gc.collect()
    gc.freeze()
    for name, clears_away in (("cleared away", True), ("left to the kernel", False)):
        found = [fork_and_end(clears_away=clears_away) for _ in range(options.times)]
        cpu = statistics.median(cpu for cpu, _ in found)
        faults = statistics.median(faults for _, faults in found)
        print(f"{name:<20}{cpu:>6.1f} ms{faults:>8.0f} page faults")


if __name__ == "__main__":
    main()
