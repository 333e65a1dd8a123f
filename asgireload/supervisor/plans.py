"""Plans: how one generation follows another, as a table that `rollout` carries out. Values only.

A row is a `Stage`: which slots change to the new generation in it, the gate under which the next stage begins, how
long the gate may take, and what follows when something fails. After the last stage the generation is committed;
after the last stage of a restore plan, the refused generation is gone.
"""

import math
from enum import Enum

import msgspec

from asgireload.supervisor.gates import (
    AliveGate,
    Gate,
    HealthyGate,
    LoadedGate,
    ReadyGate,
    ReturnedGate,
)
from asgireload.supervisor.policy import BROKEN_MOMENT, Policy


class ReloadPhase(Enum):
    """The phase of a reload in status, the API and events. Stages have those from PREPARING to RESTORING."""

    PENDING = "pending"
    PREPARING = "preparing"
    PROVING = "proving"
    PROBATION = "probation"
    ROLLING = "rolling"
    RESTORING = "restoring"
    DONE = "done"


class PlaceCount(msgspec.Struct, frozen=True):
    """How many slots, counted from the first, change to the new generation in a stage."""

    least: int = 0
    share: float = 0.0
    """The share of the slots that are not being scaled away, rounded up."""

    def count(self, slots: int) -> int:
        # 1e-9 is subtracted, so that a rounding error of the multiplication is not rounded up.
        return min(slots, max(self.least, math.ceil(self.share * slots - 1e-9)))


NO_PLACES = PlaceCount()
FIRST_PLACE = PlaceCount(least=1)
ALL_PLACES = PlaceCount(share=1.0)


class FailureAction(Enum):
    """What follows when something in a stage fails."""

    RESTORE = "restore"
    """The reload fails: slots that have changed go back, and workers of the new generation leave."""
    SHOW = "show"
    """The generation is started once more and only shows the failure. If that fails too, the action is RESTORE."""
    GO_ON = "go on"
    """The rollout ignores the failure. A gate that fails counts as passed; a slot whose worker does not start
    counts as changed and is filled again as after a crash."""
    HOLD = "hold"
    """Nothing more changes until the next reload replaces this one."""


class OnFailure(msgspec.Struct, frozen=True):
    """The action for each kind of failure in a stage."""

    start: FailureAction
    """The code cannot be loaded, a worker does not become ready, or the gate fails or takes too long."""
    death: FailureAction
    """A worker of the new generation died after it was ready."""
    template: FailureAction
    """The template of the new generation died after it had loaded the application."""
    inconclusive: FailureAction = FailureAction.HOLD
    """The time is over, and the gate has too few figures to judge."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a plan."""

    name: str
    """Named in the failure of a worker that died in this stage."""
    phase: ReloadPhase
    """The phase that users see during this stage."""
    places: PlaceCount
    gate: Gate
    on_failure: OnFailure
    time: float | None = None
    """Seconds that the gate may take. None: no limit here, because what the gate waits for has limits of its
    own."""
    surge: int | None = None
    """The most slots that change at a time; None for no limit."""
    promotes: bool = False
    """A slot whose new worker is ready serves the new generation from then on, and the old worker retires. False:
    both workers serve."""
    can_be_superseded: bool = False
    """A request with `supersede` (from the file watcher) ends the reload in this stage."""


Plan = tuple[Stage, ...]


class Plans(msgspec.Struct, frozen=True):
    """The plans of a server."""

    first: Plan
    """For the first load, when nothing serves yet."""
    reload: Plan
    restore: Plan
    """The way back from a refused generation to the previous one."""

    def choose(self, serving: int | None) -> Plan:
        """Return the plan for a new generation while generation `serving` (None: nothing) serves."""
        return self.first if serving is None else self.reload


def make_plans(policy: Policy) -> Plans:
    return Plans(first_load(policy), reload_plan(policy), restore_plan(policy))


def first_load(policy: Policy) -> Plan:
    """Boot all slots at once, because no serving worker must be protected. When one slot serves, the others are
    filled as after a crash."""
    start = _refusal(policy)
    booting = Stage(
        name="start",
        phase=ReloadPhase.PROVING,
        places=ALL_PLACES,
        gate=ReadyGate(),
        on_failure=OnFailure(start=start, death=FailureAction.GO_ON, template=FailureAction.GO_ON),
        promotes=True,
        can_be_superseded=True,
    )
    filling = msgspec.structs.replace(
        booting,
        gate=HealthyGate(),
        on_failure=OnFailure(
            start=FailureAction.GO_ON, death=FailureAction.GO_ON, template=FailureAction.GO_ON
        ),
    )
    template = FailureAction.GO_ON
    return (_preparing(policy, template), booting, filling)


def reload_plan(policy: Policy) -> Plan:
    return newest_first(policy) if policy.tries_everywhere else rolling(policy)


def rolling(policy: Policy) -> Plan:
    """Try the new generation in the first slot beside the old one for a while; then change slot after slot."""
    back = OnFailure(start=_refusal(policy), death=FailureAction.RESTORE, template=_refusal(policy))
    return (
        _preparing(policy, _refusal(policy)),
        _proving(FIRST_PLACE, back),
        Stage(
            name="probation",
            phase=ReloadPhase.PROBATION,
            places=FIRST_PLACE,
            gate=AliveGate(policy.probation),
            on_failure=back,
        ),
        _roll(policy, back),
    )


def newest_first(policy: Policy) -> Plan:
    """Boot the newest code in all slots at once, and change the slots when one worker is ready."""
    back = OnFailure(start=_refusal(policy), death=FailureAction.RESTORE, template=_refusal(policy))
    return (
        _preparing(policy, _refusal(policy)),
        _proving(ALL_PLACES, back),
        _roll(policy, back),
    )


def restore_plan(policy: Policy) -> Plan:
    """Let every slot go back at once. When the time is over, slots may serve different generations."""
    return (
        Stage(
            name="restore",
            phase=ReloadPhase.RESTORING,
            places=ALL_PLACES,
            gate=ReturnedGate(),
            time=policy.boot_timeout,
            on_failure=OnFailure(
                start=FailureAction.GO_ON, death=FailureAction.GO_ON, template=FailureAction.GO_ON
            ),
            promotes=True,
        ),
    )


def _preparing(policy: Policy, template: FailureAction) -> Stage:
    return Stage(
        name="prepare",
        phase=ReloadPhase.PREPARING,
        places=NO_PLACES,
        gate=LoadedGate(quiet=BROKEN_MOMENT if policy.shows_failures else 0.0),
        on_failure=OnFailure(start=_refusal(policy), death=FailureAction.GO_ON, template=template),
        can_be_superseded=True,
    )


def _proving(places: PlaceCount, on_failure: OnFailure) -> Stage:
    return Stage(
        name="proving",
        phase=ReloadPhase.PROVING,
        places=places,
        gate=ReadyGate(),
        on_failure=on_failure,
        can_be_superseded=True,
    )


def _roll(policy: Policy, on_failure: OnFailure) -> Stage:
    return Stage(
        name="roll",
        phase=ReloadPhase.ROLLING,
        places=ALL_PLACES,
        gate=HealthyGate(),
        on_failure=on_failure,
        surge=policy.surge,
        promotes=True,
    )


def _refusal(policy: Policy) -> FailureAction:
    return FailureAction.SHOW if policy.shows_failures else FailureAction.RESTORE
