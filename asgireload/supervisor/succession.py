"""Who takes over the connections of a worker that drains. Pure.

The worker of the same slot comes first: it is the one that made the other superfluous. Where there is none,
because the slot goes away or its new worker is still to boot, a sibling of the newest generation that
serves takes them, and of several the one that takes over from the fewest. One that has no room, or takes
nothing, is followed by the next that was not yet asked; when all were, what is left ends with its worker.
"""

from collections import Counter

from asgireload.draining import DrainReason
from asgireload.supervisor.events import HandOver, Step
from asgireload.supervisor.fleet import Fleet, Phase, Worker
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.reloads import ReloadPhase


def choose_successor(fleet: Fleet, leaving: Worker) -> int | None:
    """Return the id of the worker that `leaving` hands its connections to; None where nobody stays."""
    if fleet.phase is not Phase.SERVING or leaving.drain_reason is DrainReason.STOP:
        return None
    serving = [worker for worker in fleet.workers.values() if _stays(fleet, worker, leaving)]
    # One that is to be recycled passes on in its turn what it gets. That is better than nobody: during a
    # reload its own successor has to wait, and it may be the only one that serves the new code.
    staying = [worker for worker in serving if not worker.recycle] or serving
    own = [worker for worker in staying if worker.slot == leaving.slot]
    if own:
        return max(own, key=lambda worker: worker.worker_id).worker_id
    if not staying:
        return None
    newest = max(worker.generation for worker in staying)
    busy = Counter(
        worker.successor for worker in fleet.workers.values() if worker.state is State.DRAINING
    )
    siblings = [worker.worker_id for worker in staying if worker.generation == newest]
    fewest = min(busy[number] for number in siblings)
    # By lot, so that one sibling does not get the connections of every slot that goes away.
    return fleet.rng.choice([number for number in siblings if busy[number] == fewest])


def renew_successions(fleet: Fleet) -> list[Step]:
    """Name another successor for draining workers whose own has left or leaves, or that had none.

    Such a worker may have long requests to finish, and connections that are free only then.
    """
    steps: list[Step] = []
    for worker in fleet.workers.values():
        if worker.state is not State.DRAINING or worker.drained:
            continue
        current = fleet.workers.get(worker.successor) if worker.successor is not None else None
        if (
            current is not None
            and current.state is State.READY
            and current.worker_id not in worker.spent_successors
        ):
            continue
        successor = choose_successor(fleet, worker)
        if successor is not None and successor != worker.successor:
            worker.successor = successor
            steps.append(HandOver(worker.worker_id, successor))
    return steps


def _stays(fleet: Fleet, worker: Worker, leaving: Worker) -> bool:
    """Whether the worker serves code that stays: it is of the generation that its slot owes."""
    if worker is leaving or worker.state is not State.READY:
        return False
    if worker.worker_id in leaving.spent_successors:
        return False
    slot = next((slot for slot in fleet.slots if slot.index == worker.slot), None)
    if slot is None or slot.leaving or worker.generation != slot.serves:
        return False
    reload = fleet.reload
    refused = reload is not None and reload.phase is ReloadPhase.RESTORING and reload.target
    return worker.generation != refused
