"""How the server stops: changes of the picture, with the steps to carry out. Pure."""

from asgireload.draining import DrainReason
from asgireload.errors import ShutdownError
from asgireload.supervisor.events import Finish, Log, Step, StopAccepting
from asgireload.supervisor.fleet import Fleet, KillReason, Phase, Template
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.rollout_transitions import abandon
from asgireload.supervisor.transitions import drain_child, kill_child


def stop(fleet: Fleet, now: float, *, exit_code: int, at_once: bool) -> list[Step]:
    """Begin to stop. When the server is stopping already, `at_once` kills the remaining workers."""
    steps: list[Step] = []
    if fleet.phase is Phase.SERVING:
        fleet.phase = Phase.STOPPING
        fleet.exit_code = exit_code
        steps += [StopAccepting(), *abandon(fleet, now)]
        for child in fleet.children.values():
            if isinstance(child, Template) and child.cleans_up:
                continue  # it ends after its workers, by `reconcile`
            if child.role.drains and child.state is State.READY and not at_once:
                steps += drain_child(fleet, child, DrainReason.STOP, now)
            elif child.state.is_live or not child.role.drains:
                steps += kill_child(child, KillReason.STOP, now)
    if at_once:
        for child in fleet.children.values():
            if child.role.drains and child.state is not State.DYING:
                steps += kill_child(child, KillReason.STOP, now)
    return steps


def finish(fleet: Fleet) -> list[Step]:
    """Finish the stop after every child has exited, with an exit code for failed lifespan shutdowns."""
    fleet.phase = Phase.FINISHED
    steps: list[Step] = []
    failures = fleet.shutdown_failures_at_stop
    if failures and fleet.exit_code == 0:
        fleet.exit_code = ShutdownError.exit_code
        which = "one worker" if failures == 1 else f"{failures} workers"
        text = f"The exit code is {fleet.exit_code}, because the lifespan shutdown of {which} did not succeed"
        steps.append(Log("error", text))
    return [*steps, Finish(fleet.exit_code)]
