"""Whether a child that got SIGKILL from another process was killed by the kernel because memory ran out.

The kernel counts the processes that it kills for that reason: for each control group in `memory.events` (cgroup v2)
or `memory.oom_control` (v1), and for the whole machine in /proc/vmstat. It counts before it kills, so a counter
that has increased when the exit of a child is collected may have increased because of that child.
"""

import os
from collections.abc import Iterable, Mapping

import msgspec

RECENT = 5.0
"""Seconds after an increase was found during which exits are attributed to it: the kernel may kill several
processes at once, whose exits are collected one after the other."""

_MOUNT = "/sys/fs/cgroup"
_MACHINE = "/proc/vmstat"


class _Counter(msgspec.Struct):
    seen: int
    explained: int
    """The part of the count that is attributed to children, or to processes that are not children."""
    risen_at: float = float("-inf")


class OutOfMemory:
    """Compares counters with earlier values. Pure: the caller passes in counts and times."""

    def __init__(self, counters: Mapping[str, int]) -> None:
        """`counters`: kills so far by file, the most specific files first."""
        self._counters = {path: _Counter(count, count) for path, count in counters.items()}

    def explain(self, counters: Mapping[str, int], now: float) -> str:
        """Return why a child that has just been collected was killed; empty when no counter shows a reason."""
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
    """Return the files that may count kills in the control groups of a process, from its /proc/PID/cgroup. Pure.

    In a container the path may be that of the host, while the container's own group is mounted as the root.
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
    """Return the kills so far by file; those of the whole machine if no control group has a count."""
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
