"""From results to what people read: tables and plots for the documentation, ratios for the terminal.

    python -m benchmarks.suite.report benchmarks/results/suite.json     writes docs/ anew from kept results

Everything here is pure but `write` and `main`.
"""

import sys
from pathlib import Path

from benchmarks.common.figures import Figure, ratio
from benchmarks.common.machine import ROOT
from benchmarks.common.plots import bars, lines, number
from benchmarks.common.results import Run, failures_table, load, summary
from benchmarks.common.tables import NOT_MEASURED, about, table, write_page

from .cases import CASES, Case, Kind
from .goals import APP_ALONE, GOALS, OURS
from .servers import SERVERS

PAGE = ROOT / "docs" / "explanation" / "performance.md"
BARS = {
    "hello-7": ("hello", "CPU per request, hello with 7 headers"),
    "fastapi": ("fastapi", "CPU per request, FastAPI hello"),
    "upload-1m": ("upload", "CPU per upload of 1 MB"),
    "connection-1": ("connection", "CPU per connection with one request"),
    "ws-64": ("websocket", "CPU per WebSocket echo of 64 bytes"),
    "memory-fast-4": ("memory", "Memory, FastAPI, 4 workers"),
    "startup": ("startup", "Start to first answer, FastAPI, 4 workers"),
}
"""Case to the name of its file and its title."""
METRICS = {"memory-fast-4": ("pss_mib", "MB"), "startup": ("startup_ms", "ms")}
LOADS = (Kind.WRK, Kind.CLOSED, Kind.ECHO, Kind.BROADCAST)
SECTIONS: tuple[tuple[str, tuple[Kind, ...], str, bool], ...] = (
    ("CPU µs per unit", LOADS, "cpu_us", True),
    ("Requests, messages or deliveries per second", LOADS, "rate", False),
    ("Latency at a fixed rate, median, ms", LOADS, "p50_ms", True),
    ("Latency at a fixed rate, 99th percentile, ms", LOADS, "p99_ms", True),
    ("Memory of the process tree, MB", (Kind.MEMORY,), "pss_mib", True),
    ("Start, ms", (Kind.STARTUP,), "startup_ms", True),
    ("Memory of an idle connection, KB", (Kind.IDLE,), "connection_kib", True),
    ("CPU of 10,000 idle connections, ms per second", (Kind.IDLE,), "idle_cpu_ms_per_s", True),
    (
        "Answer to one client beside 10,000 idle ones, 99th percentile, ms",
        (Kind.IDLE,),
        "p99_ms",
        True,
    ),
)
"""The tables of the page: title, kinds of case, metric, and whether a low figure is the better one."""
GROWTH = {
    "connections": ("open connections, all busy", "CPU per request as connections grow"),
    "body bytes": ("bytes in the response", "CPU per download as the body grows"),
    "headers": ("request headers", "CPU per request as headers grow"),
    "workers": ("workers", "CPU per request as workers grow"),
}


def cell(figure: Figure | None, *, best: bool = False) -> str:
    """Return a median with its spread; the best of a row is bold."""
    if figure is None:
        return NOT_MEASURED
    middle = f"**{number(figure.median)}**" if best else number(figure.median)
    return f"{middle} ±{figure.spread * 100:.0f} %" if figure.count > 1 else middle


def ordered(run: Run) -> list[str]:
    """Return the servers of a run in the order of the table, then what else was measured."""
    measured = run.servers()
    known = [server.name for server in SERVERS if server.name in measured]
    return [*known, *(name for name in measured if name not in known)]


def matrix(run: Run, cases: list[Case], metric: str, *, low_is_good: bool = True) -> str | None:
    """Return cases by servers for one metric; None when none of them was measured.

    The best figure of a server, not of the floor or the application alone, is bold.
    """
    rows = []
    used = [
        name for name in ordered(run) if any(run.figure(case.name, name, metric) for case in cases)
    ]
    for case in cases:
        found = {name: run.figure(case.name, name, metric) for name in used}
        real = {n: f.median for n, f in found.items() if f and n not in {"floor", APP_ALONE}}
        best = None
        if real:
            best = (min if low_is_good else max)(real, key=real.__getitem__)
        if any(found.values()):
            cells = [cell(figure, best=name == best) for name, figure in found.items()]
            rows.append([case.title, *cells])
    return table(["", *used], rows) if rows else None


def goals_table(run: Run | None) -> str:
    """Return the goals with the ratios that were measured, if any."""
    rows = []
    for goal in GOALS:
        measured = goal.measure(run) if run is not None else None
        came, verdict = NOT_MEASURED, NOT_MEASURED
        if measured is not None:
            came = f"{measured.ratio:.2f}"
            if measured.against != goal.against:
                came += f" ({measured.against})"
            verdict = "reached" if measured.ratio <= goal.limit else "**missed**"
        rows.append([goal.what, f"≤ {goal.limit:.2f} × {goal.against}", came, verdict])
    return table(["", "goal", "measured", ""], rows)


def growth_series(run: Run, dimension: str) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each server's curve; servers with a single point are no curve."""
    series: dict[str, list[tuple[float, float]]] = {}
    for case in CASES:
        for name, place in case.growth:
            if name != dimension:
                continue
            for server in ordered(run):
                figure = run.figure(case.name, server, "cpu_us")
                if figure is not None and (case.only is None or server in case.only):
                    series.setdefault(server, []).append((place, figure.median))
    return {server: curve for server, curve in series.items() if len(curve) > 1}


def drawings(run: Run) -> dict[str, tuple[str, str]]:
    """Return the plots that the results allow: name of the file to title and SVG."""
    found = {}
    for case, (name, title) in BARS.items():
        metric, unit = METRICS.get(case, ("cpu_us", "µs"))
        rows = {server: run.figure(case, server, metric) for server in ordered(run)}
        measured = {server: figure for server, figure in rows.items() if figure is not None}
        if measured:
            found[f"performance-{name}.svg"] = (title, bars(title, unit, measured, OURS))
    for dimension, (across, title) in GROWTH.items():
        curves = {s: c for s, c in growth_series(run, dimension).items() if s != APP_ALONE}
        if curves:
            name = f"performance-by-{dimension.replace(' ', '-')}.svg"
            found[name] = (title, lines(title, across, "µs", curves))
    return found


def kept(run: Run) -> str:
    """Return the summary of a run that tables and plots can be made of again."""
    return summary(run, {metric for _, _, metric, _ in SECTIONS} | {m for m, _ in METRICS.values()})


def with_kinds(*kinds: Kind) -> list[Case]:
    return [case for case in CASES if case.kind in kinds]


def body(run: Run | None) -> str:
    """Return what stands between the markers of the page."""
    if run is None:
        sentence = "No figures are kept yet: `make bench` fills the tables and draws the plots."
        return f"{sentence}\n\n### Goals\n\n{goals_table(None)}"
    parts = [about(run), "### Goals", goals_table(run)]
    for title, kinds, metric, low_is_good in SECTIONS:
        text = matrix(run, with_kinds(*kinds), metric, low_is_good=low_is_good)
        if text is not None:
            parts += [f"### {title}", text]
    plots = drawings(run)
    if plots:
        parts.append("### Plots")
        parts += [f"![{title}]({name})" for name, (title, _) in plots.items()]
    failed = failures_table(run)
    if failed:
        parts += ["### Not measured", failed]
    return "\n\n".join(parts)


def console(run: Run) -> str:
    """Return the medians with their ratios to each other server, for the terminal."""
    names = [name for name in ordered(run) if name not in {OURS, APP_ALONE}]
    out = ["; ".join(f"{name}: {value}" for name, value in run.about.items())]
    width = max((len(name) for name in run.cases()), default=0) + 2
    wide = max((len(name) for name in names), default=0) + 2
    for case in run.cases():
        metric = next((m for m in ("cpu_us", "pss_mib", "startup_ms", "connection_kib")
                       if any(run.figure(case, name, m) for name in ordered(run))), None)  # fmt: skip
        if metric is None:
            continue
        ours = run.figure(case, OURS, metric)
        middle = NOT_MEASURED
        if ours is not None:
            middle = f"{ours.median:.1f} ±{ours.spread:.0%}"
        out.append(f"{case:<{width}}{OURS:<{wide + 3}}{middle:>14} {metric}")
        for name in names:
            theirs = run.figure(case, name, metric)
            if theirs is not None:
                share = ratio(ours, theirs)
                told = f"{share:.2f} of it" if share is not None else ""
                middle = f"{theirs.median:.1f} ±{theirs.spread:.0%}"
                out.append(f"{'':<{width}}   {name:<{wide}}{middle:>14} {told}")
    return "\n".join(out)


def write(run: Run | None) -> None:
    """Write tables and plots into the documentation; plots of earlier runs are removed."""
    write_page(PAGE, body(run))
    for old in PAGE.parent.glob("performance-*.svg"):
        old.unlink()
    if run is not None:
        for name, (_, drawing) in drawings(run).items():
            (PAGE.parent / name).write_text(drawing)


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
