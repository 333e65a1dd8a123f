"""From verdicts to the page that people read. Pure, but for `write`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.common.machine import ROOT
from benchmarks.common.tables import table, write_page

from .checks import FEATURES
from .judging import Group, Row, Verdict, grouped
from .servers import FRAMEWORKS

PAGE = ROOT / "docs" / "reference" / "frameworks.md"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole run."""

    about: dict[str, str]
    versions: dict[str, str]
    judged: tuple[tuple[Row, Verdict], ...]
    failures: dict[str, str]
    """Frameworks that could not be compared, with the reason."""

    @property
    def is_good(self) -> bool:
        return not self.failures and all(verdict.kind != "differs" for _, verdict in self.judged)


def counts(judged: Iterable[tuple[Row, Verdict]]) -> str:
    """Return how many rows had which result."""
    found = Counter(verdict.kind for _, verdict in judged)
    told = [f"{found['same']} as under uvicorn", f"{found['better']} better"]
    return ", ".join(told + ([f"**{found['differs']} differ**"] if found["differs"] else []))


def summary(outcome: Outcome) -> str:
    lines = [
        f"{group.framework} / {group.middleware} / {'; '.join(group.features)}: {group.result}"
        for group in grouped(outcome.judged)
        if "differs: " in group.result
    ]
    lines += [f"{len(outcome.judged)} rows: {counts(outcome.judged)}"]
    lines += [f"{name}: not compared: {reason}" for name, reason in outcome.failures.items()]
    return "\n".join(lines)


def versioned(name: str, versions: dict[str, str]) -> str:
    """Return a stack's name with the version where it begins with the name of a distribution."""
    distribution = name.partition(",")[0]
    version = versions.get(distribution)
    return f"{name} ({version})" if version else name


def features_told(group: Group) -> str:
    """Return the names of a group's features; only the number of those that are as under uvicorn."""
    if group.result == str(Verdict("same")):
        return f"{len(group.features)} features"
    return "; ".join(group.features)


def features_table() -> str:
    """Return what is asked, and of what."""
    rows = [
        [_cell(f.name), f.stacks.value + ("; over TLS" if f.over_tls else "")] for f in FEATURES
    ]
    return table(["feature", "asked"], rows)


def facts(outcome: Outcome) -> list[dict[str, Any]]:
    """Return every row with its facts, to be looked into."""
    return [{**asdict(row), "verdict": str(verdict)} for row, verdict in outcome.judged]


def body(outcome: Outcome) -> str:
    """Return what stands between the markers of the page."""
    about = table(["", ""], [[name, value] for name, value in outcome.about.items()])
    totals = []
    parts: list[str] = []
    for framework in FRAMEWORKS:
        rows = [
            (row, verdict) for row, verdict in outcome.judged if row.framework == framework.name
        ]
        if not rows:
            continue
        version = outcome.versions.get(framework.distribution, "")
        stacks = len({row.middleware for row, _ in rows})
        totals.append([framework.name, version, str(stacks), str(len(rows)), counts(rows)])
        told = [
            [
                _cell(versioned(group.middleware, outcome.versions)),
                _cell(features_told(group)),
                _cell(group.result),
            ]
            for group in grouped(rows)
        ]
        parts += [
            f"### {framework.name} {version}",
            table(["middleware", "features", "result"], told),
        ]
    for name, reason in outcome.failures.items():
        parts.append(f"{name} was not compared: {reason}")
    used = ("asgireload", "uvicorn")
    versions = ", ".join(f"{n} {outcome.versions[n]}" for n in used if n in outcome.versions)
    first = [about, f"Compared: {versions}.", "### Rows"]
    first.append(table(["framework", "version", "stacks of middleware", "rows", "results"], totals))
    return "\n\n".join([*first, *parts, "### Features", features_table()])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write(outcome: Outcome) -> None:
    """Write the tables into the documentation."""
    write_page(PAGE, body(outcome))
