"""What a process tree costs: CPU time and memory, read from the kernel.

CPU time comes from the clock that Linux keeps for each process (clock_getcpuclockid(3)): user and
system time of all its threads, ended ones too, in nanoseconds. /proc/PID/stat tells the same in ticks of
10 ms, too coarse for a run of a second; it is read for the tree and for the time of reaped children.
"""

import os
import time
from dataclasses import dataclass

TICK = 1 / os.sysconf("SC_CLK_TCK")
SETTLE_INTERVAL = 0.25
SETTLED_SHARE = 0.25
"""A tree that uses less of one CPU than this over an interval has finished starting. An import uses all of
one; a few servers poll and are never quite idle."""


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of /proc/PID/stat that matter here. Times are seconds."""

    parent: int
    own_seconds: float
    reaped_seconds: float
    """Time of its children that have ended and were waited for."""


def parse_stat(text: str) -> ProcessStat:
    """Read one /proc/PID/stat. A command name may have spaces and brackets in it: proc_pid_stat(5)."""
    fields = text.rsplit(") ", 1)[1].split()
    user, system, reaped_user, reaped_system = (int(value) for value in fields[11:15])
    return ProcessStat(int(fields[1]), (user + system) * TICK, (reaped_user + reaped_system) * TICK)


def parse_pss(text: str) -> int:
    """Return the bytes of the Pss line of /proc/PID/smaps_rollup. Raise ValueError without one."""
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Pss line in smaps_rollup")


def descendants(parents: dict[int, int], root: int) -> list[int]:
    """Return `root` and everything below it, given the parent of each process."""
    children: dict[int, list[int]] = {}
    for process, parent in parents.items():
        children.setdefault(parent, []).append(process)
    found = [root]
    for member in found:
        found += children.get(member, [])
    return found


def process_clock(pid: int) -> int:
    """Return the clock that tells the CPU time of process `pid` (the kernel's MAKE_PROCESS_CPUCLOCK)."""
    return (~pid << 3) | 2


def read_stats() -> dict[int, ProcessStat]:
    """Return what /proc tells of every process that is alive."""
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    stats[int(name)] = parse_stat(file.read())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
    return stats


def tree(pid: int) -> list[int]:
    """Return `pid` and all its descendants."""
    return descendants({member: stat.parent for member, stat in read_stats().items()}, pid)


def cpu_seconds(pid: int) -> float:
    """Return user and system time of the whole tree so far, of reaped children too."""
    stats = read_stats()
    spent = 0.0
    for member in descendants({member: stat.parent for member, stat in stats.items()}, pid):
        stat = stats.get(member)
        if stat is None:
            continue
        try:
            own = time.clock_gettime(process_clock(member))
        except OSError:
            own = stat.own_seconds  # it ended after /proc was read
        spent += own + stat.reaped_seconds
    return spent


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of the whole tree: pages shared by n processes count 1/n each."""
    total = 0
    for member in tree(pid):
        try:
            with open(f"/proc/{member}/smaps_rollup") as file:
                total += parse_pss(file.read())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
    return total


def wait_settled(pid: int, timeout: float) -> bool:
    """Wait until the tree does nothing any more, `timeout` seconds at most; return whether it came to rest.

    Some servers never do: their workers poll.
    """
    deadline = time.monotonic() + timeout
    before = cpu_seconds(pid)
    while True:
        time.sleep(SETTLE_INTERVAL)
        now = cpu_seconds(pid)
        if now - before < SETTLED_SHARE * SETTLE_INTERVAL:
            return True
        if time.monotonic() > deadline:
            return False
        before = now
