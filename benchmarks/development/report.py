"""From results to what people read.

    python -m benchmarks.development.report benchmarks/results/FILE.json     writes docs/ anew from kept results

Everything here is pure but `write` and `main`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.figures import percentile
from benchmarks.suite.load import ROOT
from benchmarks.suite.report import NOT_MEASURED, about, failures, filled, table
from benchmarks.suite.results import Run, load

from .judging import PROBES
from .projects import PROJECTS
from .servers import OURS, RELOADERS

PAGE = ROOT / "docs" / "explanation" / "development-measured.md"
KINDS = ("refused", "reset", "empty", "late", "wrong")


def values(run: Run, case: str, server: str, metric: str) -> list[float]:
    """Return every value of a metric, sorted."""
    return sorted(
        sample.metrics[metric]
        for sample in run.samples
        if (sample.case, sample.server) == (case, server) and metric in sample.metrics
    )


def total(run: Run, case: str, server: str, metric: str) -> float | None:
    """Return the sum of a count over a session; 0 when the session has none of it, None without a session."""
    if not values(run, case, server, "asked"):
        return None
    return sum(values(run, case, server, metric))


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    limit: float
    unit: str
    measure: Callable[[Run], float | None]
    """None: what it needs was not measured."""


def _fresh(project: str) -> Callable[[Run], float | None]:
    def measure(run: Run) -> float | None:
        found = values(run, project, OURS, "fresh_ms")
        return percentile(found, 0.5) if found else None

    return measure


def _sum(*metrics: str) -> Callable[[Run], float | None]:
    def measure(run: Run) -> float | None:
        sums = [total(run, project.name, OURS, m) for project in PROJECTS for m in metrics]
        known = [value for value in sums if value is not None]
        return sum(known) if known else None

    return measure


def _idle(run: Run) -> float | None:
    found = values(run, "idle", OURS, "idle_cpu_ms_in_10_s")
    return found[0] if found else None


def _wrong_code(run: Run) -> float | None:
    tried = values(run, "tiny", OURS, "twice_tried")
    return sum(tried) - sum(values(run, "tiny", OURS, "twice_right")) if tried else None


GOALS: tuple[Goal, ...] = (
    Goal("save to first new answer, one file, median", 20, "ms", _fresh("tiny")),
    Goal("the same, FastAPI and SQLAlchemy", 60, "ms", _fresh("package")),
    Goal("the same with pandas, numpy and Django", 70, "ms", _fresh("heavy")),
    Goal(
        "questions refused, reset or without an answer",
        0,
        "",
        _sum(*(f"failed_{kind}" for kind in KINDS)),
    ),
    Goal("old answers after a new one", 0, "", _sum("stale")),
    Goal(
        "old answers 20 or 100 ms after a save",
        0,
        "",
        # Who asks within a millisecond may be faster than the kernel is with its notice.
        _sum(*(f"probe_{offset * 1000:.0f}_old" for offset in PROBES[1:])),
    ),
    Goal("saves that were never served", 0, "", _sum("missed")),
    Goal("two saves of one size in a second: wrong code", 0, "", _wrong_code),
    Goal("CPU while nothing happens, in 10 s", 5, "ms", _idle),
)


def servers_of(run: Run) -> list[str]:
    measured = set(run.servers())
    return [server.name for server in RELOADERS if server.name in measured]


def goals_table(run: Run | None) -> str:
    rows = []
    for goal in GOALS:
        measured = goal.measure(run) if run is not None else None
        came, verdict = NOT_MEASURED, NOT_MEASURED
        if measured is not None:
            came = f"{measured:.0f} {goal.unit}".strip()
            verdict = "reached" if measured <= goal.limit else "**missed**"
        rows.append([goal.what, f"≤ {goal.limit:g} {goal.unit}".strip(), came, verdict])
    return table(["", "goal", "measured", ""], rows)


def fresh_table(run: Run) -> str:
    """Return the median, 95th percentile and least of each server and project; the best median is bold."""
    rows = []
    best = {
        project.name: min(
            (percentile(found, 0.5) for name in servers_of(run)
             if (found := values(run, project.name, name, "fresh_ms"))), default=None
        )
        for project in PROJECTS
    }  # fmt: skip
    for name in servers_of(run):
        cells = []
        for project in PROJECTS:
            found = values(run, project.name, name, "fresh_ms")
            if not found:
                cells.append(NOT_MEASURED)
                continue
            median = percentile(found, 0.5)
            told = f"**{median:.0f}**" if median == best[project.name] else f"{median:.0f}"
            missed = total(run, project.name, name, "missed")
            beside = f", {missed:.0f} missed" if missed else ""
            cells.append(f"{told} / {percentile(found, 0.95):.0f} ({found[0]:.0f}){beside}")
        rows.append([name, *cells])
    return table(["server", *(project.title for project in PROJECTS)], rows)


def failures_table(run: Run) -> str:
    """Return what became of the steady questions over all projects."""
    rows = []
    for name in servers_of(run):
        counts = [_over_projects(run, name, f"failed_{kind}") for kind in KINDS]
        stale = _over_projects(run, name, "stale")
        asked = _over_projects(run, name, "asked")
        rows.append([name, *(f"{count:.0f}" for count in (asked, *counts, stale))])
    return table(["server", "asked", *KINDS, "old after new"], rows)


def probes_table(run: Run) -> str:
    """Return what somebody sees who asks shortly after a save, over all projects."""
    rows = []
    for name in servers_of(run):
        cells = []
        for offset in PROBES:
            outcomes = {
                outcome: _over_projects(run, name, f"probe_{offset * 1000:.0f}_{outcome}")
                for outcome in ("new", "old", *KINDS)
            }
            seen = [f"{outcome} {count:.0f}" for outcome, count in outcomes.items() if count]
            cells.append(", ".join(seen) or NOT_MEASURED)
        rows.append([name, *cells])
    return table(["server", *(f"{offset * 1000:.0f} ms after" for offset in PROBES)], rows)


def others_table(run: Run) -> str:
    rows = []
    for name in servers_of(run):
        tried = sum(values(run, "tiny", name, "twice_tried"))
        right = sum(values(run, "tiny", name, "twice_right"))
        idle = values(run, "idle", name, "idle_cpu_ms_in_10_s")
        rows.append(
            [
                name,
                f"{right:.0f} of {tried:.0f}" if tried else NOT_MEASURED,
                f"{idle[0]:.0f}" if idle else NOT_MEASURED,
            ]
        )
    return table(
        ["server", "two saves of one size in a second: right code", "idle: CPU ms in 10 s"], rows
    )


def _over_projects(run: Run, server: str, metric: str) -> float:
    return sum(total(run, project.name, server, metric) or 0.0 for project in PROJECTS)


def body(run: Run | None) -> str:
    """Return what stands between the markers of the page."""
    if run is None:
        sentence = "No figures are kept yet: `make dev-bench` fills the tables."
        return f"{sentence}\n\n### Goals\n\n{goals_table(None)}"
    parts = [
        about(run),
        *("### Goals", goals_table(run)),
        "### Save to first new answer, ms: median / 95th percentile (least)",
        fresh_table(run),
        *("### Questions while files are saved", failures_table(run)),
        *("### Asked shortly after a save", probes_table(run)),
        *("### The right code, and the cost of watching", others_table(run)),
    ]
    failed = failures(run)
    if failed:
        parts += ["### Not measured", failed]
    return "\n\n".join(parts)


def write(run: Run | None) -> None:
    """Write the tables into the documentation."""
    PAGE.write_text(filled(PAGE.read_text(), body(run)))
    print(f"written: {PAGE.relative_to(ROOT)}")


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit("one file of results, or none to empty the tables")
    try:
        run = load(Path(sys.argv[1])) if len(sys.argv) == 2 else None
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    write(run)


if __name__ == "__main__":
    main()
