"""How many old workers may drain beside serving ones, and what waits while more of them drain. Pure.

A draining worker keeps its memory until its streams have ended, at the latest until its drain deadline. A roll does
not wait for that (unless `--no-drain-overlap` is set), so reloads every few seconds over streams that do not end
would accumulate as many workers as fit into the drain timeout. Two limits prevent that:

- A reload begins when the workers that it will replace fit beside those that drain already: at most
  `drain_generations` times the wanted workers then drain. Workers are counted, not generations, because ten
  generations with one stream each take less memory than two whole ones. Restoring the generation before a failed or
  crashing one never waits.
- Recycling continues while at most half of the wanted workers drain because they were recycled.
"""

import math

from asgireload.draining import DrainReason
from asgireload.supervisor.fleet import ABORT_GRACE, Child, Fleet, Worker
from asgireload.supervisor.roles import Role

DRAINING_LIMIT = 1024
"""The most old workers that may drain at a time, whatever the options are: each worker, draining or serving, needs
a scoreboard record."""


def old_generations(fleet: Fleet) -> set[int]:
    """Return the generations whose workers drain because of a reload."""
    return {worker.generation for worker in _replaced(fleet)}


def has_room_for_reload(fleet: Fleet) -> bool:
    """Return whether a reload may begin: its old workers may drain beside those that drain already."""
    if fleet.policy.old_generations is not None:
        return len(old_generations(fleet)) < fleet.policy.old_generations
    return len(_replaced(fleet)) <= _room(fleet)


def describe_wait(fleet: Fleet, now: float) -> str:
    """Return what a reload without room waits for, as the object of "waits for"."""
    replaced = _replaced(fleet)
    room = _room(fleet)
    generations = sorted(old_generations(fleet))
    numbers = ", ".join(map(str, generations))
    plural = "generations" if len(generations) > 1 else "generation"
    # The deadline of the last worker that must exit before there is room.
    deadlines = sorted(worker.deadline or now for worker in replaced)
    latest = deadlines[len(replaced) - room - 1] + ABORT_GRACE - now
    which = f"{len(replaced) - room} of {len(replaced)} workers" if room else count(len(replaced))
    return f"{which} of {plural} {numbers} to drain, {math.ceil(max(latest, 0))} s at most"


def count(workers: int) -> str:
    return f"{workers} worker" if workers == 1 else f"{workers} workers"


def draining_of(fleet: Fleet, reload_id: int) -> int:
    """Return how many of the workers that the reload has replaced have not exited."""
    return sum(
        worker.reload is not None and worker.reload.reload_id == reload_id
        for worker in fleet.workers.values()
    )


def has_room_for_recycling(fleet: Fleet, role: Role) -> bool:
    """Return whether one more child of the role may be replaced within its generation."""
    policy = fleet.policy
    slots = [slot for slot in fleet.slots_of(role) if not slot.leaving]
    children = [child for slot in fleet.slots_of(role) for child in fleet.children_of(slot)]
    booting = sum(_has_booting_successor(fleet, child) for child in children)
    draining = sum(child.drain_reason is DrainReason.RECYCLE for child in children)
    most = policy.surge
    if policy.drain_overlap:
        most = max(most, (len(slots) + 1) // 2)
    return booting < policy.surge and booting + draining < most


def _has_booting_successor(fleet: Fleet, child: Child) -> bool:
    return (
        child.recycle != ""
        and child.state.is_live
        and any(not other.recycle and other.state.is_live for other in fleet.siblings_of(child))
    )


def _replaced(fleet: Fleet) -> list[Worker]:
    return [
        worker for worker in fleet.workers.values() if worker.drain_reason is DrainReason.RELOAD
    ]


def _room(fleet: Fleet) -> int:
    """Return how many old workers may drain when a reload begins."""
    if not fleet.policy.drain_overlap:
        return 0
    wanted = fleet.wanted_count
    most = min(fleet.policy.drain_generations * wanted, DRAINING_LIMIT)
    # Workers that have crashed do not drain, so a reload that repairs a crash waits for fewer.
    return max(most - min(fleet.ready_count, wanted), 0)
