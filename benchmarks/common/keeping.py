"""Where results are kept: each run in a file of its own, the latest of each benchmark in the tree.

`benchmarks/results/NAME.json` is what the documentation was last written from, and enough to write it again; the
files with a date in their names stay on the machine that measured.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from .machine import ROOT

RESULTS = ROOT / "benchmarks" / "results"
LINE_WIDTH = 400
SUMMARY_DIGITS = 9
"""Significant digits of a kept number: enough for every table to come out the same."""
Kept = TypeVar("Kept")


def keep(text: str, name: str = "") -> None:
    """Write the results of one run to `results/NAME-DATE.json`, or `results/DATE.json` without a name."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%M")
    _write(RESULTS / f"{name}-{stamp}.json" if name else RESULTS / f"{stamp}.json", text)


def keep_latest(text: str, name: str) -> None:
    """Write the summary that the documentation is written from to `results/NAME.json`."""
    _write(RESULTS / f"{name}.json", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    print(f"kept in {path.relative_to(ROOT)}")


def load(path: Path, parse: Callable[[str], Kept]) -> Kept:
    """Read a file of results with `parse`. Raise ValueError, naming the file, for what holds none."""
    try:
        return parse(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def rounded(value: Any, digits: int = SUMMARY_DIGITS) -> Any:
    """Return JSON values with every float rounded to so many significant digits."""
    match value:
        case float():
            return float(f"{value:.{digits}g}")
        case dict():
            return {name: rounded(item, digits) for name, item in value.items()}
        case list() | tuple():
            return [rounded(item, digits) for item in value]
        case _:
            return value


def compact(value: Any, indent: int = 0) -> str:
    """Return JSON in few lines: what fits into LINE_WIDTH stands on one, and so does a list of plain values."""
    line = json.dumps(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if len(line) <= LINE_WIDTH or not any(isinstance(item, dict | list) for item in items):
        return line
    pad = " " * (indent + 1)
    if isinstance(value, dict):
        begin, end = "{", "}"
        rows = [f"{pad}{json.dumps(n)}: {compact(v, indent + 1)}" for n, v in value.items()]
    else:
        begin, end = "[", "]"
        rows = [pad + compact(item, indent + 1) for item in value]
    return f"{begin}\n" + ",\n".join(rows) + "\n" + " " * indent + end
