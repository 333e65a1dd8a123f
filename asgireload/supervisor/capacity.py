"""How many workers the limits of the system allow: descriptors of the supervisor, and processes.

The supervisor holds a channel, a file for stacks and a process handle for each worker, draining ones included, and
under `--accept per-slot` sockets for each slot. At the limit nothing can be started any more, not even a
replacement for a dead worker. So more workers than fit are refused before one is started.
"""

import msgspec

from asgireload.config import Config
from asgireload.errors import StartupError
from asgireload.ipc.linux import count_descriptors, file_limit, raise_file_limit, tasks_left

DESCRIPTORS_OF_WORKER = 3
SPARE_DESCRIPTORS = 32
"""For two templates, certificates, and connections of operators and probes."""


class Room(msgspec.Struct, frozen=True):
    """What the system allows this process."""

    descriptors: int
    """The most descriptors that may be open."""
    open_descriptors: int
    tasks: int | None
    """Processes and threads that the control group may still start; None for no limit."""


class Demand(msgspec.Struct, frozen=True):
    """The descriptors that workers need in the supervisor."""

    per_worker: int
    """Descriptors for a worker, including those of its draining predecessors."""
    per_slot: int
    """The part of `per_worker` for the slot's sockets."""


def demand_of(config: Config, tcp_addresses: int) -> Demand:
    """Return what each worker needs of the supervisor's descriptors. Pure."""
    beside = config.drain_generations if config.drain_overlap else 1
    sockets = tcp_addresses if config.accept == "per-slot" else 0
    return Demand(DESCRIPTORS_OF_WORKER * (1 + beside) + sockets, sockets)


def refusal(workers: int, held: int, alive: int, room: Room, demand: Demand) -> str | None:
    """Return why so many workers do not fit, or None. Pure.

    Of the open descriptors, `held` belong to workers; `alive` is the number of living workers.
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
    """Return why so many workers do not fit, or None. Raises the soft limit of open files if necessary."""
    open_now, tasks = count_descriptors(), tasks_left()
    if refusal(workers, held, alive, Room(file_limit(), open_now, tasks), demand) is None:
        return None
    return refusal(workers, held, alive, Room(raise_file_limit(), open_now, tasks), demand)


def check_room(config: Config, tcp_addresses: int) -> None:
    """Raise StartupError when the configured number of workers does not fit."""
    reason = look_for_room(config.workers, 0, 0, demand_of(config, tcp_addresses))
    if reason is not None:
        raise StartupError(f"--workers {config.workers}: {reason}")
