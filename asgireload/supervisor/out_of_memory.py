"""Whether a child that was ended by SIGKILL, and not by us, was ended by the kernel because memory ran out.

The kernel counts the processes that it has killed for that reason: for each control group in `memory.events`
(cgroup v2) or `memory.oom_control` (v1), and for the whole machine in /proc/vmstat. It counts before it kills, so a
counter that has risen when the exit of a child is collected may have risen because of it.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec

RECENT = 5.0
"""Seconds from the moment a counter is found risen during which exits are put down to it: the kernel may kill
several processes at once, whose exits are collected one after the other."""

_MOUNT = "/sys/fs/cgroup"
_MACHINE = "/proc/vmstat"


class _Counter(msgspec.Struct):
    seen: int
    explained: int
    """Up to here kills are known to be those of our children, or of nobody we know."""
    risen_at: float = float("-inf")


class OutOfMemory:
    """Compares counters with what they were. Pure: readings and time come from outside."""

    def __init__(self, counters: Mapping[str, int]) -> None:
        """`counters`: kills so far, by the file that says so; those that say most come first."""
        self._counters = {path: _Counter(count, count) for path, count in counters.items()}

    def explain(self, counters: Mapping[str, int], now: float) -> str:
        """Return why a child was killed that has just been collected; empty: nothing says so."""
        for path, count in counters.items():
            known = self._counters.setdefault(path, _Counter(count, count))
            if count > known.seen:
                if now - known.risen_at > RECENT:
                    known.explained = known.seen
                known.seen, known.risen_at = count, now
        for path in counters:
            known = self._counters[path]
            if known.explained < known.seen and now - known.risen_at <= RECENT:
                known.explained += 1
                return (
                    "most likely by the kernel because memory ran out"
                    f" (oom_kill of {path} rose from {known.explained - 1} to {known.explained})"
                )
        return ""


def counter_files(membership: str, mount: str = _MOUNT) -> list[str]:
    """Return where kills of the control groups of a process may be counted, from its /proc/PID/cgroup. Pure.

    In a container the path may be the one on the host, while its own group is mounted as the root.
    """
    files: list[str] = []
    for line in membership.splitlines():
        number, controllers, path = line.split(":", 2)
        mounts: tuple[str, ...]
        if number == "0":
            mounts, name = (mount, f"{mount}/unified"), "memory.events"
        elif "memory" in controllers.split(","):
            mounts, name = (f"{mount}/memory",), "memory.oom_control"
        else:
            continue
        files += [f"{root}{path.rstrip('/')}/{name}" for root in mounts]
        files += [f"{root}/{name}" for root in mounts]
    return list(dict.fromkeys(files))


def read_counters(files: Iterable[str] | None = None) -> dict[str, int]:
    """Return the kills so far by file; the machine's where no control group says. A missing file says nothing."""
    if files is None:
        try:
            with open("/proc/self/cgroup") as membership:
                files = counter_files(membership.read())
        except (OSError, ValueError):
            files = ()  # no /proc, or no control groups
    found = {path: count for path in files if (count := _read(path)) is not None}
    if not found and (count := _read(_MACHINE)) is not None:
        found[_MACHINE] = count
    return found


def _read(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, 65536)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if name == b"oom_kill" and value.strip().isdigit():
            return int(value)
    return None
