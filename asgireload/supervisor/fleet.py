"""The supervisor's picture of its children, whatever their role: plain data that `reconcile` reads and updates.

Every time here is `time.monotonic()` in seconds, given from outside.
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
"""Seconds that new code waits for the end of processes that were importing older code. They were sent
SIGKILL, so only a file system that does not answer can hold them longer."""
ABORT_GRACE = 2.0
"""Seconds that a process gets to write its stacks after SIGABRT, before SIGKILL."""

EXIT_KINDS = ("clean", "discarded", "crashed", "killed", "stalled")


class Phase(Enum):
    SERVING = "serving"
    STOPPING = "stopping"
    FINISHED = "finished"


class KillReason(Enum):
    """Why a child was sent a signal that it cannot refuse."""

    BOOT_TIMEOUT = "boot timeout"
    STALLED = "stalled"
    DRAIN_TIMEOUT = "drain timeout"
    EXIT_TIMEOUT = "exit timeout"
    """It had drained, and its exit handlers or threads took too long."""
    DISCARDED = "discarded"
    """It was never ready and is not needed any more."""
    CROWDED = "too many old generations"
    """Newer code is to be loaded, and `Policy.old_generations` still drain."""
    STOP = "stop"


class Child(msgspec.Struct, eq=False, kw_only=True):
    """A supervised process. What only one role has is in a subclass of its own."""

    child_id: int
    """No other child of this supervisor, of whatever role, has had it."""
    role: Role
    generation: int
    state: State = State.STARTING
    asked_at: float
    deadline: float | None
    """When booting must be done, draining must have ended, or the next signal is due."""
    template_id: int | None = None
    """The template that forked it."""
    place: int | None = None
    """Of a role that has places: the index of its slot."""
    pid: int | None = None
    stage: str = "boot"
    ready_at: float | None = None
    failure: Failure | None = None
    """What the child itself said before it died."""
    killed_for: KillReason | None = None
    drain_reason: DrainReason | None = None
    drain_deadline: float = 0.0
    """When drain and lifespan shutdown must be done."""
    drained: bool = False
    """It has said that it is done, lifespan shutdown included."""
    exit_seconds: float = 0.0
    """What it was given to leave, when it had drained."""
    reload: Reload | None = None
    """The reload that counts its drain."""
    recycle: str = ""
    """Why it shall be replaced within its generation, or empty."""
    request_limit: int | None = None
    age_limit: float | None = None

    def advance(self, change: Change) -> None:
        """Go to the next state. Raise ValueError when the table of states has no entry for that."""
        self.state = advance(self.role, self.state, change)


class Template(Child, kw_only=True):
    """A process that imports the application for one generation."""

    preload: bool
    becomes_worker: bool = False
    cleans_up: bool = False
    """It removes at its end what its import has made, so its workers end before."""


class Worker(Child, kw_only=True):
    """A process that accepts connections."""

    place: int
    imports_in_loop: bool = True
    """Where it imports the application itself, as `Fleet.imports_in_loop` said when it was forked."""
    stopped_accepting: bool = False
    is_held: bool = False
    """It lets new requests wait."""
    targets: tuple[int, ...] = ()
    """The workers that take over its connections while it drains."""
    spent_targets: set[int] = msgspec.field(default_factory=set)
    """Those that take no more of them: so no connection is offered twice to the same worker."""
    waits: WorkerWaits | None = None
    """What was open when it last said so, while it drains."""
    waits_at: float = 0.0
    has_lifespan: bool = False
    shutdown_failure: str = ""
    """Why its lifespan shutdown failed, as it has said itself."""


class Generation(msgspec.Struct):
    """One load of the code."""

    number: int
    template_id: int | None
    unsafe_reasons: tuple[str, ...] = ()
    proven: bool = False
    """A worker of it has been ready."""
    retried: bool = False
    """Its boot was tried again without preloading."""
    has_turned: bool = False
    """The other way to import without preloading was tried (`Fleet.imports_in_loop`)."""
    broken: Failure | None = None
    """Development: it shows this instead of the application."""
    committed_at: float | None = None
    trial_until: float | None = None
    """Crashes before this moment count against the generation as a whole."""
    early_deaths: int = 0
    deaths: int = 0
    """Its workers that ended without being told to, ready or not."""


class Slot(msgspec.Struct):
    """A stable place for a child of one role.

    `serves` is the generation it owes its clients; `next` the one it is changing to. Until the next
    one's child is promoted, a child of `serves` is kept alive beside it.
    """

    index: int
    role: Role = WORKER
    serves: int | None = None
    next: int | None = None
    failures: int = 0
    not_before: float = 0.0
    """No fork before this moment: backoff."""
    leaving: bool = False
    """Scaled away: goes when its last child has left."""


class Fleet(msgspec.Struct):
    """The whole picture."""

    policy: Policy
    plans: Plans
    rng: random.Random
    started_at: float
    phase: Phase = Phase.SERVING
    slots: list[Slot] = msgspec.field(default_factory=list)
    """The places of workers."""
    pools: dict[str, list[Slot]] = msgspec.field(default_factory=dict)
    """The places of other roles, by the name of the role."""
    children: dict[int, Child] = msgspec.field(default_factory=dict)
    """Every child by id; changed by `add` and `remove` only, which keep the indexes below."""
    workers: dict[int, Worker] = msgspec.field(default_factory=dict)
    templates: dict[int, Template] = msgspec.field(default_factory=dict)
    _by_place: dict[tuple[str, int], dict[int, Child]] = msgspec.field(default_factory=dict)
    """By the name of a role and the index of a slot."""
    generations: dict[int, Generation] = msgspec.field(default_factory=dict)
    serving: int | None = None
    """The committed generation."""
    previous: list[int] = msgspec.field(default_factory=list)
    """Committed generations whose templates sleep for a rollback, newest first."""
    listeners_are_shut: bool = False
    """The server stops, and no worker accepts any more."""
    steered_away: frozenset[int] = frozenset()
    """Slots that new connections are kept away from."""
    reload: Reload | None = None
    pending: Reload | None = None
    history: list[Reload] = msgspec.field(default_factory=list)
    """Newest first, the running and pending ones not included."""
    is_changing: bool = False
    """Development: files have changed, and the reload for them is still to be asked for."""
    changed_at: float = float("-inf")
    """When they changed last."""
    imports_in_loop: bool = True
    """Workers that import the application themselves do so in their running event loop, as under uvicorn. False:
    its import starts a loop of its own, and runs before theirs."""
    is_unsafe: bool = False
    """The application could not be shared by forking when it was loaded last."""
    last_reload_id: int = 0
    last_child_id: int = 0
    last_generation: int = 0
    last_serving_at: float = 0.0
    """When a worker was last seen serving steadily."""
    exit_code: int = 0
    shutdown_failures: int = 0
    """Workers whose lifespan shutdown failed or was not completed."""
    shutdown_failures_at_stop: int = 0
    """Those of them that ended while the server stopped."""
    reload_not_before: float = 0.0
    """No reload on our own account (a template died) before this moment."""
    own_reloads: int = 0
    """Reloads in a row that we asked for ourselves and that failed."""
    restarts: Counter[str] = msgspec.field(default_factory=Counter)
    """Children replaced after a crash, by the name of their role."""
    tell_waits_at: float | None = None
    """When the next line about what is waited for is due."""
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
        """Return the children in a slot, those that leave it included."""
        return list(self._by_place.get((slot.role.name, slot.index), {}).values())

    def siblings_of(self, child: Child) -> list[Child]:
        """Return the other children in the place of a child that has one."""
        if child.place is None:
            return []
        there = self._by_place.get((child.role.name, child.place), {})
        return [other for other in there.values() if other is not child]

    def slots_of(self, role: Role) -> list[Slot]:
        """Return the places of a role, in order; the list itself, to be changed by whoever scales."""
        return self.slots if role == WORKER else self.pools.setdefault(role.name, [])

    def all_slots(self) -> list[Slot]:
        return [*self.slots, *(slot for slots in self.pools.values() for slot in slots)]

    def slot_of(self, child: Child) -> Slot:
        """Return the slot of a child that has a place; it exists as long as the child does."""
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
        """Return the template that can fork workers of `generation`, or None."""
        known = self.generations.get(generation) if generation is not None else None
        if known is None or known.template_id is None:
            return None
        template = self.templates.get(known.template_id)
        return template if template and template.state is State.READY else None


def new_fleet(
    policy: Policy, rng: random.Random, now: float, *, plans: Plans | None = None
) -> Fleet:
    """Return a fleet with its slots and the pending first load, number 0. `plans`: other ones than the policy's."""
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
