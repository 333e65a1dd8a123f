"""The record of a reload: its origins, its progress, what happened in each slot, and its outcome.

While the reload runs, the record holds its plan and the current row of the plan; `rollout` reads both.
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
    """The server stopped before the reload was over."""


class SlotStep(msgspec.Struct, frozen=True):
    slot: int
    name: str
    at: float
    generation: int
    detail: str = ""


class Reload(msgspec.Struct):
    """One reload. Times are monotonic seconds."""

    reload_id: int
    requested_at: float
    origins: list[str]
    phase: ReloadPhase = ReloadPhase.PENDING
    outcome: Outcome = Outcome.PENDING
    source: int | None = None
    """The generation that served when the reload began; None for the first load."""
    target: int | None = None
    delayed_at: float | None = None
    """Since when it has waited, before it began, for older workers to drain."""
    started_at: float | None = None
    ended_at: float | None = None
    plan: Plan = ()
    row: int = 0
    window: Window = msgspec.field(default_factory=lambda: Window(0.0, {}))
    """The counts at the start of the current stage."""
    look_again_at: float | None = None
    """When the gate of the current stage must be asked again without an event; None if only after an event."""
    held_for: Failure | None = None
    """The failure that holds the reload: nothing more changes until the next reload replaces this one."""
    refused: int | None = None
    """The generation that the slots go back from: the target, after the reload was given up."""
    ending: Outcome = Outcome.FAILED
    """The outcome of the reload after its slots have gone back."""
    failure: Failure | None = None
    detail: str = ""
    """What was read for this reload, for the log."""
    shows: Failure | None = None
    """Development: no code is loaded for this reload, which shows this failure instead."""
    serving: int | None = None
    uniform: bool = True
    steps: list[SlotStep] = msgspec.field(default_factory=list)
    drained: int = 0
    killed: int = 0
    crashed: int = 0
    """Old workers that ended during their drain, not by a signal of the supervisor."""
    exchanges_cut: int = 0
    websockets_closed: int = 0
    handed_over: int = 0
    """Connections that continue in another worker."""
    came_back: int = 0
    """Offers of a connection that were not accepted: the connection was offered to another worker, or ended."""
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""

    @property
    def stage(self) -> Stage:
        """The current stage of a running reload."""
        return self.plan[self.row]

    @property
    def towards(self) -> int | None:
        """The generation that the slots change to."""
        return self.target if self.refused is None else self.source

    def waited(self, now: float) -> float:
        """Return the seconds for which the reload has waited for older workers to drain."""
        if self.delayed_at is None:
            return 0.0
        return (self.started_at if self.started_at is not None else now) - self.delayed_at

    @property
    def is_first_load(self) -> bool:
        return self.reload_id == 0

    def note(self, slot: int, name: str, at: float, generation: int, detail: str = "") -> None:
        self.steps.append(SlotStep(slot, name, at, generation, detail))


def describe_steps(reload: Reload) -> list[str]:
    """Return a line for each slot with its events and their seconds since the reload began."""
    began = reload.started_at if reload.started_at is not None else reload.requested_at
    by_slot: dict[int, list[str]] = {}
    for step in reload.steps:
        detail = f" ({step.detail})" if step.detail else ""
        text = f"{step.name} at {step.at - began:.2f} s{detail}"
        by_slot.setdefault(step.slot, []).append(text)
    return [f"  slot {slot}: {', '.join(texts)}" for slot, texts in sorted(by_slot.items())]
