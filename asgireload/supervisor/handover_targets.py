"""Who takes over the connections of a worker that drains. Pure.

The worker of the same slot comes first: it is the one that made the other superfluous. Where there is none,
because the slot goes away or its new worker is still to boot, the siblings of the newest generation that serve
take them, each its share. One that has no room, or takes nothing, leaves its share to the others; when all
do, to those that were not yet asked; when all were, what is left ends with its worker.
"""

from collections import Counter

from asgireload.draining import DrainReason
from asgireload.supervisor.events import NameTargets, Step
from asgireload.supervisor.fleet import Fleet, Phase, Worker
from asgireload.supervisor.lifecycle import State

SPREAD = 8
"""Siblings that share the connections of one worker, at most: each costs both sides a socket, and an eighth more
for each of them is little."""


def choose_targets(fleet: Fleet, leaving: Worker) -> tuple[int, ...]:
    """Return the ids of the workers that `leaving` hands its connections to; none where nobody stays."""
    if fleet.phase is not Phase.SERVING or leaving.drain_reason is DrainReason.STOP:
        return ()
    serving = [worker for worker in fleet.workers.values() if _stays(fleet, worker, leaving)]
    # One that is to be recycled passes on in its turn what it gets. That is better than nobody: during a
    # reload its own successor has to wait, and it may be the only one that serves the new code.
    staying = [worker for worker in serving if not worker.recycle] or serving
    own = [worker for worker in staying if worker.place == leaving.place]
    if own:
        return (max(own, key=lambda worker: worker.child_id).child_id,)
    if not staying:
        return ()
    newest = max(worker.generation for worker in staying)
    busy = Counter(
        target
        for worker in fleet.workers.values()
        if worker.state is State.DRAINING
        for target in worker.targets
    )
    siblings = [worker.child_id for worker in staying if worker.generation == newest]
    # By lot among equals, so that where there are more of them not the same ones share for every slot.
    fleet.rng.shuffle(siblings)
    siblings.sort(key=lambda number: busy[number])
    return tuple(siblings[:SPREAD])


def renew_targets(fleet: Fleet) -> list[Step]:
    """Name other targets for draining workers whose own have left or leave, or that had none.

    Such a worker may have long requests to finish, and connections that are free only then.
    """
    steps: list[Step] = []
    for worker in fleet.workers.values():
        if worker.state is not State.DRAINING or worker.drained:
            continue
        if any(_takes(fleet, worker, number) for number in worker.targets):
            continue
        targets = choose_targets(fleet, worker)
        if targets and set(targets) != set(worker.targets):
            worker.targets = targets
            steps.append(NameTargets(worker.child_id, targets))
    return steps


def _takes(fleet: Fleet, leaving: Worker, number: int) -> bool:
    """Whether the worker of this id, which was named, still takes over what `leaving` hands out."""
    target = fleet.workers.get(number)
    return (
        target is not None and target.state is State.READY and number not in leaving.spent_targets
    )


def _stays(fleet: Fleet, worker: Worker, leaving: Worker) -> bool:
    """Whether the worker serves code that stays: it is of the generation that its slot owes."""
    if worker is leaving or worker.state is not State.READY:
        return False
    if worker.child_id in leaving.spent_targets:
        return False
    slot = next((slot for slot in fleet.slots if slot.index == worker.place), None)
    if slot is None or slot.leaving or worker.generation != slot.serves:
        return False
    return fleet.reload is None or worker.generation != fleet.reload.refused
