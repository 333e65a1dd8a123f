"""The table of what an import can leave behind: in the code, in the documentation, and held by tests."""

import re
from pathlib import Path

import pytest

from asgireload.template.fork_hazards import SURVIVING_THREADS, TABLE, group_reasons

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/imports.md").read_text()
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.kind)
def test_each_row_is_documented_and_has_its_test(row):
    line = f"| {row.kind} | {row.seen_by} | {row.fork_does} | {row.action.value} |"
    assert line in PAGE, f"docs/explanation/imports.md lacks\n{line} `{row.test}` |"
    assert f"{line} `{row.test}` |" in PAGE
    assert f"def {row.test}(" in TESTS


def test_the_page_has_no_other_rows():
    lines = re.findall(r"^\| .* \| `test_\w+` \|$", PAGE, re.MULTILINE)
    assert len(lines) == len(TABLE)


@pytest.mark.parametrize("survivor", SURVIVING_THREADS, ids=lambda survivor: survivor.pattern)
def test_each_library_whose_threads_survive_is_documented(survivor):
    assert f"{survivor.why} | {survivor.tried_with} |" in PAGE


def test_equal_reasons_are_told_once_with_their_holders():
    """gradio makes three loops at import, each with two socket pairs."""
    loops = [("a loop", f"lib.LOOP{number}") for number in (1, 2, 2, 3, 4)]
    reasons = [
        *loops,
        ("a pair", ""),
        ("a pair", ""),
        ("a pipe", ""),
        ("a pipe", "app.PIPE"),
        ("x", ""),
    ]
    assert group_reasons(reasons) == (
        "a loop, held by lib.LOOP1, lib.LOOP2, lib.LOOP3 and 1 more",
        "a pair",
        "a pipe, held by app.PIPE",
        "x",
    )
