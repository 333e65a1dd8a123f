"""From exceptions and tracebacks to reports."""

import asyncio
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.development.pages.reading import (
    MOST_ERRORS,
    MOST_FRAMES,
    SourcePlaces,
    report_from_text,
    report_of,
)
from asgireload.development.pages.report import REPORT_LIMIT, FailureReport
from asgireload.errors import AppLoadError, LifespanError
from tests.development.pages.reports import failure_of, write

SITE = "/srv/site"


@pytest.fixture(autouse=True)
def no_bytecode(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def raised(call):
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - SystemExit, too
        return error
    raise AssertionError("nothing was raised")


def places_of(part):
    return [(frame.shown, frame.line, frame.function) for frame in part.frames]


# --- exceptions -----------------------------------------------------------------------------------


def test_a_report_names_the_places_of_the_application_only(tmp_path):
    write(tmp_path, "import prices\napp = None\n")
    write(tmp_path, "def price():\n    return 1 / 0\n\nPRICE = price()\n", "prices")
    report = failure_of(tmp_path)
    (part,) = report.errors
    assert (report.kind, report.stage) == ("import", "import")
    assert report.summary == "ZeroDivisionError: division by zero"
    assert (part.type, part.message, part.relation) == (
        "ZeroDivisionError",
        "division by zero",
        "",
    )
    assert places_of(part) == [
        ("site_main.py", 1, "<module>"),
        ("prices.py", 4, "<module>"),
        ("prices.py", 2, "price"),
    ]
    assert all(frame.is_user for frame in part.frames)
    assert report.text.endswith("ZeroDivisionError: division by zero\n")


def test_the_failing_expression_is_marked_in_its_line(tmp_path):
    write(tmp_path, "PRICES = {}\nname = 'ä€𝄞'; total = 'ä' + PRICES['tea'] + 'ä'\n")
    frame = failure_of(tmp_path).errors[0].frames[-1]
    start, end = frame.mark
    assert frame.lines[frame.line - frame.first_line][start:end] == "PRICES['tea']"


def test_a_syntax_error_is_a_place_with_a_mark(tmp_path):
    write(tmp_path, "def f():\n    return (1, 2]\n")
    report = failure_of(tmp_path)
    frame = report.errors[0].frames[-1]
    assert (frame.shown, frame.line, frame.function) == ("site_main.py", 2, "")
    assert frame.lines == ("def f():", "    return (1, 2]")
    assert frame.lines[1][slice(*frame.mark)] == "]"
    assert report.errors[0].message.startswith("closing parenthesis ']'")


def test_a_fault_behind_the_last_character_is_marked_there(tmp_path):
    write(tmp_path, "def f()\n    pass\n")
    frame = failure_of(tmp_path).errors[0].frames[-1]
    assert frame.lines[0] == "def f()"
    assert frame.mark == (7, 8)


def test_code_without_a_file_shows_the_line_that_the_error_knows():
    report = report_of(raised(lambda: compile("a = = b", "<text>", "exec")), SITE)
    frame = report.errors[0].frames[-1]
    assert (frame.file, frame.lines, frame.is_user) == ("<text>", ("a = = b",), False)


@pytest.mark.parametrize("code", ["\0", "\xff", "# coding: nothing\n", "x = 'a\n", "\tif 1:\n x\n"])
def test_files_that_are_hardly_python_are_reported(tmp_path, code):
    (tmp_path / "site_main.py").write_bytes(code.encode("latin-1"))
    report = failure_of(tmp_path)
    assert report.errors[0].type in {"SyntaxError", "ValueError", "IndentationError", "TabError"}


def test_causes_come_behind_what_they_caused():
    def fail():
        try:
            try:
                {}["tea"]
            except KeyError as error:
                raise ValueError("no price") from error
        except ValueError:
            raise RuntimeError("no shop")  # noqa: B904 - the context is what is tested

    parts = report_of(raised(fail), SITE).errors
    assert [(part.relation, part.type) for part in parts] == [
        ("", "RuntimeError"),
        ("context", "ValueError"),
        ("cause", "KeyError"),
    ]


def test_a_context_that_was_hidden_stays_hidden():
    def fail():
        try:
            {}["tea"]
        except KeyError:
            raise ValueError("no price") from None

    assert len(report_of(raised(fail), SITE).errors) == 1


def test_the_members_of_a_group_are_told():
    async def fail(number):
        raise ValueError(f"no {number}")

    async def fail_together():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(1))
            group.create_task(fail(2))

    parts = report_of(raised(lambda: asyncio.run(fail_together())), SITE).errors
    assert [(part.relation, part.message) for part in parts[1:]] == [
        ("member", "no 1"),
        ("member", "no 2"),
    ]
    assert parts[0].type == "ExceptionGroup"


def test_notes_are_kept():
    error = ValueError("no price")
    error.add_note("ask the shop")
    assert report_of(error, SITE).errors[0].notes == ("ask the shop",)


def test_an_exit_is_told_as_what_it_was():
    assert report_of(SystemExit(3), SITE).errors[0].message == "sys.exit(3) was called"


def test_an_error_of_ours_is_told_by_its_text_alone():
    report = report_of(AppLoadError('Could not import module "shop".'), SITE)
    assert report.summary == 'Could not import module "shop".'
    assert report.errors == ()


def test_what_a_failed_start_came_from_is_told_instead_of_it():
    error = LifespanError("Traceback …")
    error.__cause__ = raised(lambda: {}["tea"])
    report = report_of(error, SITE, kind="lifespan", stage="lifespan")
    assert [part.type for part in report.errors] == ["KeyError"]
    assert report.kind == "lifespan"


def test_an_error_that_cannot_be_written_is_reported():
    class MuteError(Exception):
        def __str__(self):
            raise ValueError("no words")

    assert report_of(MuteError(), SITE).errors[0].message == "<its __str__ fails>"


def test_of_an_endless_recursion_both_ends_are_kept():
    def first():
        return again()

    def again():
        return again()

    part = report_of(raised(first), SITE).errors[0]
    assert len(part.frames) == MOST_FRAMES
    assert part.left_out > 500
    assert part.frames[1].function == "first"
    assert part.frames[-1].function == "again"


def test_a_ring_of_causes_ends():
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert [part.message for part in report_of(one, SITE).errors] == ["one", "other"]


def test_only_so_many_errors_are_told():
    group = ExceptionGroup("all", [ValueError(n) for n in range(100)])
    assert len(report_of(group, SITE).errors) == MOST_ERRORS


def test_a_report_fits_into_a_message(tmp_path):
    wide = "\n".join(f"x{n} = {'é€𝄞' * 60!r}" for n in range(300))
    call = "def f(n):\n    if n == 0:\n        raise ValueError('\\0' * 10**6)\n    f(n - 1)"
    write(tmp_path, f"{wide}\n{call}\n{wide}\nf(60)\n")
    report = failure_of(tmp_path)
    assert len(msgspec.json.encode(report)) <= REPORT_LIMIT
    assert report.summary.startswith("ValueError: ")


def test_values_of_variables_are_in_no_report(tmp_path):
    write(tmp_path, "import base64\npassword = base64.b64decode('c2VjcmV0')\nprint(1 / 0)\n")
    assert b"secret" not in msgspec.json.encode(failure_of(tmp_path))


def test_a_report_survives_its_journey():
    report = report_of(raised(lambda: 1 / 0), SITE)
    again = msgspec.json.decode(msgspec.json.encode(report), type=FailureReport)
    assert again == report
    assert again.digest == report.digest


def test_a_digest_is_of_the_failure():
    report = report_of(ValueError("one"), SITE)
    assert report.digest != report_of(ValueError("other"), SITE).digest
    assert report.digest == report_of(ValueError("one"), SITE).digest


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "is_user", "shown"),
    [
        ("/srv/site/shop/main.py", True, "shop/main.py"),
        ("/srv/site/.venv/lib/python3/site-packages/lib/a.py", False, "lib/a.py"),
        ("/usr/lib/python3/dist-packages/lib/a.py", False, "lib/a.py"),
        ("/usr/lib/python3/asyncio/runners.py", False, "asyncio/runners.py"),
        ("/home/me/other/project.py", True, "/home/me/other/project.py"),
        ("/srv/sites/main.py", True, "/srv/sites/main.py"),
        ("<string>", False, "<string>"),
    ],
)
def test_files_of_the_application_are_told_from_those_of_libraries(file, is_user, shown):
    places = SourcePlaces(SITE, ("/usr/lib/python3/dist-packages", "/usr/lib/python3"))
    assert (places.is_user(file), places.shown(file)) == (is_user, shown)


# --- text -----------------------------------------------------------------------------------------


def text_report(text, directory=SITE, summary="it failed"):
    return report_from_text("lifespan", "lifespan", summary, text, str(directory))


def test_a_traceback_is_read_as_the_exception_would_have_been(tmp_path):
    write(
        tmp_path,
        """
        def price(prices):
            return prices["tea"]

        try:
            1 / 0
        except ZeroDivisionError as error:
            total = 1 + price({})
        """,
    )
    known = failure_of(tmp_path)
    read = text_report(known.text, tmp_path, known.summary)
    assert read.errors == known.errors


def test_a_syntax_error_is_read_with_its_mark(tmp_path):
    write(tmp_path, "if True:\n    total = (1, 2]\n")
    known = failure_of(tmp_path)
    read = text_report(known.text, tmp_path)
    assert read.errors[0].frames == known.errors[0].frames
    assert read.errors[0].type == "SyntaxError"


def test_what_a_process_said_when_it_died_is_read_latest_first():
    text = (
        "Fatal Python error: Segmentation fault\n\n"
        "Thread 0x00007f01 (most recent call first):\n"
        f'  File "{SITE}/other.py", line 1 in wait\n\n'
        "Current thread 0x00007f02 (most recent call first):\n"
        f'  File "{SITE}/deep.py", line 2 in crash\n'
        f'  File "{SITE}/main.py", line 7 in <module>\n\n'
        "Extension modules: one, two (total: 2)\n"
    )
    report = report_from_text("crash", "import", "killed by SIGSEGV", text, SITE)
    assert places_of(report.errors[0]) == [("main.py", 7, "<module>"), ("deep.py", 2, "crash")]
    assert report.errors[0].message == "killed by SIGSEGV"


def test_a_text_without_places_is_kept_as_it_is():
    report = text_report("it was not to be\nreally")
    assert report.errors == ()
    assert report.text == "it was not to be\nreally"


FRAGMENTS = st.sampled_from(
    [
        "Traceback (most recent call last):\n",
        '  File "/srv/site/a.py", line 3, in f\n',
        '  File "/srv/site/a.py", line 99999999999, in f\n',
        '  File "\0", line 0\n',
        "    a = b\n",
        "    ^^^^\n",
        " ~~^~~\n",
        "ValueError: no\n",
        "\nDuring handling of the above exception, another exception occurred:\n\n",
        "The above exception was the direct cause of the following exception:\n",
        "Current thread 0x1 (most recent call first):\n",
        "  + Exception Group Traceback (most recent call last):\n",
        "\udcff\n",
        "\n",
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=20), max_size=20).map("".join), st.text(max_size=50))
def test_any_text_makes_a_report_that_can_be_sent(text, summary):
    report = text_report(text, summary=summary)
    assert len(msgspec.json.encode(report)) <= REPORT_LIMIT
