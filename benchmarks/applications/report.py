"""From results to the page that people read. Pure, but for `write`."""

import re
from collections.abc import Sequence

from benchmarks.suite.load import ROOT
from benchmarks.suite.report import filled, table

from .judging import PRELOADED, Result, problems

PAGE = ROOT / "docs" / "reference" / "applications.md"


def seconds_told(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s"


def reloads_told(result: Result) -> str:
    """Return the milliseconds of each reload."""
    return ", ".join(f"{seconds * 1000:.0f}" for seconds in result.reload_seconds) or "–"


def result_told(result: Result) -> str:
    wrong = problems(result)
    told = f"**{'; '.join(wrong)}**" if wrong else "as expected"
    own = f"; leaves {', '.join(result.own_files)} by itself" if result.own_files else ""
    return told + own


def imported_told(result: Result) -> str:
    if not result.loaded:
        return "–"
    return PRELOADED if result.loaded == PRELOADED else "each worker"


def endings_told(result: Result) -> str:
    """Return how streams and WebSockets ended that clients kept open."""
    return ", ".join(f"{count} × {how}" for how, count in result.endings.items()) or "–"


def lifespan_told(result: Result) -> str:
    return "shutdown ran" if result.has_lifespan else "none"


def summary(result: Result) -> str:
    """Return one line for the terminal."""
    wrong = problems(result)
    told = f"{reloads_told(result)} ms, stop {seconds_told(result.stop_seconds)}, {result.loaded}"
    return f"{'WRONG: ' + '; '.join(wrong) if wrong else 'ok'} ({result.requests} requests, {told})"


def row(result: Result) -> list[str]:
    return [
        _cell(result.packages or result.name),
        _cell(result.asked),
        imported_told(result),
        reloads_told(result),
        f"{result.failed} of {result.requests}",
        endings_told(result),
        seconds_told(result.stop_seconds),
        _cell(lifespan_told(result)) if not result.failure else "–",
        _cell(result_told(result)),
    ]


HEAD = [
    "application",
    "asked",
    "imported",
    "reloads, ms",
    "failed requests",
    "streams ended",
    "stop",
    "lifespan",
    "result",
]


def build_told(results: Sequence[Result]) -> str:
    """Return whether the hot modules of asgireload were compiled, as users who install a wheel have them."""
    known = [result.compiled for result in results if result.compiled is not None]
    if not known:
        return ""
    if len(set(known)) == 1:
        return " (compiled)" if known[0] else " (not compiled)"
    return f" (compiled for {sum(known)} of them, otherwise not)"


def body(results: Sequence[Result]) -> str:
    """Return what stands between the markers of the page."""
    good = sum(not problems(result) for result in results)
    dates = sorted(result.date for result in results)
    commits = sorted({result.commit for result in results})
    pythons = sorted({result.python for result in results})
    about = (
        f"{len(results)} applications, {good} as expected. Python {', '.join(pythons)}, "
        f"asgireload at {', '.join(commits)}{build_told(results)}, {dates[0]} to {dates[-1]}."
        if results
        else "Nothing was run."
    )
    parts = [about, table(HEAD, [row(result) for result in results])]
    by_themselves = [
        [_cell(result.name), _cell(result.loaded.partition(": ")[2])]
        for result in results
        if result.loaded and result.loaded != PRELOADED
    ]
    if by_themselves:
        parts += ["### Imported by each worker", table(["application", "why"], by_themselves)]
    warned = [
        [_cell(result.name), _cell("; ".join(result.warnings))]
        for result in results
        if result.warnings
    ]
    if warned:
        parts += ["### Warnings of asgireload", table(["application", "warnings"], warned)]
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    """Return what a cell holds: without what Markdown reads otherwise, and without this machine's directories."""
    short = re.sub(r"/(?:home|Users|root|usr|opt|srv|var|tmp)/[^\s:;,'\"]*/", "…/", text)
    return short.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def write(results: Sequence[Result]) -> None:
    """Write the tables into the documentation."""
    PAGE.write_text(filled(PAGE.read_text(), body(results)))
    print(f"written: {PAGE.relative_to(ROOT)}")
