"""asgireload's processes are killed in the middle of its reloads: nothing but what they had in hand may be lost."""

import os
import random
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Any

from asgireload.admin.client import AdminClient
from asgireload.errors import ControlError
from benchmarks.common.asking import LoadError

from .judge import Figures, Kill, Reload, is_explained, judge, total
from .records import BROKEN, CROSSED, WHILE_IDLE, Outcome, Record, kinds_for
from .servers import OURS, SERVERS, socket_path
from .trial import (
    AFTER,
    BEFORE,
    BETWEEN,
    RELOAD_TIMEOUT,
    Live,
    Machine,
    begin_reload,
    end_reload,
    loaded,
    reload_once,
    serving,
    write_code,
)

RECOVERY_TIMEOUT = 20.0
"""Until every slot serves again after a kill; above the first steps of the backoff and a drain."""
LOOK_INTERVAL = 0.003
AT_HANDOVER = 0.06
"""Seconds after the start of a drain in which half of the kills fall: that is when connections move."""
MOST_TOLD = 20


@dataclass(slots=True)
class KillTrial:
    """What came of it."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    reloads: list[Reload] = field(default_factory=list)
    figures: Figures = field(default_factory=Figures)
    crossed: int = 0
    """WebSocket messages that crossed the close frame of a draining worker: not the work of a kill."""
    explained: int = 0
    """Exchanges that broke with the process that had them."""
    unexplained: list[str] = field(default_factory=list)
    """The others, in words: the first few."""
    unexplained_count: int = 0
    closed: int = 0
    """Connections that ended while idle, with a killed process or otherwise."""
    closed_otherwise: int = 0
    """Idle connections among them that ended at no kill."""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """When and whom to kill in one reload."""

    victim: str
    at_handover: bool
    delay: float
    """Seconds after the reload was asked for, or after the first drain began."""


def plan(count: int, seed: int, span: float) -> list[Plan]:
    """Return so many kills: all moments of a reload, and as many just when connections move. Pure."""
    chance = random.Random(seed)
    plans = []
    for number in range(count):
        at_handover = number % 2 == 1
        delay = chance.uniform(0, AT_HANDOVER if at_handover else span)
        plans.append(Plan(chance.choice(("successor", "old")), at_handover, delay))
    return plans


def choose_victim(status: dict[str, Any], victim: str) -> tuple[int, str] | None:
    """Return the process to kill and what it is; another where there is none of the kind. Pure.

    Successors are the workers of the newest generation while there are two; with one generation only,
    any worker is `serving`.
    """
    workers = [worker for worker in status["workers"] if worker["pid"]]
    if not workers:
        return None
    generations = {worker["generation"] for worker in workers}
    newest = max(generations)
    if len(generations) == 1:
        return workers[0]["pid"], "serving"
    wanted = [w for w in workers if (w["generation"] == newest) is (victim == "successor")]
    # The one that drains has connections on their way; and the last one forked, whose slot is in work.
    wanted.sort(key=lambda w: (w["state"] != "draining", -w["slot"]))
    return wanted[0]["pid"], victim


def is_whole(status: dict[str, Any]) -> bool:
    """Return whether every slot serves and nothing is under way. Pure."""
    ready = status["workers_ready"] >= status["workers_wanted"]
    return ready and not status["workers_old"] and status["current_reload"] is None


def look(live: Live) -> dict[str, Any]:
    """Return the server's status. Raise LoadError when it does not tell."""
    try:
        _, status = AdminClient(socket_path(live.directory)).request("GET", "/status", 5.0)
    except ControlError as error:
        raise LoadError(str(error)) from error
    assert isinstance(status, dict)
    return status


def wait_drain(live: Live, timeout: float) -> None:
    """Wait until a worker drains, or the time is over."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if any(worker["state"] == "draining" for worker in look(live)["workers"]):
            return
        time.sleep(LOOK_INTERVAL)


def wait_whole(live: Live) -> None:
    """Wait until every slot serves again. Raise LoadError when that does not come."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT
    while not is_whole(look(live)):
        if time.monotonic() > deadline:
            raise LoadError(f"not every slot served again within {RECOVERY_TIMEOUT:g} s")
        time.sleep(0.05)


def kill_in_reload(live: Live, step: Plan, version: int, trial: KillTrial) -> None:
    """Reload, and kill meanwhile as planned. Raise LoadError when the server does not recover."""
    write_code(live.directory, version)
    reload = Reload(version, time.monotonic())
    command = begin_reload(live)
    if step.at_handover:
        wait_drain(live, RELOAD_TIMEOUT / 2)
    time.sleep(step.delay)
    found = choose_victim(look(live), step.victim)
    kill = None
    if found is not None:
        try:
            handle = os.pidfd_open(found[0])
        except ProcessLookupError:
            pass  # it left by itself between the look and the blow: nothing was killed
        else:
            try:
                at = time.monotonic()
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                kill = Kill(at, *found)
            except ProcessLookupError:
                pass  # as above
            finally:
                os.close(handle)
    end_reload(command, reload)
    trial.reloads.append(reload)
    if kill is not None:
        trial.kills.append(Kill(kill.at, kill.pid, kill.victim, reload.verdict))
    wait_whole(live)


def describe(record: Record, kills: list[Kill]) -> str:
    """Return what broke without a reason, in words. Pure."""
    near = min(kills, key=lambda kill: abs(kill.at - record.end), default=None)
    when = "no kill" if near is None else f"{record.end - near.at:+.3f} s of killing {near.victim}"
    lasted = record.end - record.asked
    return f"{record.kind}: {record.outcome.value} after {lasted:.3f} s, {when}: {record.detail or '?'}"


def carry_out(count: int, directory: str, machine: Machine, seed: int) -> KillTrial:
    """Reload so many times with a kill in each, under the mixed load."""
    trial = KillTrial(seed)
    found: list[Record] = []
    server = next(server for server in SERVERS if server.name == OURS)
    # Two workers killed within a minute look like code that dies, and it would be taken back: rightly, but what the
    # former code answers then is no stale answer.
    command = server.command
    server = replace(
        server, command=lambda port, place: [*command(port, place), "--revert-window", "0"]
    )
    try:
        with (
            serving(server, directory, machine) as live,
            loaded(live, kinds_for(OURS), seed=seed) as load,
        ):
            try:
                time.sleep(BEFORE)
                # The first is left in peace: it tells how long one takes.
                peaceful = reload_once(live, 2)
                trial.reloads.append(peaceful)
                wait_whole(live)
                span = (peaceful.complete or peaceful.asked + 3) - peaceful.asked
                for number, step in enumerate(plan(count, seed, span)):
                    kill_in_reload(live, step, number + 3, trial)
                    time.sleep(BETWEEN)
                time.sleep(AFTER)
            except LoadError as error:
                trial.failure = str(error)
            found, _ = load.finish()
    except LoadError as error:
        trial.failure = trial.failure or str(error)
    sort_out(trial, found)
    return trial


def sort_out(trial: KillTrial, found: list[Record]) -> None:
    """Tell what broke with a killed process from what broke otherwise. Pure."""
    trial.figures = total(judge(found, trial.reloads).values())
    broken = [r for r in found if r.outcome in BROKEN and r.detail != CROSSED]
    strange = [record for record in broken if not is_explained(record, trial.kills)]
    trial.crossed = sum(record.detail == CROSSED for record in found)
    trial.explained = len(broken) - len(strange)
    trial.unexplained_count = len(strange)
    trial.unexplained = [describe(record, trial.kills) for record in strange[:MOST_TOLD]]
    closed = [record for record in found if record.outcome is Outcome.CLOSED]
    trial.closed = len(closed)
    trial.closed_otherwise = sum(
        record.detail == WHILE_IDLE and not is_explained(record, trial.kills) for record in closed
    )
