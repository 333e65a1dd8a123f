"""How many workers the limits of the system leave room for: descriptors of the supervisor, and processes.

The supervisor holds a channel, a file for stacks and a process handle for each worker, those that drain
included, and under `--accept per-slot` sockets for each slot. Beyond its limit nothing can be started any more, not
even what takes the place of a worker that dies. So more workers than fit are refused before one is started.
"""

import msgspec

from asgireload.config import Config
from asgireload.errors import StartupError
from asgireload.ipc.linux import count_descriptors, file_limit, raise_file_limit, tasks_left

DESCRIPTORS_OF_WORKER = 3
SPARE_DESCRIPTORS = 32
"""For two templates, certificates, operators and probes."""


class Room(msgspec.Struct, frozen=True):
    """What the system leaves to this process."""

    descriptors: int
    """That may be open."""
    open_descriptors: int
    tasks: int | None
    """Processes and threads that the control group may still start; None for no limit."""


class Demand(msgspec.Struct, frozen=True):
    """What workers take."""

    per_worker: int
    """Descriptors, with those of the workers that it replaces and that drain meanwhile."""
    per_slot: int
    """Of these, the sockets of the slot."""


def demand_of(config: Config, tcp_addresses: int) -> Demand:
    """Return what each worker takes of what the supervisor may have. Pure."""
    beside = config.drain_generations if config.drain_overlap else 1
    sockets = tcp_addresses if config.accept == "per-slot" else 0
    return Demand(DESCRIPTORS_OF_WORKER * (1 + beside) + sockets, sockets)


def refusal(workers: int, held: int, alive: int, room: Room, demand: Demand) -> str | None:
    """Return why so many workers cannot be had, or None. Pure.

    `held` descriptors of those that are open are workers', of whom `alive` live.
    """
    own = room.open_descriptors - held
    most = max(0, (room.descriptors - own - SPARE_DESCRIPTORS) // demand.per_worker)
    if workers > most:
        return (
            f"there is room for {most} workers and not for {workers}: the supervisor may have"
            f" {room.descriptors} files open, and each worker takes up to {demand.per_worker} with those that drain"
            " beside it; raise the limit (LimitNOFILE= of systemd, --ulimit nofile= of Docker, ulimit -Hn)"
        )
    if room.tasks is not None and workers - alive > room.tasks:
        return (
            f"there is room for {alive + room.tasks} workers and not for {workers}: the control group may start"
            f" {room.tasks} more processes; raise its limit (TasksMax= of systemd, --pids-limit of Docker)"
        )
    return None


def look_for_room(workers: int, held: int, alive: int, demand: Demand) -> str | None:
    """Return why so many workers cannot be had, or None. The soft limit of open files is raised if need be."""
    open_now, tasks = count_descriptors(), tasks_left()
    if refusal(workers, held, alive, Room(file_limit(), open_now, tasks), demand) is None:
        return None
    return refusal(workers, held, alive, Room(raise_file_limit(), open_now, tasks), demand)


def check_room(config: Config, tcp_addresses: int) -> None:
    """Raise StartupError where the workers that are asked for cannot be had."""
    reason = look_for_room(config.workers, 0, 0, demand_of(config, tcp_addresses))
    if reason is not None:
        raise StartupError(f"--workers {config.workers}: {reason}")
