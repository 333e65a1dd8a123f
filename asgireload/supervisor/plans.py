"""Plans: how one generation follows another, as rows that the machine in `rollout` reads. Values only.

A row is a `Stage`: which slots change to the new generation in it, the gate under which the next row begins, how
long the gate may take, and what follows when something fails. After the last row the generation is committed; after
the last row of a plan that goes back, the refused one is gone.
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
    """What status, the API and events tell of a reload. Stages have those from PREPARING to RESTORING."""

    PENDING = "pending"
    PREPARING = "preparing"
    PROVING = "proving"
    PROBATION = "probation"
    ROLLING = "rolling"
    RESTORING = "restoring"
    DONE = "done"


class PlaceCount(msgspec.Struct, frozen=True):
    """How many slots, counted from the first, have the new generation as their next one in a stage."""

    least: int = 0
    share: float = 0.0
    """Of the slots that are to stay, rounded up."""

    def count(self, slots: int) -> int:
        # What is rounded up must not be an error of the multiplication.
        return min(slots, max(self.least, math.ceil(self.share * slots - 1e-9)))


NO_PLACES = PlaceCount()
FIRST_PLACE = PlaceCount(least=1)
ALL_PLACES = PlaceCount(share=1.0)


class FailureAction(Enum):
    """What follows when something fails."""

    RESTORE = "restore"
    """The reload has failed: slots that have changed go back, and what is new leaves."""
    SHOW = "show"
    """The generation is started once more and only shows the failure. If that fails, too: as RESTORE."""
    GO_ON = "go on"
    """The rollout takes no notice. A gate that fails counts as passed; a slot whose worker does not start counts as
    changed and is filled again like after a crash."""
    HOLD = "hold"
    """Nothing more changes until the next reload takes the place of this one."""


class OnFailure(msgspec.Struct, frozen=True):
    """The action for each kind of failure in a stage."""

    start: FailureAction
    """The code cannot be loaded, a worker does not become ready, or the gate fails or takes too long."""
    death: FailureAction
    """A worker of the new generation died after it was ready."""
    template: FailureAction
    """The template of the new generation died after it had loaded."""
    inconclusive: FailureAction = FailureAction.HOLD
    """The time is over, and the gate has not seen enough for a judgement."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a plan."""

    name: str
    """Names the stage in the failure of a worker that died in it."""
    phase: ReloadPhase
    """What users see while it runs."""
    places: PlaceCount
    gate: Gate
    on_failure: OnFailure
    time: float | None = None
    """Seconds that the gate may take. None: as long as what it waits for, which has limits of its own."""
    surge: int | None = None
    """At most so many slots change at a time; None: all side by side."""
    promotes: bool = False
    """A slot whose new worker is ready serves the new generation from then on, and the old worker leaves. False:
    both serve."""
    can_be_superseded: bool = False
    """Newer code ends it when who asks for the newer code wants that (the file watcher)."""


Plan = tuple[Stage, ...]


class Plans(msgspec.Struct, frozen=True):
    """The plans of a server."""

    first: Plan
    """When nothing serves yet."""
    reload: Plan
    restore: Plan
    """From a generation that is refused back to the one before."""

    def choose(self, serving: int | None) -> Plan:
        """Return the plan for a new generation, while `serving` serves."""
        return self.first if serving is None else self.reload


def make_plans(policy: Policy) -> Plans:
    return Plans(first_load(policy), reload_plan(policy), restore_plan(policy))


def first_load(policy: Policy) -> Plan:
    """All slots boot side by side: there is nothing to protect. When one serves, the others are filled as after a
    crash."""
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
    """The first slot tries the new generation beside the old one for a while; then slot after slot changes."""
    back = OnFailure(start=_refusal(policy), death=FailureAction.RESTORE, template=_refusal(policy))
    return (
        _preparing(policy, _refusal(policy)),
        Stage(
            name="proving",
            phase=ReloadPhase.PROVING,
            places=FIRST_PLACE,
            gate=ReadyGate(),
            on_failure=back,
            can_be_superseded=True,
        ),
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
    """Only the newest code counts: it boots in all slots at once, and when one worker is ready they change."""
    back = OnFailure(start=_refusal(policy), death=FailureAction.RESTORE, template=_refusal(policy))
    return (
        _preparing(policy, _refusal(policy)),
        Stage(
            name="proving",
            phase=ReloadPhase.PROVING,
            places=ALL_PLACES,
            gate=ReadyGate(),
            on_failure=back,
            can_be_superseded=True,
        ),
        _roll(policy, back),
    )


def restore_plan(policy: Policy) -> Plan:
    """Every slot goes back at once. When the time is over, slots may serve different generations."""
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
