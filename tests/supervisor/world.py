"""A world of invented children and invented time, in which the supervisor's decisions are played out.

It does what the steps ask for: templates load, workers boot, drain and die, each after a delay that a
scenario chooses. After every event it checks what must always hold.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from asgireload.draining import DrainReason
from asgireload.failures import Failure
from asgireload.ipc.messages import (
    AnyMessage,
    AppFailed,
    AppLoaded,
    AppUnsafe,
    ChildStarted,
    WorkerDrained,
    WorkerDraining,
    WorkerFailed,
    WorkerReady,
)
from asgireload.supervisor import events
from asgireload.supervisor.fleet import Fleet, Phase, Worker, new_fleet
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.observe import apply
from asgireload.supervisor.plans import Plans
from asgireload.supervisor.policy import Policy
from asgireload.supervisor.reconcile import next_deadline, reconcile


@dataclass(frozen=True)
class Code:
    """How one release behaves. Times in seconds; None: never."""

    imports: float | None = 1.0
    import_fails: bool = False
    import_dies: bool = False
    unsafe: bool = False
    cleans_up: bool = False
    """Its template removes at its end what the import has made."""
    needs_loop: bool = False
    """It cannot be imported where no event loop runs, as in a template."""
    starts_loop: bool = False
    """It cannot be imported where an event loop runs."""
    boots: float | None = 0.1
    boot_fails: bool = False
    boot_dies: bool = False
    needs_no_preload: bool = False
    """A forked worker dies silently unless the template was loaded without preloading."""
    lives: float | None = None
    """A ready worker dies after this time."""
    leaves: float | None = None
    """A ready worker drains by itself after this time, as after SIGTERM."""
    drains: float | None = 0.2


GOOD = Code()


@dataclass
class World:
    policy: Policy = field(default_factory=Policy)
    releases: Callable[[int], Code] = lambda generation: GOOD
    seed: int = 0
    plans: Plans | None = None
    """Other ones than the policy's."""

    def __post_init__(self) -> None:
        self.now = 1000.0
        rng = random.Random(self.seed)
        self.fleet: Fleet = new_fleet(self.policy, rng, self.now, plans=self.plans)
        self.queue: list[tuple[float, int, events.Event]] = []
        self.count = 0
        self.alive: set[int] = set()
        self.templates: dict[int, events.StartTemplate] = {}
        self.workers: dict[int, events.ForkChild] = {}
        self.accepting: dict[int, int] = {}
        """Worker id to generation, of workers that accept connections."""
        self.held: set[int] = set()
        """Workers that let requests wait."""
        self.drains: list[events.DrainChild] = []
        self.import_tries = 0
        """Imports in workers that failed because an event loop ran, or because none ran."""
        self.verdicts: list[tuple[int, str]] = []
        self.lines: list[str] = []
        self.errors: list[str] = []
        """Those of them that are errors."""
        self.steered: list[frozenset[int]] = []
        self.exit_code: int | None = None
        self.are_listeners_shut = False
        self.lowest_accepting: int | None = None
        self.most_workers = 0
        self.most_booting = 0
        self.most_replaced = 0
        """Workers that drained at a time because of reloads."""
        self.check = True
        self._after([*reconcile(self.fleet, self.now)])

    # --- time -------------------------------------------------------------------------------------

    def later(self, delay: float | None, event: events.Event) -> None:
        if delay is not None:
            self.count += 1
            heapq.heappush(self.queue, (self.now + delay, self.count, event))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        for _ in range(100_000):
            due = next_deadline(self.fleet, self.now)
            upcoming = self.queue[0][0] if self.queue else None
            times = [time for time in (due, upcoming) if time is not None]
            if not times or min(times) > end or self.fleet.phase is Phase.FINISHED:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, min(times))
            if upcoming is not None and upcoming <= self.now:
                _, _, event = heapq.heappop(self.queue)
                self._happen(event)
            else:
                before = (due, self.now)
                self._after(reconcile(self.fleet, self.now))
                after = next_deadline(self.fleet, self.now)
                assert after is None or after > self.now or before != (after, self.now), (
                    f"deadline {after} passed without effect at {self.now}"
                )
        raise AssertionError("the world does not come to rest")

    def submit(self, event: events.Event) -> None:
        self._happen(event)

    def reload(self, origin: str = "test") -> None:
        self.submit(events.ReloadRequested(origin))

    def kill_worker(self, worker_id: int) -> None:
        """kill -9 from outside."""
        self._die(worker_id, "killed by SIGKILL", clean=False)

    # --- what children do -------------------------------------------------------------------------

    def _happen(self, event: events.Event) -> None:
        match event:
            case events.ChildSaid(child_id) | events.ChildExited(child_id):
                if child_id not in self.alive:
                    return
                self._note(child_id, event)
            case events.ChildObserved(child_id):
                if child_id not in self.alive:
                    return
        self._after([*apply(self.fleet, event, self.now), *reconcile(self.fleet, self.now)])

    def _note(self, child_id: int, event: events.ChildSaid | events.ChildExited) -> None:
        if isinstance(event, events.ChildExited):
            self.alive.discard(child_id)
            self.accepting.pop(child_id, None)
            self.held.discard(child_id)
        elif isinstance(event.message, WorkerReady) and self.workers[child_id].role.serves:
            self.accepting[child_id] = self.workers[child_id].generation
        elif isinstance(event.message, WorkerDraining):
            self.accepting.pop(child_id, None)

    def _die(self, worker_id: int, description: str, *, clean: bool) -> None:
        self._happen(events.ChildExited(worker_id, description, clean))

    def _after(self, steps: list[events.Step]) -> None:
        for step in steps:
            self._do(step)
        assert not reconcile(self.fleet, self.now), "reconcile asks twice for the same"
        workers = self.fleet.workers.values()
        booting = sum(worker.state in (State.STARTING, State.BOOTING) for worker in workers)
        self.most_workers = max(self.most_workers, len(workers))
        self.most_booting = max(self.most_booting, booting)
        self.most_replaced = max(self.most_replaced, len(self.draining(DrainReason.RELOAD)))
        if self.lowest_accepting is not None:
            self.lowest_accepting = min(self.lowest_accepting, len(self.accepting))

    def _do(self, step: events.Step) -> None:
        match step:
            case events.StartTemplate():
                self._start_template(step)
            case events.ForkChild():
                self._fork_child(step)
            case events.DrainChild():
                self._drain(step)
            case events.KillChild():
                description = "killed by SIGABRT" if step.dump else "killed by SIGKILL"
                self.later(0.01, events.ChildExited(step.child_id, description, clean=False))
            case events.HoldWorker():
                self.held.add(step.child_id)
            case events.ReleaseWorker():
                self.held.remove(step.child_id)
            case events.LetGo():
                self._check_that_nobody_uses(step.child_id)
                self.later(0.01, events.ChildExited(step.child_id, "exit status 0"))
            case events.Log():
                self.lines.append(step.text)
                if step.level == "error":
                    self.errors.append(step.text)
            case events.SteerAway():
                self.steered.append(step.slots)
            case events.ReportOutcome():
                known = next(
                    reload for reload in self.fleet.history if reload.reload_id == step.reload_id
                )
                self.verdicts.append((step.reload_id, known.outcome.value))
            case events.ShutListeners():
                assert not self.accepting, "what waits for a worker would be reset"
                assert not self.are_listeners_shut
                self.are_listeners_shut = True
            case events.Finish():
                assert self.are_listeners_shut, "a copy of a listener would keep the address in use"
                self.exit_code = step.exit_code
                assert not self.alive, "something was left behind"

    def _start_template(self, step: events.StartTemplate) -> None:
        number = step.child_id
        self.alive.add(number)
        self.templates[number] = step
        self.later(0.0, said(number, ChildStarted(9_000 + number)))
        code = self.releases(step.generation)
        if step.failure is not None:
            self.later(0.005, said(number, AppLoaded(0.005, (), step.failure)))
        elif not step.preload:
            self.later(0.05, said(number, AppLoaded(0.05)))
        elif code.import_dies:
            self.later(code.imports, events.ChildExited(number, "killed by SIGSEGV"))
        elif code.import_fails and self.policy.shows_failures:
            failure = Failure("import", "SyntaxError", "Traceback")
            self.later(code.imports, said(number, AppLoaded(0.1, (), failure)))
        elif code.import_fails:
            self.later(
                code.imports,
                said(number, AppFailed(Failure("import", "SyntaxError", "Traceback"))),
            )
            self.later((code.imports or 0) + 0.01, events.ChildExited(number, "exit status 1"))
        elif code.needs_loop:
            reasons = ("its import needs a running event loop",)
            self.later(code.imports, said(number, AppUnsafe(reasons, needs_loop=True)))
        elif code.unsafe:
            self.later(code.imports, said(number, AppUnsafe(("a thread",))))
        else:
            loaded = said(number, AppLoaded(1.0, cleans_up=code.cleans_up))
            self.later(code.imports, loaded)

    def _check_that_nobody_uses(self, template_id: int) -> None:
        """What a template removes at its end, its workers use as long as they live."""
        template = self.fleet.templates[template_id]
        for worker in self.fleet.workers.values():
            if template.cleans_up and worker.generation == template.generation:
                assert worker.state is State.DYING, "its temporary files were removed too early"

    def _fork_child(self, step: events.ForkChild) -> None:
        number = step.child_id
        assert step.template_id in self.alive, "forked from a template that is gone"
        if self.templates[step.template_id].becomes_worker:
            self.alive.discard(step.template_id)
        self.alive.add(number)
        self.workers[number] = step
        code = self.releases(step.generation)
        preload = self.templates[step.template_id].preload
        if self.templates[step.template_id].failure is not None or (
            self.policy.shows_failures and code.import_fails
        ):
            code = GOOD  # what stands in for it
        self.later(0.0, said(number, ChildStarted(10_000 + number)))
        loop_fails = code.starts_loop if step.import_in_loop else code.needs_loop
        if not preload and loop_fails:
            self.import_tries += 1
            text = "about the event loop"
            self.later(
                code.boots,
                said(number, WorkerFailed(Failure("import", text), other_way=step.has_other_way)),
            )
            exited = events.ChildExited(number, "exit status 3", clean=False)
            self.later((code.boots or 0) + 0.2, exited)
        elif code.boot_dies or (code.needs_no_preload and preload):
            self.later(code.boots, events.ChildExited(number, "killed by SIGSEGV", clean=False))
        elif code.boot_fails and self.policy.shows_failures:
            failure = Failure("lifespan", "no database", "Traceback")
            self.later(code.boots, said(number, WorkerReady(failure)))
        elif code.boot_fails:
            self.later(
                code.boots,
                said(number, WorkerFailed(Failure("lifespan", "no database", "Traceback"))),
            )
            self.later(
                (code.boots or 0) + 0.001, events.ChildExited(number, "exit status 3", clean=False)
            )
        else:
            self.later(code.boots, said(number, WorkerReady()))
            if code.boots is not None and code.leaves is not None:
                gone = code.boots + code.leaves
                self.later(gone, said(number, WorkerDraining()))
                self.later(gone + 0.01, said(number, WorkerDrained(0, 0)))
                self.later(gone + 0.02, events.ChildExited(number, "exit status 0", clean=True))
            if code.boots is not None and code.lives is not None:
                self.later(
                    code.boots + code.lives,
                    events.ChildExited(number, "exit status 1", clean=False),
                )

    def _drain(self, step: events.DrainChild) -> None:
        number = step.child_id
        self.drains.append(step)
        code = self.releases(self.workers[number].generation)
        self.accepting.pop(number, None)
        self.later(0.001, said(number, WorkerDraining()))
        if code.drains is not None:
            self.later(code.drains, said(number, WorkerDrained(0, 0)))
            self.later(code.drains + 0.01, events.ChildExited(number, "exit status 0", clean=True))

    # --- questions --------------------------------------------------------------------------------

    def draining(self, reason: DrainReason) -> list[Worker]:
        """Workers that were told to leave for this reason and have not left."""
        return [worker for worker in self.fleet.workers.values() if worker.drain_reason is reason]

    @property
    def serving(self) -> list[int]:
        """Generations of the accepting workers, by slot."""
        ready = [worker for worker in self.fleet.workers.values() if worker.state is State.READY]
        return [worker.generation for worker in sorted(ready, key=lambda worker: worker.place)]


def said(child_id: int, message: AnyMessage) -> events.ChildSaid:
    return events.ChildSaid(child_id, message)


def started(
    policy: Policy | None = None,
    releases: Callable[[int], Code] | None = None,
    seed: int = 0,
) -> World:
    """Return a world in which generation 1 serves."""
    world = World(policy or Policy(workers=4), releases or (lambda generation: GOOD), seed)
    world.run(5)
    assert world.serving == [1] * world.policy.workers
    world.lowest_accepting = world.policy.workers
    world.most_workers = world.policy.workers
    world.most_booting = 0
    return world
