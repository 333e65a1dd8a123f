"""Tables of Markdown, and their place in a page of the documentation. Pure, but for `write_page`."""

from pathlib import Path
from typing import Protocol

from .machine import ROOT

NOT_MEASURED = "–"
BEGIN = "<!-- what follows is written by a script in benchmarks/ -->"
END = "<!-- what make bench writes ends here -->"
CELL_LENGTH = 160


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table of Markdown."""
    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, rows)])


class Described(Protocol):
    """A run that tells where and how its figures came about."""

    about: dict[str, str]
    versions: dict[str, str]
    left_out: dict[str, str]


def about(run: Described) -> str:
    """Return the table of where and how the figures of a run came about."""
    rows = [[name, value] for name, value in run.about.items()]
    rows.append(["versions", ", ".join(f"{name} {v}" for name, v in run.versions.items())])
    rows += [[f"left out: {name}", reason] for name, reason in run.left_out.items()]
    return table(["", ""], rows)


def short(reason: str) -> str:
    """Return one cell's worth of a reason. Flags and paths of other programs are made plain words."""
    text = " ".join(reason.split()).replace("|", "/").replace("`", "'").replace("--", "")
    return text if len(text) <= CELL_LENGTH else text[: CELL_LENGTH - 1] + "…"


def filled(page: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """Return the page with `text` between its markers. Raise ValueError when it lacks them."""
    head, found_begin, rest = page.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"the page lacks its markers: {begin} and {end}")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


def write_page(page: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Write `text` between the markers of a page of the documentation, and say so."""
    page.write_text(filled(page.read_text(), text, begin, end))
    print(f"written: {page.relative_to(ROOT)}")
