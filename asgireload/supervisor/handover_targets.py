"""Choose the workers that take over the connections of a draining worker. Pure.

The worker of the same slot comes first, because it replaces the draining worker. If there is none, because the slot
is scaled away or its new worker is still booting, serving siblings of the newest generation take a share each. The
share of a sibling that has no room, or takes nothing, goes to the other targets; when no target takes any more, to
siblings that were not asked yet; after those, the remaining connections end with their worker.
"""

from collections import Counter

from asgireload.draining import DrainReason
from asgireload.supervisor.events import NameTargets, Step
from asgireload.supervisor.fleet import Fleet, Phase, Worker
from asgireload.supervisor.lifecycle import State

SPREAD = 8
"""The most siblings that share the connections of one worker: each costs both workers a socket, and each gets only
an eighth more connections."""


def choose_targets(fleet: Fleet, leaving: Worker) -> tuple[int, ...]:
    """Return the ids of the workers that `leaving` hands its connections to; empty when no worker stays."""
    if fleet.phase is not Phase.SERVING or leaving.drain_reason is DrainReason.STOP:
        return ()
    serving = [worker for worker in fleet.workers.values() if _stays(fleet, worker, leaving)]
    # A worker that is to be recycled hands its connections on later. Even so it is better than no target: during
    # a reload its own successor has to wait, and it may be the only worker that serves the new code.
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
    # Ties are broken at random, so that different siblings take a share for different slots.
    fleet.rng.shuffle(siblings)
    siblings.sort(key=lambda number: busy[number])
    return tuple(siblings[:SPREAD])


def renew_targets(fleet: Fleet) -> list[Step]:
    """Name other targets for draining workers whose targets have left or are leaving, or that had none.

    Such a worker may have long requests to finish, whose connections can be handed over only after that.
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
    """Return whether the worker of this id, a named target, still takes over connections of `leaving`."""
    target = fleet.workers.get(number)
    return (
        target is not None and target.state is State.READY and number not in leaving.spent_targets
    )


def _stays(fleet: Fleet, worker: Worker, leaving: Worker) -> bool:
    """Return whether the worker is a possible target: ready, and of the generation that its slot serves."""
    if worker is leaving or worker.state is not State.READY:
        return False
    if worker.child_id in leaving.spent_targets:
        return False
    slot = next((slot for slot in fleet.slots if slot.index == worker.place), None)
    if slot is None or slot.leaving or worker.generation != slot.serves:
        return False
    return fleet.reload is None or worker.generation != fleet.reload.refused
