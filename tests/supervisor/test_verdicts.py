"""What the log says of a reload."""

import logging

import pytest

from asgireload.failures import Failure
from asgireload.supervisor.reloads import Outcome, Reload
from asgireload.supervisor.verdicts import describe_verdict


def ended(outcome, **more):
    reload = Reload(
        3, 100.0, ["test"], outcome=outcome, target=4, started_at=100.0, ended_at=100.025
    )
    for name, value in more.items():
        setattr(reload, name, value)
    return reload


def test_a_save_is_told_with_what_was_read():
    verdict = describe_verdict(
        ended(Outcome.COMMITTED, serving=4, detail="read shop.views in 15 ms, from library base"),
        1,
        names_changes=True,
    )
    assert (
        verdict.text == "Reload 3 committed in 25 ms: read shop.views in 15 ms, from library base"
    )
    assert verdict.level == logging.INFO


def test_a_mistake_that_is_served_is_an_error_with_its_traceback():
    failure = Failure("import", "SyntaxError: invalid syntax", "Traceback …\n")
    verdict = describe_verdict(
        ended(Outcome.FAILED, serving=4, failure=failure), 1, names_changes=True
    )
    assert verdict.level == logging.ERROR
    assert verdict.text == (
        "Reload 3 failed after 25 ms (generation 4): import: SyntaxError: invalid syntax;"
        " every request is answered with an error page\nTraceback …"
    )


def test_a_reload_in_production_is_told_slot_by_slot():
    reload = ended(Outcome.COMMITTED, serving=4)
    reload.note(0, "ready", 100.01, 4)
    assert describe_verdict(reload, 2).text == (
        "Reload 3 committed in 0.03 s: generation 4 serves with 2 workers\n  slot 0: ready at 0.01 s"
    )


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 old one still drains"), (4, "4 old ones still drain")]
)
def test_old_workers_that_still_drain_are_told(count, text):
    verdict = describe_verdict(ended(Outcome.COMMITTED, serving=4), 2, draining_count=count)
    assert verdict.text == (
        f"Reload 3 committed in 0.03 s: generation 4 serves with 2 workers; {text}"
    )


def test_a_start_that_went_well_has_nothing_to_say():
    assert describe_verdict(ended(Outcome.COMMITTED, reload_id=0), 2) is None


def test_an_abandoned_reload_is_a_warning():
    assert describe_verdict(ended(Outcome.ABANDONED), 0).level == logging.WARNING
