"""What a run leaves behind: one JSON file for each part. Pure, but for reading and writing it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.common import keeping

from .clients import Effort
from .judge import Figures, Kill, Mark, Reload
from .kill import KillTrial
from .quiet import Minute, QuietTrial
from .trial import Trial

FORMAT = 1
LINE_DIGITS = 4
"""Significant digits in the summary of a time line: more than a plot can show."""
MIXED, KILL, QUIET = "mixed", "kill", "quiet"
PARTS = (MIXED, KILL, QUIET)


@dataclass(slots=True)
class Run:
    """A whole run of one part, with what one must know to repeat it."""

    part: str
    about: dict[str, str]
    versions: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    """Servers that were not measured, with the reason."""
    trials: list[Trial] = field(default_factory=list)
    kill: KillTrial | None = None
    quiet: list[QuietTrial] = field(default_factory=list)


def dump(run: Run) -> str:
    """Return the run as JSON."""
    return json.dumps({"format": FORMAT, **asdict(run)}, indent=1) + "\n"


def summary(run: Run) -> str:
    """Return the run as JSON of few lines, its numbers rounded: enough to write the documentation again."""
    values = asdict(run)
    for trial in values["trials"]:
        trial["line"] = _columns(trial["line"])
    for trial in values["quiet"]:
        for minute in (trial["still"], trial["disturbed"]):
            if minute is not None:
                minute["line"] = _columns(minute["line"])
    return keeping.compact(keeping.rounded({"format": FORMAT, **values})) + "\n"


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        field.name: keeping.rounded([row[field.name] for row in rows], LINE_DIGITS)
        for field in fields(Mark)
    }


def _marks(told: list[dict[str, Any]] | dict[str, list[Any]]) -> list[Mark]:
    """Return the time line of dump(), a list of marks, or of summary(), a list for each of their fields."""
    if isinstance(told, list):
        return [Mark(**row) for row in told]
    return [Mark(*row) for row in zip(*(told[f.name] for f in fields(Mark)), strict=True)]


def _reloads(rows: list[dict[str, Any]]) -> list[Reload]:
    return [Reload(**row) for row in rows]


def _trial(row: dict[str, Any]) -> Trial:
    effort = row.pop("effort")
    return Trial(
        reloads=_reloads(row.pop("reloads")),
        kinds={kind: Figures(**figures) for kind, figures in row.pop("kinds").items()},
        line=_marks(row.pop("line")),
        effort=Effort(**effort) if effort is not None else None,
        **row,
    )


def _kill(row: dict[str, Any]) -> KillTrial:
    return KillTrial(
        kills=[Kill(**kill) for kill in row.pop("kills")],
        reloads=_reloads(row.pop("reloads")),
        figures=Figures(**row.pop("figures")),
        **row,
    )


def _minute(row: dict[str, Any] | None) -> Minute | None:
    if row is None:
        return None
    return Minute(
        Figures(**row["figures"]),
        _reloads(row["reloads"]),
        Effort(**row["effort"]),
        row["others_share"],
        row["began"],
        _marks(row["line"]),
    )


def _quiet(row: dict[str, Any]) -> QuietTrial:
    still, disturbed = _minute(row.pop("still")), _minute(row.pop("disturbed"))
    return QuietTrial(still=still, disturbed=disturbed, **row)


def parse(text: str) -> Run:
    """Read what dump() or summary() wrote. Raise ValueError for anything else."""
    try:
        values = json.loads(text)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"no results of format {FORMAT}")
        kill = values.pop("kill")
        return Run(
            trials=[_trial(row) for row in values.pop("trials")],
            kill=_kill(kill) if kill is not None else None,
            quiet=[_quiet(row) for row in values.pop("quiet")],
            **values,
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no results of a run: {error}") from error


def load(path: Path) -> Run:
    """Read a file of results. Raise ValueError, naming it, for what holds none."""
    return keeping.load(path, parse)
