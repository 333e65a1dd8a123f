"""The machine and the interpreter that a benchmark runs on, and how its processes are bound to CPUs."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUSY_LOAD = 0.5
"""With a higher load average before the run, figures are not worth much."""


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution; None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def first_line(command: list[str]) -> str:
    """Return the first line that a command prints in the checkout, or that it is not to be had."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=10, cwd=ROOT
        )
    except OSError:
        return "not to be had"
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def commit(checkout: str | Path = ROOT) -> str:
    """Return what `git describe` says of a checkout."""
    return first_line(["git", "-C", str(checkout), "describe", "--always", "--dirty"])


def cpu_model() -> str:
    """Return the name of the CPU as the kernel tells it."""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def default_cpus() -> tuple[str, str]:
    """Return the CPU for servers and the one for the load; the same on a machine with one CPU."""
    allowed = sorted(os.sched_getaffinity(0))
    return str(allowed[0]), str(allowed[-1])


def pinned(command: list[str], cpus: str | None) -> list[str]:
    """Return the command bound to these CPUs, as taskset(1) takes them; None: bound to none."""
    return ["taskset", "-c", cpus, *command] if cpus is not None else command


def describe(command: str | None = None, *, has_load: bool = True) -> dict[str, str]:
    """Return the rows that begin every table of a run: date, command, machine, load average, kernel, Python.

    `command` is the words that repeat the run; None leaves that row out, and `has_load=False` the load average.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    rows = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    if command is not None:
        rows["command"] = command
    rows["machine"] = f"{cpu_model()}, {os.cpu_count()} CPUs, {memory:.0f} GB"
    if has_load:
        rows["load before"] = f"{os.getloadavg()[0]:.2f}"
    rows["kernel"] = f"{platform.system()} {platform.release()}"
    rows["Python"] = f"{platform.python_implementation()} {platform.python_version()}"
    return rows
