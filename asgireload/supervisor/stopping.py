"""How the server stops: changes of the picture, with the steps they ask for. Pure."""

from asgireload.draining import DrainReason
from asgireload.errors import ShutdownError
from asgireload.supervisor.events import Finish, Say, Step, StopAccepting
from asgireload.supervisor.fleet import Fleet, KillReason, Phase, TemplateState
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.rollout_transitions import abandon
from asgireload.supervisor.transitions import drain_worker, kill_template, kill_worker


def stop(fleet: Fleet, now: float, *, exit_code: int, at_once: bool) -> list[Step]:
    """Begin to stop, or, when stopping already, hurry."""
    steps: list[Step] = []
    if fleet.phase is Phase.SERVING:
        fleet.phase = Phase.STOPPING
        fleet.exit_code = exit_code
        steps += [StopAccepting(), *abandon(fleet, now)]
        for worker in list(fleet.workers.values()):
            if worker.state is State.READY and not at_once:
                steps += drain_worker(fleet, worker, DrainReason.STOP, now)
            elif worker.state.is_live:
                steps += kill_worker(worker, KillReason.STOP, now)
        for template in fleet.templates.values():
            if not template.cleans_up:
                template.state = TemplateState.LEAVING
                steps += kill_template(template, now)
            # The others end after their workers: `reconcile` sees to that.
    if at_once:
        for worker in fleet.workers.values():
            if worker.state not in (State.DYING, State.GONE):
                steps += kill_worker(worker, KillReason.STOP, now)
    return steps


def finish(fleet: Fleet) -> list[Step]:
    """Everything has left: end with an exit code that says how the stop went."""
    fleet.phase = Phase.FINISHED
    steps: list[Step] = []
    failures = fleet.shutdown_failures_at_stop
    if failures and fleet.exit_code == 0:
        fleet.exit_code = ShutdownError.exit_code
        which = "one worker" if failures == 1 else f"{failures} workers"
        text = f"The exit code is {fleet.exit_code}, because the lifespan shutdown of {which} did not succeed"
        steps.append(Say("error", text))
    return [*steps, Finish(fleet.exit_code)]
