"""Reports for tests: made by hand, and of code that is written to a directory and fails."""

import sys
import textwrap

from asgireload.app import load_app
from asgireload.development.pages.reading import report_of
from asgireload.development.pages.report import ErrorPart, FailureReport, Frame

FRAME = Frame(
    "/site/shop/main.py", "shop/main.py", 3, "price", True, 2, ("def price():", "    return 1 / 0"),
    (11, 16),
)  # fmt: skip
LIBRARY = Frame(
    "/env/lib/python3/site-packages/framework/run.py", "framework/run.py", 9, "run", False
)
REPORT = FailureReport(
    "import",
    "import",
    "ZeroDivisionError: division by zero",
    (ErrorPart("", "ZeroDivisionError", "division by zero", (), (LIBRARY, FRAME)),),
    "Traceback (most recent call last):\n…\nZeroDivisionError: division by zero\n",
)


def write(directory, code, name="site_main"):
    (directory / f"{name}.py").write_text(textwrap.dedent(code).lstrip())


def failure_of(directory, import_string="site_main:app", **options):
    """Import what was written to `directory` and return the report of how that fails."""
    before, path = set(sys.modules), list(sys.path)
    try:
        load_app(import_string, app_dir=str(directory))
    except BaseException as error:  # noqa: BLE001 - SystemExit, too
        # This frame is no part of the story.
        return report_of(
            error.with_traceback(error.__traceback__.tb_next), str(directory), **options
        )
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if str(directory) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    raise AssertionError("it can be imported")
