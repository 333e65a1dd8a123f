"""The record of a reload: who asked, how far it is, what happened to each slot, and its verdict.

While it runs it carries its plan and the row that it has come to; `rollout` reads both.
"""

from enum import Enum

import msgspec

from asgireload.failures import Failure
from asgireload.supervisor.figures import Window
from asgireload.supervisor.plans import Plan, ReloadPhase, Stage


class Outcome(Enum):
    PENDING = "pending"
    RUNNING = "running"
    COMMITTED = "committed"
    FAILED = "failed"
    REVERTED = "reverted"
    SUPERSEDED = "superseded"
    ABANDONED = "abandoned"
    """The server stopped before the verdict."""


class SlotStep(msgspec.Struct, frozen=True):
    slot: int
    name: str
    at: float
    generation: int
    detail: str = ""


class Reload(msgspec.Struct):
    """One reload; times are monotonic seconds."""

    reload_id: int
    requested_at: float
    origins: list[str]
    phase: ReloadPhase = ReloadPhase.PENDING
    outcome: Outcome = Outcome.PENDING
    source: int | None = None
    """Generation that served when it began; None for the first load."""
    target: int | None = None
    delayed_at: float | None = None
    """Since when it waited for older workers to drain before it began."""
    started_at: float | None = None
    ended_at: float | None = None
    plan: Plan = ()
    row: int = 0
    window: Window = msgspec.field(default_factory=lambda: Window(0.0, {}))
    """What was counted when the row began."""
    look_again_at: float | None = None
    """When time alone changes what the gate of the row says; None: only an event does."""
    held_for: Failure | None = None
    """Why nothing more changes until the next reload takes its place."""
    refused: int | None = None
    """The generation that its slots go back from: the target, when it is given up."""
    ending: Outcome = Outcome.FAILED
    """The outcome, when it goes back."""
    failure: Failure | None = None
    detail: str = ""
    """What was read for it, for the log."""
    shows: Failure | None = None
    """Development: nothing is loaded for it, and this is shown."""
    serving: int | None = None
    uniform: bool = True
    steps: list[SlotStep] = msgspec.field(default_factory=list)
    drained: int = 0
    killed: int = 0
    crashed: int = 0
    """Old workers that ended in the middle of their drain, not by our signal."""
    exchanges_cut: int = 0
    websockets_closed: int = 0
    handed_over: int = 0
    """Connections that went on in another worker."""
    came_back: int = 0
    """Offers of a connection that were not taken; it was offered to another, or ended as without one."""
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""

    @property
    def stage(self) -> Stage:
        """The row of the plan that a running reload has come to."""
        return self.plan[self.row]

    @property
    def towards(self) -> int | None:
        """The generation that its slots change to."""
        return self.target if self.refused is None else self.source

    def waited(self, now: float) -> float:
        """Seconds that it has waited for older workers to drain."""
        if self.delayed_at is None:
            return 0.0
        return (self.started_at if self.started_at is not None else now) - self.delayed_at

    @property
    def is_first_load(self) -> bool:
        return self.reload_id == 0

    def note(self, slot: int, name: str, at: float, generation: int, detail: str = "") -> None:
        self.steps.append(SlotStep(slot, name, at, generation, detail))


def describe_steps(reload: Reload) -> list[str]:
    """Return a line for each slot: what happened to it, and at which second of the reload."""
    began = reload.started_at if reload.started_at is not None else reload.requested_at
    by_slot: dict[int, list[str]] = {}
    for step in reload.steps:
        detail = f" ({step.detail})" if step.detail else ""
        text = f"{step.name} at {step.at - began:.2f} s{detail}"
        by_slot.setdefault(step.slot, []).append(text)
    return [f"  slot {slot}: {', '.join(texts)}" for slot, texts in sorted(by_slot.items())]
