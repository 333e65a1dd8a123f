"""What a run leaves behind: one JSON file. Pure, but for reading and writing it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .figures import Figure, figure

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: a case, a server, a round. The unit of a metric is the end of its name."""

    case: str
    server: str
    round: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class Failure:
    """A measurement that gave no figure, or none that may be told, with the reason."""

    case: str
    server: str
    round: int
    reason: str


@dataclass(slots=True)
class Run:
    """A whole run with what one must know to repeat it."""

    about: dict[str, str]
    """Machine, kernel, Python, date, command and the like, in the order they are told."""
    versions: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)
    """Servers that were not measured, with the reason."""
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def figure(self, case: str, server: str, metric: str) -> Figure | None:
        """Return median and extremes over the rounds; None when nothing was measured."""
        return figure(
            sample.metrics[metric]
            for sample in self.samples
            if (sample.case, sample.server) == (case, server) and metric in sample.metrics
        )

    def servers(self) -> list[str]:
        """Return the servers with samples, in the order they were first measured."""
        return list(dict.fromkeys(sample.server for sample in self.samples))

    def cases(self) -> list[str]:
        """Return the cases with samples, in the order they were first measured."""
        return list(dict.fromkeys(sample.case for sample in self.samples))


def dump(run: Run) -> str:
    """Return the run as JSON."""
    return json.dumps({"format": FORMAT, **asdict(run)}, indent=1) + "\n"


def _all_of(kind: type[Any], rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [kind(**row) for row in rows]


def parse(text: str) -> Run:
    """Read what dump() wrote. Raise ValueError for anything else."""
    try:
        values = json.loads(text)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"no results of format {FORMAT}")
        samples = _all_of(Sample, values.pop("samples"))
        failures = _all_of(Failure, values.pop("failures"))
        return Run(**values, samples=samples, failures=failures)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no results of a run: {error}") from error


def load(path: Path) -> Run:
    """Read a file of results. Raise ValueError, naming it, for what is none."""
    try:
        return parse(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
