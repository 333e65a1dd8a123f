"""From results to what people read: tables for the terminal, a page and plots for the documentation.

    python -m benchmarks.reloads.report benchmarks/results/FILE.json …     writes docs/ anew from kept results

Everything here is pure but `write` and `main`.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.suite.figures import Figure
from benchmarks.suite.load import ROOT
from benchmarks.suite.plots import bars, number
from benchmarks.suite.report import short, table

from .drawing import time_lines
from .judge import Figures, total
from .kill import KillTrial
from .quiet import GOAL, QuietTrial
from .records import COMPLETION, EVENT_STREAMS, KINDS
from .results import KILL, MIXED, QUIET, Run, load
from .servers import DRAIN_SECONDS, KEEP_ALIVE_SECONDS, OURS, SERVERS, WORKERS
from .trial import Trial

PAGE = ROOT / "docs" / "explanation" / "reload-measured.md"
NOTHING = "–"
MARKERS = {
    part: (f"<!-- {part}: written by make {target} -->", f"<!-- {part}: ends here -->")
    for part, target in (
        (MIXED, "reload-bench"), (KILL, "reload-bench-kill"), (QUIET, "reload-bench-quiet"),
    )
}  # fmt: skip
TIME_LINE = "reload-measured-time.svg"


def milliseconds(value: float | None) -> str:
    return NOTHING if value is None else number(value)


def marked(text: str, *, is_bad: bool) -> str:
    """Return a figure, bold where it is one that should be 0."""
    return f"**{text}**" if is_bad else text


def reload_seconds(trial: Trial) -> str:
    """Return the median time of a reload, with how many came to their end."""
    took = [r.complete - r.asked for r in trial.reloads if r.complete is not None]
    told = f"{median(took):.1f} s" if took else NOTHING
    return (
        told if len(took) == len(trial.reloads) else f"{told}, {len(took)} of {len(trial.reloads)}"
    )


def summary(trials: Sequence[Trial]) -> str:
    """Return servers by what all their clients together noted."""
    rows = []
    for trial in trials:
        whole = total(trial.kinds.values())
        worst = max((f.longest_ms or 0.0 for f in trial.kinds.values()), default=None)
        new = trial.kinds.get("new", Figures())
        counts = [
            marked(str(count), is_bad=count > 0)
            for count in (whole.lost, whole.cut, whole.refused, whole.closed, whole.stalls, whole.stale)
        ]  # fmt: skip
        times = [milliseconds(new.p99_ms), milliseconds(worst), milliseconds(new.gap_ms)]
        rows.append([trial.server, f"{whole.answered:,}", *counts, *times, reload_seconds(trial)])
    head = ["", "answered", "lost", "cut", "refused", "closed", "stalls", "stale"]
    head += ["p99 ms, new connections", "latest ms", "gap ms, new connections", "a reload takes"]
    return table(head, rows)


def losses(figures: Figures | None) -> str:
    """Return what broke, and what was closed, of one kind on one server."""
    if figures is None:
        return NOTHING
    if figures.is_absent:
        return "not offered"
    broken = marked(str(figures.broken), is_bad=figures.broken > 0)
    return f"{broken} / {figures.closed}"


STREAM_COLUMNS = ("answered", "closed", "moved", "cut", "lost", "missed", "twice", "incomplete")
STREAM_WORDS = """\
Answered counts events or, for streamed completions, whole answers. Closed: the stream ended properly, with the last
chunk and between two events, and the client had to reconnect. Moved: another process continued a response that
was open. Cut: the connection ended without the last chunk, or inside an event. Lost: no answer, or a wrong one.
Missed and twice: events that were out of order, or were received again; with ids over the whole run, across all
reconnects with Last-Event-ID; without ids only within one stream, as a client cannot know what happened between
two. Incomplete: finite answers, shorter than the time that every server had to drain, that were
lost or cut."""


def streams(trials: Sequence[Trial]) -> str:
    """Return what event streams went through: kinds, and servers in each.

    Nothing for results in which events were not numbered yet: they would seem to have missed none.
    """
    if not any("with_ids" in trial.kinds for trial in trials):
        return ""
    rows = []
    for kind in KINDS:
        for trial in trials:
            figures = trial.kinds.get(kind.name)
            if kind.name in EVENT_STREAMS and figures is not None:
                cells = [stream_cell(kind.name, figures, column) for column in STREAM_COLUMNS]
                rows.append([kind.title, trial.server, *cells])
    return table(["", "", *STREAM_COLUMNS], rows)


def stream_cell(kind: str, figures: Figures, column: str) -> str:
    """Return one count, or that the kind has none of it."""
    without = ("closed", "moved", "missed", "twice") if kind == COMPLETION else ("incomplete",)
    if column in without:
        return NOTHING
    count = getattr(figures, column)
    return marked(f"{count:,}", is_bad=count > 0 and column not in ("answered", "moved"))


def lateness(figures: Figures | None) -> str:
    if figures is None or figures.is_absent or figures.p50_ms is None:
        return NOTHING
    return (
        f"{number(figures.p50_ms)} / {number(figures.p99_ms or 0)} / {number(figures.gap_ms or 0)}"
    )


def by_kind(trials: Sequence[Trial], cell: Callable[[Figures | None], str]) -> str:
    """Return kinds by servers."""
    rows = [
        [kind.title, *(cell(trial.kinds.get(kind.name)) for trial in trials)]
        for kind in KINDS
        if any(kind.name in trial.kinds for trial in trials)
    ]
    return table(["", *(trial.server for trial in trials)], rows)


def more(trials: Sequence[Trial]) -> str:
    """Return what does not fit into the other tables: codes, reasons, connections that moved."""
    rows = []
    for trial in trials:
        codes: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for figures in trial.kinds.values():
            codes.update(figures.codes)
            for reason, count in figures.reasons.items():
                reasons[plain(reason)] += count
        told = [", ".join(f"{count} × {name}" for name, count in found.most_common(4)) or NOTHING
                for found in (codes, reasons)]  # fmt: skip
        moved = total(trial.kinds.values()).moved
        rows.append([trial.server, *told, str(moved)])
    return table(
        ["", "close codes", "most frequent failures", "continued by another process"], rows
    )


def plain(reason: str) -> str:
    return re.sub(r"\[Errno \d+\] ", "", short(reason)) or "no word"


def efforts(trials: Sequence[Trial]) -> str:
    """Return how hard the clients themselves had to work."""
    told = [
        f"{trial.server} {trial.effort.cpu_share:.0%}, {trial.effort.late_p99_ms:.1f} ms, "
        f"{trial.others_share:.0%}"
        for trial in trials
        if trial.effort is not None
    ]
    return (
        "The clients' own share of a CPU, the delay of their loop (99th percentile), and the share of a CPU that "
        "neither they nor the server used: " + "; ".join(told) + "."
    )  # fmt: skip


def failures(trials: Sequence[Trial]) -> str:
    rows = [[t.server, short(t.failure), short(t.log)] for t in trials if t.failure]
    rows += [
        [t.server, f"reload {r.version - 1}: {short(r.verdict)}", ""]
        for t in trials
        for r in t.reloads
        if r.complete is None
    ]
    return table(["server", "what happened", "its log"], rows) if rows else ""


def about(run: Run) -> str:
    """Return where and how the figures came about."""
    rows = [[name, value] for name, value in run.about.items()]
    rows.append(["versions", ", ".join(f"{name} {v}" for name, v in run.versions.items())])
    rows += [[f"left out: {name}", reason] for name, reason in run.left_out.items()]
    return table(["", ""], rows)


def started(trials: Sequence[Trial]) -> str:
    """Return how each server is told to reload, and when it counts as complete."""
    names = [trial.server for trial in trials]
    rows = [[s.name, s.reload, s.completion.value] for s in SERVERS if s.name in names]
    return table(["", "a reload is requested by", "it is complete when"], rows)


def mixed_text(run: Run) -> str:
    """Return the section on the mixed load."""
    trials = run.trials
    kinds = table(
        ["kind", "clients", "one client"], [[k.title, str(k.clients), k.does] for k in KINDS]
    )
    words = (
        f"Every server had {WORKERS} workers, {DRAIN_SECONDS} s to finish open exchanges, and "
        f"{KEEP_ALIVE_SECONDS} s for idle connections."
    )
    parts = [about(run), words, started(trials), kinds, "### All clients together", summary(trials)]
    parts += [f"![{title}]({name})" for name, (title, _) in drawings(run).items()]
    parts += ["### Broken / closed, by kind", by_kind(trials, losses)]
    if streamed := streams(trials):
        parts += ["### Event streams", STREAM_WORDS, streamed]
    parts += ["### Time beyond the application's own, ms: median / 99th percentile / longest gap"]
    parts += [by_kind(trials, lateness), "### How things ended", more(trials), efforts(trials)]
    failed = failures(trials)
    if failed:
        parts += ["### What failed", failed]
    return "\n\n".join(parts)


def kill_text(run: Run) -> str:
    """Return the section on killed processes."""
    assert run.kill is not None
    return "\n\n".join([about(run), kill_table(run.kill), *kill_words(run.kill)])


def kill_table(trial: KillTrial) -> str:
    """Return who was killed, and how the reloads ended."""
    verdicts: dict[str, Counter[str]] = {}
    for kill in trial.kills:
        found = re.search(r": (\w+)", kill.verdict)
        verdicts.setdefault(kill.victim, Counter())[found[1] if found else kill.verdict] += 1
    rows = [
        [victim, str(sum(counts.values())), ", ".join(f"{n} {v}" for v, n in counts.most_common())]
        for victim, counts in sorted(verdicts.items())
    ]
    return table(["killed", "times", "verdicts"], rows)


def kill_words(trial: KillTrial) -> list[str]:
    """Return sentences on what broke."""
    whole = trial.figures
    told = (
        f"{whole.answered:,} exchanges were answered; {trial.explained} were lost with the killed process; "
        f"{trial.unexplained_count} were lost otherwise. {trial.crossed} WebSocket messages crossed a close "
        f"frame of the reload itself. {trial.closed} connections were closed while idle or with an announcement, "
        f"{trial.closed_otherwise} of them while idle and not at the time of a kill; "
        f"{whole.stalls} stalls, {whole.stale} stale answers; {whole.missed} numbered events were missed, "
        f"{whole.twice} came twice. Seed {trial.seed}."
    )
    words = [told]
    if trial.unexplained:
        words.append("\n".join(f"- {short(line)}" for line in trial.unexplained))
    if trial.failure:
        words.append(f"It ended early: {short(trial.failure)}.")
    return words


def quiet_text(run: Run) -> str:
    """Return the section on the quiet minute."""
    return "\n\n".join([about(run), quiet_table(run.quiet), *quiet_words(run.quiet)])


def quiet_table(trials: Sequence[QuietTrial]) -> str:
    rows = []
    for trial in trials:
        for name, minute in (("without", trial.still), ("with", trial.disturbed)):
            if minute is None:
                continue
            f = minute.figures
            ratio = f"{trial.ratio:.2f}" if name == "with" and trial.ratio is not None else ""
            times = [milliseconds(v) for v in (f.p50_ms, f.p99_ms, f.longest_ms, f.gap_ms)]
            counts = [str(len(minute.reloads)), f"{f.answered:,}", str(f.broken), str(f.closed)]
            rows.append([f"{trial.server}, {name} reloads", *counts, *times, ratio])
    head = ["", "reloads", "answered", "broken", "closed", "p50 ms", "p99 ms", "latest ms"]
    return table([*head, "longest gap ms", "p99 ratio"], rows)


def quiet_words(trials: Sequence[QuietTrial]) -> list[str]:
    words = []
    for trial in trials:
        told = f"{trial.server}: {trial.rate:,.0f} requests a second, half of saturation"
        told += f", {trial.seconds:g} s each."
        if trial.ratio is not None:
            verdict = "reached" if trial.ratio <= GOAL else "**missed**"
            told += f" The goal, at most {GOAL:g} times the 99th percentile without reloads, is {verdict}."
        told += "".join(f" Beware: {note}." for note in trial.notes)
        told += f" It ended early: {short(trial.failure)}." if trial.failure else ""
        words.append(told)
    return words


def drawings(run: Run) -> dict[str, tuple[str, str]]:
    """Return the plots of the mixed load: name of the file to title and SVG."""
    trials = [trial for trial in run.trials if trial.kinds]
    if not trials:
        return {}
    wholes = {trial.server: total(trial.kinds.values()) for trial in trials}
    most = max(len(trial.reloads) for trial in trials)

    def drawn(title: str, counts: dict[str, int]) -> tuple[str, str]:
        rows = {name: Figure(n, n, n, 1) for name, n in counts.items()}
        return title, bars(title, "", rows, OURS)

    line = f"{most} reloads over time"
    return {
        TIME_LINE: (line, time_lines(line, trials)),
        "reload-measured-broken.svg": drawn(
            f"Lost, cut or refused in {most} reloads", {n: w.broken for n, w in wholes.items()}
        ),
        "reload-measured-closed.svg": drawn(
            f"Connections closed in {most} reloads", {n: w.closed for n, w in wholes.items()}
        ),
    }


TEXTS = {MIXED: mixed_text, KILL: kill_text, QUIET: quiet_text}


def filled(page: str, part: str, text: str) -> str:
    """Return the page with `text` between the markers of a part. Raise ValueError when they are not there."""
    start, stop = MARKERS[part]
    head, begin, rest = page.partition(start)
    _, end, tail = rest.partition(stop)
    if not begin or not end:
        raise ValueError(f"the page lacks its markers: {start} and {stop}")
    return f"{head}{start}\n\n{text}\n\n{stop}{tail}"


def console(run: Run) -> str:
    """Return the tables for the terminal."""
    parts = ["; ".join(f"{name}: {value}" for name, value in run.about.items())]
    if run.trials:
        parts += [summary(run.trials), "broken / closed", by_kind(run.trials, losses)]
        if streamed := streams(run.trials):
            parts += ["event streams", streamed]
        parts += ["ms: p50 / p99 / longest gap", by_kind(run.trials, lateness)]
        parts += [more(run.trials), efforts(run.trials), failures(run.trials)]
    if run.kill is not None:
        parts += [kill_table(run.kill), *kill_words(run.kill)]
    if run.quiet:
        parts += [quiet_table(run.quiet), *quiet_words(run.quiet)]
    return "\n\n".join(aligned(part) for part in parts if part)


def aligned(text: str) -> str:
    """Return a table of Markdown with its columns under each other; other text as it is."""
    lines = text.replace("**", "").splitlines()
    if not all(line.startswith("|") for line in lines):
        return text
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    del rows[1]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in rows)


def write(run: Run) -> None:
    """Write the section of a run's part into the documentation; plots of earlier runs are removed."""
    PAGE.write_text(filled(PAGE.read_text(), run.part, TEXTS[run.part](run)))
    if run.part == MIXED:
        for old in PAGE.parent.glob("reload-measured-*.svg"):
            old.unlink()
        for name, (_, drawing) in drawings(run).items():
            (PAGE.parent / name).write_text(drawing)
    print(f"written: {PAGE.relative_to(ROOT)}")


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit("files of results")
    try:
        for path in sys.argv[1:]:
            write(load(Path(path)))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
