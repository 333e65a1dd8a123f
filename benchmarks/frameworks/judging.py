"""What is made of the facts of two servers. Pure.

A fact is a short text under a name. A row compares the facts that one check found of asgireload with those that it
found of uvicorn, with the same application, in the same run.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Facts = dict[str, str]

CLASSES = ((0.8, "<0.8 s"), (1.7, "0.8–1.7 s"))
"""Wide: what is told must not depend on a busy machine."""
LONGER = "≥1.7 s"
"""What runs for as long (two seconds, in `apps/common.py`) was ended by nobody."""
# Groups of exceptions are drawn as trees.
_EXCEPTION = re.compile(
    r"^[\s|+-]*(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Group|Disconnect\w*|Interrupt|Exit))\b(?=:|$|\()"
)
_WORDS = 60


def duration(seconds: float | None, never: str = "never") -> str:
    """Return the class that a time falls into."""
    if seconds is None:
        return never
    return next((name for limit, name in CLASSES if seconds < limit), LONGER)


def log_fact(text: str) -> str:
    """Return what a piece of a log says: nothing, the exceptions in it, or else the start of its first line."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return "nothing"
    names = sorted({found[1] for line in lines if (found := _EXCEPTION.match(line))})
    names = [name for name in names if not name.endswith("Group")] or names
    if names:
        return ", ".join(names)
    # Without what changes from run to run.
    return re.sub(r"\d+", "#", lines[0].strip())[:_WORDS]


@dataclass(frozen=True, slots=True)
class Better:
    """A difference that is meant: for which rows, which facts, and why. Patterns are those of fnmatch."""

    reason: str
    feature: str
    fact: str
    """The name of the fact."""
    ours: str = "*"
    theirs: str = "*"
    framework: str = "*"
    middleware: str = "*"
    server: str = "*"

    def covers(self, row: "Row", fact: str, ours: str, theirs: str) -> bool:
        pairs = (
            (row.feature, self.feature),
            (row.framework, self.framework),
            (row.middleware, self.middleware),
            (row.server, self.server),
            (fact, self.fact),
            (ours, self.ours),
            (theirs, self.theirs),
        )
        return all(fnmatch.fnmatchcase(value, pattern) for value, pattern in pairs)


@dataclass(frozen=True, slots=True)
class Row:
    framework: str
    middleware: str
    feature: str
    server: str
    """How asgireload was started."""
    ours: Facts
    theirs: Facts


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: str
    """same, better or differs"""
    text: str = ""
    """The reasons, or both sides' facts."""

    def __str__(self) -> str:
        return {"same": "same as uvicorn"}.get(self.kind, f"{self.kind}: {self.text}")


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return the names of the facts that are not the same, in order."""
    names = list(dict.fromkeys([*theirs, *ours]))
    return [name for name in names if ours.get(name) != theirs.get(name)]


def judge(row: Row, known: Sequence[Better]) -> Verdict:
    """Compare the two sides of a row. Better only if each fact that differs is meant to."""
    names = differing(row.ours, row.theirs)
    if not names:
        return Verdict("same")
    reasons = []
    for name in names:
        ours, theirs = row.ours.get(name, "none"), row.theirs.get(name, "none")
        reason = next((b.reason for b in known if b.covers(row, name, ours, theirs)), None)
        if reason is None:
            told = (
                f"{n} {row.ours.get(n, 'none')}, uvicorn {row.theirs.get(n, 'none')}" for n in names
            )
            return Verdict("differs", "; ".join(told))
        reasons.append(reason)
    return Verdict("better", "; ".join(dict.fromkeys(reasons)))


@dataclass(frozen=True, slots=True)
class Group:
    """Features of one framework and middleware with one result."""

    framework: str
    middleware: str
    features: tuple[str, ...]
    result: str


def grouped(judged: Iterable[tuple[Row, Verdict]]) -> list[Group]:
    """Put features with the same result into one group, in the order in which they come.

    Where the ways to start asgireload have different results, each result names its ways.
    """
    results: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for row, verdict in judged:
        features = results.setdefault((row.framework, row.middleware), {})
        features.setdefault(row.feature, {})[row.server] = str(verdict)
    groups = []
    for (framework, middleware), features in results.items():
        by_result: dict[str, list[str]] = {}
        for feature, by_server in features.items():
            by_result.setdefault(_told(by_server), []).append(feature)
        groups += [
            Group(framework, middleware, tuple(features), result)
            for result, features in by_result.items()
        ]
    return groups


def _told(by_server: Mapping[str, str]) -> str:
    ways: dict[str, list[str]] = {}
    for server, verdict in by_server.items():
        ways.setdefault(verdict, []).append(server)
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{', '.join(servers)}: {verdict}" for verdict, servers in ways.items())
