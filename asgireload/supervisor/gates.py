"""Gates: the conditions under which a stage of a rollout is over. Pure predicates over the figures of generations.

A gate judges the new generation, and the one before it, and returns whether the next stage may begin. A gate has no
memory: all that it needs is in the figures. The stage defines how long a gate may take, and what follows when it
fails.
"""

from enum import Enum
from typing import ClassVar

import msgspec

from asgireload.supervisor.figures import GenerationFigures


class GateOutcome(Enum):
    PASSED = "passed"
    NOT_YET = "not yet"
    FAILED = "failed"
    """The gate cannot pass any more."""
    INCONCLUSIVE = "inconclusive"
    """The figures are too few for a judgement, such as the error share of three requests."""


class GateResult(msgspec.Struct, frozen=True):
    outcome: GateOutcome
    reason: str = ""
    """Why the gate failed, or what it lacks, for the log."""
    look_again_at: float | None = None
    """The monotonic time at which the outcome may change without an event; None when only an event changes it."""


PASSED = GateResult(GateOutcome.PASSED)
NOT_YET = GateResult(GateOutcome.NOT_YET)


class Gate(msgspec.Struct, frozen=True):
    """The base of all gates. A gate is a value: two gates with equal fields are equal."""

    reads_traffic: ClassVar[bool] = False
    """Whether the gate compares the traffic of both generations, for which the supervisor reads every record.
    False: `judge` gets no traffic, and no figures of the old generation."""

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        """Return the outcome. `old` is None when nothing served before, or `reads_traffic` is false."""
        raise NotImplementedError


class LoadedGate(Gate, frozen=True):
    """A template can fork workers of the new generation.

    If the code is broken, no file must have changed for `quiet` seconds, because the code may have been read in the
    middle of a change.
    """

    quiet: float = 0.0

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        if not new.is_loaded:
            return NOT_YET
        settled_at = new.changed_at + self.quiet
        if new.is_broken and new.seen_at < settled_at:
            return GateResult(GateOutcome.NOT_YET, look_again_at=settled_at)
        return PASSED


class ReadyGate(Gate, frozen=True):
    """At least `workers` workers of the new generation accept connections."""

    workers: int = 1

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        return PASSED if new.ready >= self.workers else NOT_YET


class AliveGate(Gate, frozen=True):
    """No worker of the new generation has died for `seconds` since the stage began."""

    seconds: float

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        if new.deaths:
            which = "a worker" if new.deaths == 1 else f"{new.deaths} workers"
            return GateResult(GateOutcome.FAILED, f"{which} of generation {new.generation} died")
        until = new.opened_at + self.seconds
        if new.seen_at < until:
            return GateResult(GateOutcome.NOT_YET, look_again_at=until)
        return PASSED


class HealthyGate(Gate, frozen=True):
    """Every slot serves the new generation, and no worker of another generation accepts connections."""

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        complete = new.serving >= new.places and not new.others_accepting
        return PASSED if complete else NOT_YET


class ReturnedGate(Gate, frozen=True):
    """No slot is still changing to the generation that it goes back to."""

    def judge(self, new: GenerationFigures, old: GenerationFigures | None) -> GateResult:
        if not new.changing:
            return PASSED
        if not new.can_start:
            return GateResult(
                GateOutcome.FAILED, f"nothing can start workers of generation {new.generation}"
            )
        return NOT_YET
