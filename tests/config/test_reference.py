from pathlib import Path

from asgireload.config.options import GROUPS, OPTIONS
from asgireload.config.reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"


def test_the_reference_page_is_up_to_date():
    """Made anew by `python -m asgireload.config.reference docs/reference/options.md`."""
    assert PAGE.read_text(encoding="utf-8") == render_reference()


def test_every_option_has_a_group_that_is_shown():
    assert {option.group for option in OPTIONS.values()} == set(GROUPS)


def test_no_two_options_share_a_flag_or_variable():
    flags = [f for o in OPTIONS.values() for f in (o.flag, *o.aliases, *o.scaled_aliases)]
    variables = [o.variable for o in OPTIONS.values()]
    assert len(flags) == len(set(flags))
    assert len(variables) == len(set(variables))
