"""How figures are written for people."""

import pytest

from asgireload.admin.page import format_bytes, format_duration, format_time, render_page
from tests.admin.admin_fakes import make_failed_reload, make_status


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.84, "840 ms"),
        (12.34, "12.3 s"),
        (250, "4 m 10 s"),
        (3600 * 3 + 300, "3 h 5 m"),
        (86400 * 2 + 3600 * 4, "2 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_times_and_sizes_are_readable() -> None:
    assert format_time(1_800_000_000) == "2027-01-15 08:00:00 UTC"
    assert format_bytes(48 * 1024**2) == "48.0 MiB"
    assert format_bytes(3 * 1024**3) == "3.00 GiB"


def test_a_failure_that_is_shown_as_a_page_is_not_a_generation_that_serves() -> None:
    """Under --reload the generation that failed answers, with its error page."""
    page = render_page(make_status(last_reload=make_failed_reload(serving_generation=8)))
    assert "<dt>Served afterwards</dt><dd>an error page</dd>" in page
    page = render_page(make_status(last_reload=make_failed_reload(serving_generation=7)))
    assert "<dt>Served afterwards</dt><dd>generation 7, in every slot</dd>" in page
