"""Runs the measurement: `make dev-bench`, or `python -m benchmarks.development --help`."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import keeping, machine
from benchmarks.common.asking import LoadError
from benchmarks.common.machine import ROOT, installed_version
from benchmarks.common.measure import cpu_seconds, wait_settled
from benchmarks.common.results import Failure, Run, Sample, dump, summary
from benchmarks.common.serving import Started, free_port, server_environment, started

from . import projects as project_table
from . import report
from . import servers as server_table
from .asking import Session, save
from .judging import Judgement, judge, pauses
from .projects import Project, tiny_same_size
from .servers import OURS, Reloader

EDITS = 20
SETTLE_TIMEOUT = 2.0
"""For a server to come to rest after its first answer; some poll and never do."""
SEED = 20
"""Of the pauses: every server and every run has the same."""
IDLE_SECONDS = 10.0
IDLE_AFTER = 5.0
"""Seconds after the start of the last server: what one prepares in the background is over then."""
IDLE_PROJECT = "package"
TWICE_PROJECT = "tiny"
TWICE = 2
"""How often two versions of one size are saved within a second."""
TWICE_PAUSE = 0.5
"""Long enough for most to have imported the first, which makes bytecode of it."""
TWICE_TIMEOUT = 4.0
TWICE_FROM = 9000
"""Versions of those saves, out of the way of the others."""
STRANGE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "WATCHFILES_")
"""Variables that would spare servers a trap or change how they watch."""


@dataclass(frozen=True, slots=True)
class Live:
    """A server that answers, and the directory whose files it watches."""

    server: Started
    directory: Path


@contextmanager
def running(server: Reloader, project: Project, *, from_checkout: bool) -> Iterator[Live]:
    """Start a server over a fresh copy of the project and end all its processes afterwards.

    Raise LoadError with the last line of its log when it does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="development-") as place:
        directory, log_path = Path(place) / "project", Path(place) / "server.log"
        for name, text in {**project.files, project.edited: project.text(0)}.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        port = free_port()
        is_from_checkout = from_checkout and server.name == OURS
        with started(
            [sys.executable, *server.arguments(project.app, port)],
            port,
            log_path,
            cwd=directory,
            environment=server_environment(*([ROOT] if is_from_checkout else []), without=STRANGE),
        ) as live:
            wait_settled(live.pid, SETTLE_TIMEOUT)
            yield Live(live, directory)


def run_session(live: Live, project: Project, edits: int) -> Judgement:
    """Edit and ask; return what came of it."""
    session = Session(live.server.port, live.server.is_alive)
    path = live.directory / project.edited
    asyncio.run(session.edit(path, project.text, pauses(edits, SEED), first=1))
    return judge(session.saves, session.answers)


def save_twice(live: Live, path: Path, text: Callable[[int], str], number: int) -> bool:
    """Save two versions of one size within a second; return whether the second is served in the end."""
    # Far enough from the turn of the second for both.
    time.sleep(1.05 - time.time() % 1)
    save(path, text(number))
    time.sleep(TWICE_PAUSE)
    save(path, text(number + 1))

    async def look() -> bool:
        session = Session(live.server.port, live.server.is_alive)
        deadline = time.monotonic() + TWICE_TIMEOUT
        while time.monotonic() < deadline:
            if (await session.ask()).version == number + 1:
                return True
            await asyncio.sleep(0.02)
        return False

    return asyncio.run(look())


def metrics_of(judged: Judgement) -> dict[str, float]:
    """Return the counts of a session; its latencies are samples of their own."""
    found = {"asked": judged.asked, "stale": judged.stale, "missed": judged.missed}
    found |= {f"failed_{kind}": count for kind, count in judged.failures.items()}
    for offset, outcomes in judged.probes.items():
        found |= {f"probe_{offset * 1000:.0f}_{name}": n for name, n in outcomes.items()}
    return {name: float(value) for name, value in found.items()}


def measure_edits(
    project: Project, server: Reloader, edits: int, run: Run, *, from_checkout: bool
) -> None:
    try:
        with running(server, project, from_checkout=from_checkout) as live:
            judged = run_session(live, project, edits)
            for number, fresh in enumerate(judged.fresh_ms):
                run.samples.append(Sample(project.name, server.name, number, {"fresh_ms": fresh}))
            run.samples.append(Sample(project.name, server.name, 0, metrics_of(judged)))
            if project.name == TWICE_PROJECT and live.server.is_alive():
                path = live.directory / project.edited
                right = sum(
                    save_twice(live, path, tiny_same_size, TWICE_FROM + 2 * attempt)
                    for attempt in range(TWICE)
                )
                twice = {"twice_right": float(right), "twice_tried": float(TWICE)}
                run.samples.append(Sample(project.name, server.name, 0, twice))
            if not live.server.is_alive():
                reason = f"it ended with {live.server.process.returncode}"
                run.failures.append(Failure(project.name, server.name, 0, reason))
    except LoadError as error:
        run.failures.append(Failure(project.name, server.name, 0, str(error)))


def measure_idle(
    project: Project, servers: Sequence[Reloader], seconds: float, run: Run, *, from_checkout: bool
) -> None:
    """Let all servers rest at the same time, and tell what each costs meanwhile."""
    with ExitStack() as stack:
        resting: dict[str, int] = {}
        for server in servers:
            try:
                live = stack.enter_context(running(server, project, from_checkout=from_checkout))
            except LoadError as error:
                run.failures.append(Failure("idle", server.name, 0, str(error)))
                continue
            resting[server.name] = live.server.process.pid
        time.sleep(IDLE_AFTER)
        before = {name: cpu_seconds(pid) for name, pid in resting.items()}
        time.sleep(seconds)
        for name, pid in resting.items():
            spent = (cpu_seconds(pid) - before[name]) * 1000 * IDLE_SECONDS / seconds
            run.samples.append(Sample("idle", name, 0, {"idle_cpu_ms_in_10_s": spent}))


def describe(options: argparse.Namespace) -> dict[str, str]:
    return {
        **machine.describe(),
        "commit": machine.commit(),
        "edits": f"{options.edits} for each server and application",
    }


def carry_out(options: argparse.Namespace) -> Run:
    """Measure and return what came of it."""
    names = [name for server in options.chosen_servers for name in server.distributions]
    names += ["fastapi", "sqlalchemy", "pandas", "numpy", "django"]
    found = {name: installed_version(name) for name in dict.fromkeys(names)}
    run = Run(describe(options), {name: v for name, v in found.items() if v is not None})
    servers = []
    for server in options.chosen_servers:
        absent = [name for name in server.distributions if found[name] is None]
        if absent and not (options.checkout and server.name == OURS):
            run.left_out[server.name] = f"not installed: {', '.join(absent)}"
        else:
            servers.append(server)
    idle = [p for p in project_table.PROJECTS if p.name == IDLE_PROJECT]
    if options.idle_seconds:
        print(f"idle, {options.idle_seconds:g} s", flush=True)
        measure_idle(idle[0], servers, options.idle_seconds, run, from_checkout=options.checkout)
    for number, project in enumerate(options.chosen_projects):
        # Each begins once, so that no server always follows the same one.
        turn = number % len(servers) if servers else 0
        for server in servers[turn:] + servers[:turn]:
            began = time.monotonic()
            measure_edits(project, server, options.edits, run, from_checkout=options.checkout)
            figure = run.figure(project.name, server.name, "fresh_ms")
            told = f"{figure.median:.0f} ms" if figure is not None else "nothing"
            spent = time.monotonic() - began
            print(f"{project.name}, {server.name}: {told} ({spent:.0f} s)", flush=True)
    return run


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.development", description=__doc__)
    parser.add_argument("--projects", default="", help="names, comma-separated")
    parser.add_argument("--servers", default="", help="names, comma-separated")
    parser.add_argument("--edits", type=int, default=0, help=f"for each ({EDITS})")
    parser.add_argument(
        "--idle-seconds", type=float, default=IDLE_SECONDS, help="0: leave the idle cost out"
    )
    parser.add_argument("--checkout", action="store_true", help="asgireload from this checkout")
    parser.add_argument("--docs", action="store_true", help="write the report into docs/")
    options = parser.parse_args(arguments)
    options.edits = options.edits or EDITS
    if options.edits < 1 or options.idle_seconds < 0:
        parser.error("--edits is a whole number from 1, --idle-seconds a number from 0")
    try:
        options.chosen_projects = (
            project_table.choose(options.projects)
            if options.projects
            else list(project_table.PROJECTS)
        )
        options.chosen_servers = (
            server_table.choose(options.servers)
            if options.servers
            else list(server_table.RELOADERS)
        )
    except ValueError as error:
        parser.error(str(error))
    return options


def main() -> None:
    options = parse_arguments()
    began = time.monotonic()
    run = carry_out(options)
    run.about["took"] = f"{(time.monotonic() - began) / 60:.1f} minutes"
    print(report.body(run))
    keeping.keep(dump(run), "development")
    if options.docs:
        keeping.keep_latest(summary(run), "development")
        report.write(run)
