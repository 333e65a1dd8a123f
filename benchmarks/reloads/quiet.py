"""A minute with a reload every five seconds beside a minute without, in turns of five seconds: what a steady load
feels of it."""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.common.asking import LoadError
from benchmarks.common.machine import pinned

from .clients import Effort
from .judge import Figures, Mark, Reload, judge, time_line
from .records import STEADY, Record
from .servers import Server
from .trial import Bystanders, Live, Machine, loaded, reload_once, serving

PATH = "/burn/200"
"""The application burns 200 µs of CPU for each request: then half of saturation is a rate that one client process
can keep up with time to spare."""
RAMP_SECONDS = 3
RAMPS = 3
"""Connections that come all at once may all be for one worker, and the other has nothing to do: the best counts."""
TOO_FAST = 20000.0
"""Requests per second that no server reaches on this path: our own client then sends as fast as answers come."""
INTERVAL = 5.0
"""Seconds between two reloads, and before the other minute has its turn."""
GOAL = 1.5
OTHERS_LIMIT = 0.15
"""Share of a CPU that other processes may use; the reload command itself is one of them."""
LATE_LIMIT_MS = 20.0
"""By how much the client's own loop may be late (99th percentile) before its figures are refused."""


@dataclass(slots=True)
class Minute:
    """One of the two."""

    figures: Figures
    reloads: list[Reload]
    effort: Effort
    others_share: float = 0.0
    """CPU that neither the server nor the clients used meanwhile, as a share of one CPU."""
    began: float = 0.0
    line: list[Mark] = field(default_factory=list)
    """When answers were late, for whoever asks why."""


@dataclass(slots=True)
class QuietTrial:
    """What came of one server."""

    server: str
    seconds: float
    saturation: float = 0.0
    rate: float = 0.0
    still: Minute | None = None
    disturbed: Minute | None = None
    failure: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """The 99th percentile with reloads over that without."""
        if self.still is None or self.disturbed is None:
            return None
        without, with_them = self.still.figures.p99_ms, self.disturbed.figures.p99_ms
        return with_them / without if without and with_them else None


def parse_rate(output: str) -> float:
    """Return the requests per second that wrk tells. Raise LoadError. Pure."""
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if found is None:
        raise LoadError(f"wrk told no rate: {output.strip()[-120:]!r}")
    return float(found[1])


def find_saturation(live: Live) -> float:
    """Return the requests per second that the server answers at most: by wrk, or by our own client without it."""
    if shutil.which("wrk") is None:
        with loaded(live, [STEADY], rate=TOO_FAST, steady_path=PATH) as load:
            time.sleep(RAMP_SECONDS)
            found, _ = load.finish()
        figures = judge(found, [])[STEADY.name]
        seconds = max(r.end for r in found) - min(r.start for r in found)
        return figures.answered / seconds
    command = ["wrk", "-t1", f"-c{STEADY.clients}", f"-d{RAMP_SECONDS}s"]
    rates = []
    for _ in range(RAMPS):
        done = subprocess.run(
            pinned([*command, f"http://127.0.0.1:{live.port}{PATH}"], live.machine.load_cpus),
            check=False,
            capture_output=True,
            text=True,
            timeout=RAMP_SECONDS + 30,
        )
        rates.append(parse_rate(done.stdout))
    return max(rates)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a minute, and what the clients noted in it."""

    found: Sequence[Record]
    reloads: Sequence[Reload]
    effort: Effort
    others_share: float


def spend(live: Live, rate: float, seconds: float, first_version: int | None) -> Part:
    """Keep a steady load up for so long, with reloads from `first_version` on; None: without any."""
    reloads: list[Reload] = []
    with loaded(live, [STEADY], rate=rate, steady_path=PATH) as load:
        bystanders = Bystanders(live.pid)
        began = time.monotonic()
        until, due = began + seconds, began + INTERVAL / 2
        while first_version is not None and due < until:
            time.sleep(max(0.0, due - time.monotonic()))
            reloads.append(reload_once(live, first_version + len(reloads)))
            # One that takes longer than the interval delays the next; it is never asked for twice.
            due = max(due + INTERVAL, time.monotonic())
        time.sleep(max(0.0, until - time.monotonic()))
        found, effort = load.finish()
        others = bystanders.share(effort)
    if not found:
        raise LoadError("the clients noted nothing")
    return Part(found, reloads, effort, others)


def joined(parts: Sequence[Part]) -> Minute:
    """Return the parts as if one had followed the other at once, each with something noted. Pure."""
    found: list[Record] = []
    reloads: list[Reload] = []
    now = began = min(record.start for record in parts[0].found)
    for part in parts:
        by = now - min(record.start for record in part.found)
        found += [
            replace(record, asked=record.asked + by, start=record.start + by, end=record.end + by)
            for record in part.found
        ]
        for reload in part.reloads:
            complete = None if reload.complete is None else reload.complete + by
            reloads.append(replace(reload, asked=reload.asked + by, complete=complete))
        now = max(record.end for record in found)
    efforts = [part.effort for part in parts]
    return Minute(
        judge(found, reloads)[STEADY.name],
        reloads,
        Effort(
            sum(effort.cpu_share for effort in efforts) / len(efforts),
            max(effort.late_p99_ms for effort in efforts),
            max(effort.late_most_ms for effort in efforts),
        ),
        sum(part.others_share for part in parts) / len(parts),
        began,
        time_line(found, began),
    )


def carry_out(server: Server, seconds: float, directory: str, machine: Machine) -> QuietTrial:
    """Measure one server. What fails is part of what is returned."""
    trial = QuietTrial(server.name, seconds)
    try:
        with serving(server, directory, machine) as live:
            trial.saturation = find_saturation(live)
            trial.rate = trial.saturation / 2
            still: list[Part] = []
            disturbed: list[Part] = []
            version = 2
            # By turns: what else the machine's host does for half a minute is then in both.
            turns = max(1, round(seconds / INTERVAL))
            for _ in range(turns):
                still.append(spend(live, trial.rate, seconds / turns, None))
                disturbed.append(spend(live, trial.rate, seconds / turns, version))
                version += len(disturbed[-1].reloads)
            trial.still, trial.disturbed = joined(still), joined(disturbed)
    except (LoadError, ProcessLookupError) as error:
        trial.failure = str(error)
    for name, minute in (("without", trial.still), ("with", trial.disturbed)):
        if minute is not None and minute.others_share > OTHERS_LIMIT:
            trial.notes.append(
                f"other processes used {minute.others_share:.0%} of a CPU {name} reloads"
            )
        if minute is not None and minute.effort.late_p99_ms > LATE_LIMIT_MS:
            late = minute.effort.late_p99_ms
            trial.notes.append(f"the clients themselves were {late:.0f} ms late {name} reloads")
    return trial
