"""What waits for draining workers, and for what in them, as text for the log and for status. Pure.

A draining worker reports after some seconds what is open in it (`worker/open_work.py`). Status always shows the
report. It is logged when something waits for the worker: a reload that has no room, a reload that replaces slot
after slot (`--no-drain-overlap`), or a stop.
"""

import math
from collections.abc import Iterable, Sequence

from asgireload.ipc.messages import WorkerWaits
from asgireload.log.escaping import printable
from asgireload.supervisor.drain_limits import count, describe_wait, has_room_for_reload
from asgireload.supervisor.events import Log, Step
from asgireload.supervisor.fleet import ABORT_GRACE, Fleet, Phase, Worker
from asgireload.supervisor.lifecycle import State
from asgireload.supervisor.reloads import Reload

GATHERING = 0.25
"""Seconds from the first report until all reports are logged in one line."""
TOLD_INTERVAL = 9.0
"""Least seconds between two lines; a worker reports every ten seconds."""
WORKERS_NAMED = 4
"""The most workers named in one line."""


def name_wait(fleet: Fleet, reload: Reload | None, now: float) -> str:
    """Return the old workers that a reload waits for, as the object of "waits for"; empty for none."""
    if reload is None or fleet.phase is not Phase.SERVING:
        return ""
    if reload is fleet.reload:
        return _count_draining(_holding(fleet, reload), now)
    if reload is not fleet.pending or fleet.reload is not None or has_room_for_reload(fleet):
        return ""
    return "" if fleet.policy.old_generations is not None else describe_wait(fleet, now)


def describe_waiting(fleet: Fleet, now: float) -> str:
    """Return what waits for which workers, as a sentence without its full stop; empty when nothing does."""
    if fleet.phase is Phase.STOPPING:
        draining = _draining(fleet)
        return f"The stop waits for {_count_draining(draining, now)}" if draining else ""
    for reload in (fleet.reload, fleet.pending):
        waits_for = name_wait(fleet, reload, now)
        if reload is not None and waits_for:
            return f"Reload {reload.reload_id} waits for {waits_for}"
    return ""


def describe_open(worker: Worker, now: float) -> str:
    """Return what is open in a draining worker, according to its last report; empty without a report."""
    waits = worker.waits
    if waits is None or worker.state is not State.DRAINING:
        return ""
    since = now - worker.waits_at
    kinds = ", ".join(_plural(number, kind) for kind, number in sorted(waits.counts.items()))
    named = "; ".join(
        f"{entry.name} for {math.floor(entry.seconds + since)} s"
        + (f" from {entry.client}" if entry.client else "")
        for entry in waits.oldest
    )
    return printable(f"{kinds}: {named}" if named else kinds)


def note_report(fleet: Fleet, worker: Worker, waits: WorkerWaits, now: float) -> None:
    """Record a report, and schedule a log line."""
    worker.waits = waits
    worker.waits_at = now
    if fleet.tell_waits_at is None:
        fleet.tell_waits_at = max(now + GATHERING, fleet.waits_told_at + TOLD_INTERVAL)


def tell_waits(fleet: Fleet, now: float) -> list[Step]:
    """Return the log line about what is waited for, if it is due."""
    if fleet.tell_waits_at is None or now < fleet.tell_waits_at:
        return []
    fleet.tell_waits_at = None
    who = describe_waiting(fleet, now)
    if not who:
        return []
    fleet.waits_told_at = now
    return [Log("info", f"{who}: {_describe_workers(fleet, now)}")]


def _describe_workers(fleet: Fleet, now: float) -> str:
    workers = _draining(fleet)
    if fleet.phase is Phase.SERVING and fleet.reload is not None:
        workers = _holding(fleet, fleet.reload)
    known = [(worker, text) for worker in workers if (text := describe_open(worker, now))]
    parts = [
        f"[{worker.role.log_prefix}{worker.place}] {text}" for worker, text in known[:WORKERS_NAMED]
    ]
    if len(known) > WORKERS_NAMED:
        parts.append(f"and {count(len(known) - WORKERS_NAMED)} more")
    return " | ".join(parts)


def _draining(fleet: Fleet) -> list[Worker]:
    found = [worker for worker in fleet.workers.values() if worker.state is State.DRAINING]
    return sorted(found, key=lambda worker: (worker.place, worker.child_id))


def _holding(fleet: Fleet, reload: Reload) -> list[Worker]:
    """Return the draining workers that a running reload waits for; none with `--drain-overlap`."""
    if fleet.policy.drain_overlap:
        return []
    return [worker for worker in _draining(fleet) if worker.reload is reload]


def _count_draining(workers: Sequence[Worker], now: float) -> str:
    if not workers:
        return ""
    latest = max(_deadlines(workers, now)) + ABORT_GRACE - now
    return f"{count(len(workers))} to drain, {math.ceil(max(latest, 0))} s at most"


def _deadlines(workers: Iterable[Worker], now: float) -> list[float]:
    return [worker.deadline or now for worker in workers]


def _plural(number: int, kind: str) -> str:
    if number == 1:
        return f"1 {kind}"
    first, space, rest = kind.partition(" call ")
    return f"{number} {first} calls {rest}" if space else f"{number} {kind}s"
