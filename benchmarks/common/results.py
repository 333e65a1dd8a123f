"""What a run of samples leaves behind: one JSON file, whole or as a summary. Pure, but for reading it."""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import keeping
from .figures import Figure, figure
from .tables import short, table

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: a case, a server, a round. The unit of a metric is the end of its name."""

    case: str
    server: str
    round: int
    """Read from a summary: its place among the values of the metric."""
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


def summary(run: Run, metrics: Collection[str] | None = None) -> str:
    """Return what tables and plots are made of as JSON: the values of the metrics by case and server.

    Of each failure the first round is told. `metrics` None: all.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for sample in run.samples:
        for metric, value in sample.metrics.items():
            if metrics is None or metric in metrics:
                found = values.setdefault(sample.case, {}).setdefault(sample.server, {})
                found.setdefault(metric, []).append(value)
    first: dict[tuple[str, str], Failure] = {}
    for failure in run.failures:
        first.setdefault((failure.case, failure.server), failure)
    told = asdict(run) | {"values": values, "failures": [asdict(each) for each in first.values()]}
    del told["samples"]
    return keeping.compact(keeping.rounded({"format": FORMAT, **told})) + "\n"


def _samples_of(values: dict[str, dict[str, dict[str, list[float]]]]) -> list[Sample]:
    return [
        Sample(case, server, number, {metric: value})
        for case, servers in values.items()
        for server, metrics in servers.items()
        for metric, found in metrics.items()
        for number, value in enumerate(found)
    ]


def _all_of(kind: type[Any], rows: Iterable[dict[str, Any]]) -> list[Any]:
    return [kind(**row) for row in rows]


def parse(text: str) -> Run:
    """Read what dump() or summary() wrote. Raise ValueError for anything else."""
    try:
        values = json.loads(text)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"no results of format {FORMAT}")
        if "values" in values:
            samples = _samples_of(values.pop("values"))
        else:
            samples = _all_of(Sample, values.pop("samples"))
        failures = _all_of(Failure, values.pop("failures"))
        return Run(**values, samples=samples, failures=failures)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no results of a run: {error}") from error


def failures_table(run: Run) -> str:
    """Return what failed and why, each case of a server once."""
    first: dict[tuple[str, str], str] = {}
    for failure in run.failures:
        first.setdefault((failure.server, failure.case), failure.reason)
    rows = [[server, case, short(reason)] for (server, case), reason in first.items()]
    return table(["server", "case", "reason"], rows) if rows else ""


def load(path: Path) -> Run:
    """Read a file of results. Raise ValueError, naming it, for what holds none."""
    return keeping.load(path, parse)
