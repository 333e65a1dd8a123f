"""The supervisor's picture of its children, whatever their role: plain data that `reconcile` reads and updates.

Every time here is in seconds of `time.monotonic()`, passed in by the caller.
"""

import random
from collections import Counter
from enum import Enum

import msgspec

from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.messages import WorkerWaits
from asgireload.supervisor.lifecycle import Change, State, advance
from asgireload.supervisor.plans import Plans, make_plans
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.reloads import Reload
from asgireload.supervisor.roles import WORKER, Role

SUPERSEDED_PATIENCE = 10.0
"""Seconds that a reload waits for processes that were importing older code to end. They were sent SIGKILL, so only
an unresponsive file system can delay them longer."""
ABORT_GRACE = 2.0
"""Seconds between SIGABRT, after which a process writes its stacks, and SIGKILL."""

EXIT_KINDS = ("clean", "discarded", "crashed", "killed", "stalled")


class Phase(Enum):
    SERVING = "serving"
    STOPPING = "stopping"
    FINISHED = "finished"


class KillReason(Enum):
    """Why a child was sent SIGKILL, or SIGABRT before SIGKILL."""

    BOOT_TIMEOUT = "boot timeout"
    STALLED = "stalled"
    DRAIN_TIMEOUT = "drain timeout"
    EXIT_TIMEOUT = "exit timeout"
    """The child had drained, and its exit handlers or threads took too long."""
    DISCARDED = "discarded"
    """The child is not needed any more; usually it was never ready."""
    CROWDED = "too many old generations"
    """Newer code is to be loaded while `Policy.old_generations` generations still drain."""
    STOP = "stop"


class Child(msgspec.Struct, eq=False, kw_only=True):
    """A supervised process. Fields of one role only are in subclasses."""

    child_id: int
    """Unique among all children of this supervisor, of every role."""
    role: Role
    generation: int
    state: State = State.STARTING
    asked_at: float
    deadline: float | None
    """When booting or draining must be done, or the next signal is due."""
    template_id: int | None = None
    """The template that the child was forked from."""
    place: int | None = None
    """The index of the child's slot; None for a role without places."""
    pid: int | None = None
    stage: str = "boot"
    ready_at: float | None = None
    failure: Failure | None = None
    """The failure that the child reported before it ended."""
    killed_for: KillReason | None = None
    drain_reason: DrainReason | None = None
    drain_deadline: float = 0.0
    """When the drain and the lifespan shutdown must be done."""
    drained: bool = False
    """The child has reported the end of its drain, lifespan shutdown included."""
    exit_seconds: float = 0.0
    """Seconds that the child had for its exit after its drain."""
    reload: Reload | None = None
    """The reload whose counts include the child's drain."""
    recycle: str = ""
    """Why the child is to be replaced within its generation, or empty."""
    request_limit: int | None = None
    age_limit: float | None = None

    def advance(self, change: Change) -> None:
        """Go to the next state. Raise ValueError when the table of states has no entry for the change."""
        self.state = advance(self.role, self.state, change)


class Template(Child, kw_only=True):
    """A process that imports the application for one generation."""

    preload: bool
    becomes_worker: bool = False
    cleans_up: bool = False
    """At its end it removes what its import has created, so its workers must end before."""


class Worker(Child, kw_only=True):
    """A process that accepts connections."""

    place: int
    imports_in_loop: bool = True
    """Whether it imports the application in its event loop: `Fleet.imports_in_loop` when it was forked."""
    stopped_accepting: bool = False
    is_held: bool = False
    """New requests wait in the worker for new code."""
    targets: tuple[int, ...] = ()
    """The ids of the workers that take over its connections while it drains."""
    spent_targets: set[int] = msgspec.field(default_factory=set)
    """Targets that take no more connections. Each connection is offered to a worker at most once."""
    waits: WorkerWaits | None = None
    """What was open at its last report, while it drains."""
    waits_at: float = 0.0
    has_lifespan: bool = False
    shutdown_failure: str = ""
    """Why its lifespan shutdown failed, as the worker reported."""


class Generation(msgspec.Struct):
    """One load of the code and the configuration."""

    number: int
    template_id: int | None
    unsafe_reasons: tuple[str, ...] = ()
    proven: bool = False
    """A worker of this generation has been ready."""
    retried: bool = False
    """Its boot was retried without preloading."""
    has_turned: bool = False
    """The other value of `Fleet.imports_in_loop` was tried for this generation."""
    broken: Failure | None = None
    """Development: this failure is shown instead of the application."""
    committed_at: float | None = None
    trial_until: float | None = None
    """Until this moment, crashes count against the generation as a whole."""
    early_deaths: int = 0
    deaths: int = 0
    """Its workers that ended without being told to, whether ready or not."""


class Slot(msgspec.Struct):
    """A stable place for a child of one role.

    `serves` is the generation that the slot has to serve, `next` the generation that it changes to. Until a child
    of `next` is promoted, a child of `serves` is kept beside it.
    """

    index: int
    role: Role = WORKER
    serves: int | None = None
    next: int | None = None
    failures: int = 0
    not_before: float = 0.0
    """The end of the backoff: no fork before this moment."""
    leaving: bool = False
    """The slot is scaled away and is removed when its last child has exited."""


class Fleet(msgspec.Struct):
    """The whole picture of the children, slots, generations and reloads."""

    policy: Policy
    plans: Plans
    rng: random.Random
    started_at: float
    phase: Phase = Phase.SERVING
    slots: list[Slot] = msgspec.field(default_factory=list)
    """The slots of workers."""
    pools: dict[str, list[Slot]] = msgspec.field(default_factory=dict)
    """The slots of other roles, by the name of the role."""
    children: dict[int, Child] = msgspec.field(default_factory=dict)
    """Every child by id. Only `add` and `remove` change this; they also keep the indexes below."""
    workers: dict[int, Worker] = msgspec.field(default_factory=dict)
    templates: dict[int, Template] = msgspec.field(default_factory=dict)
    _by_place: dict[tuple[str, int], dict[int, Child]] = msgspec.field(default_factory=dict)
    """Children by the name of a role and the index of a slot."""
    generations: dict[int, Generation] = msgspec.field(default_factory=dict)
    serving: int | None = None
    """The committed generation."""
    previous: list[int] = msgspec.field(default_factory=list)
    """Committed generations whose templates are kept for a rollback, newest first."""
    listeners_are_shut: bool = False
    """The server is stopping, and no worker accepts connections any more."""
    steered_away: frozenset[int] = frozenset()
    """Slots that get no new connections."""
    reload: Reload | None = None
    pending: Reload | None = None
    history: list[Reload] = msgspec.field(default_factory=list)
    """Newest first, without the running and the pending reload."""
    is_changing: bool = False
    """Development: files have changed, and the reload for them has not been requested yet."""
    changed_at: float = float("-inf")
    """When files changed last."""
    imports_in_loop: bool = True
    """Workers that import the application themselves do so in their running event loop, as under uvicorn.
    False: the import starts an event loop itself, so it runs before the worker's loop."""
    is_unsafe: bool = False
    """The application could not be shared by forking when it was last loaded."""
    last_reload_id: int = 0
    last_child_id: int = 0
    last_generation: int = 0
    last_serving_at: float = 0.0
    """When a worker had last been ready for at least `observe.SERVING_STEADILY` seconds."""
    exit_code: int = 0
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""
    shutdown_failures_at_stop: int = 0
    """The part of `shutdown_failures` from workers that ended while the server stopped."""
    reload_not_before: float = 0.0
    """No reload that the supervisor itself requests (because a template died) before this moment."""
    own_reloads: int = 0
    """Failed reloads, and reloads to replace a lost worker, since the last success: they set the backoff of
    reloads that the supervisor itself requests."""
    restarts: Counter[str] = msgspec.field(default_factory=Counter)
    """Children replaced after a crash, by the name of their role."""
    tell_waits_at: float | None = None
    """When the next log line about what draining workers wait for is due."""
    waits_told_at: float = float("-inf")
    exits: dict[str, dict[str, int]] = msgspec.field(
        default_factory=lambda: {WORKER.name: dict.fromkeys(EXIT_KINDS, 0)}
    )
    """Children that have ended, by the name of their role and one of EXIT_KINDS."""
    outcomes: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, child: Child) -> None:
        assert (child.place is not None) == child.role.has_places
        self.children[child.child_id] = child
        if isinstance(child, Worker):
            self.workers[child.child_id] = child
        if isinstance(child, Template):
            self.templates[child.child_id] = child
        if child.place is not None:
            self._by_place.setdefault((child.role.name, child.place), {})[child.child_id] = child

    def remove(self, child: Child) -> None:
        del self.children[child.child_id]
        self.workers.pop(child.child_id, None)
        self.templates.pop(child.child_id, None)
        if child.place is not None:
            del self._by_place[child.role.name, child.place][child.child_id]

    def children_of(self, slot: Slot) -> list[Child]:
        """Return the children in a slot, including those that leave."""
        return list(self._by_place.get((slot.role.name, slot.index), {}).values())

    def siblings_of(self, child: Child) -> list[Child]:
        """Return the other children in the place of a child that has one."""
        if child.place is None:
            return []
        there = self._by_place.get((child.role.name, child.place), {})
        return [other for other in there.values() if other is not child]

    def slots_of(self, role: Role) -> list[Slot]:
        """Return the slots of a role, in order. The list is not a copy: scaling changes it."""
        return self.slots if role == WORKER else self.pools.setdefault(role.name, [])

    def all_slots(self) -> list[Slot]:
        return [*self.slots, *(slot for slots in self.pools.values() for slot in slots)]

    def slot_of(self, child: Child) -> Slot:
        """Return the slot of a child that has a place. A slot exists as long as a child is in it."""
        return next(slot for slot in self.slots_of(child.role) if slot.index == child.place)

    @property
    def ready_count(self) -> int:
        return sum(
            child.role.serves and child.state is State.READY for child in self.children.values()
        )

    @property
    def wanted_count(self) -> int:
        return sum(not slot.leaving for slot in self.slots)

    def loaded_template(self, generation: int | None) -> Template | None:
        """Return the ready template of `generation`, from which workers can be forked, or None."""
        known = self.generations.get(generation) if generation is not None else None
        if known is None or known.template_id is None:
            return None
        template = self.templates.get(known.template_id)
        return template if template and template.state is State.READY else None


def new_fleet(
    policy: Policy, rng: random.Random, now: float, *, plans: Plans | None = None
) -> Fleet:
    """Return a fleet with its slots and the pending first load, reload 0. `plans` replaces the policy's plans."""
    fleet = Fleet(
        policy=policy,
        plans=plans or make_plans(policy),
        rng=rng,
        started_at=now,
        last_serving_at=now,
    )
    fleet.slots = [Slot(index) for index in range(policy.workers)]
    fleet.pending = Reload(reload_id=0, requested_at=now, origins=["start"])
    return fleet
