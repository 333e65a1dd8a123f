"""Frameworks beside uvicorn: facts, verdicts, groups, and the page."""

import ast
from pathlib import Path

import pytest

from benchmarks.common import tables
from benchmarks.frameworks import report
from benchmarks.frameworks.judging import (
    Better,
    Group,
    Row,
    Verdict,
    differing,
    duration,
    grouped,
    judge,
    log_fact,
)
from benchmarks.frameworks.servers import FRAMEWORKS, SERVERS, arguments, choose

CERTIFICATE = ("cert.pem", "key.pem")


def row(ours, theirs, *, feature="stream", server="uvloop", middleware="none"):
    return Row("Starlette", middleware, feature, server, ours, theirs)


# --- facts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "<0.8 s"), (0.9, "0.8–1.7 s"), (2.0, "≥1.7 s"), (None, "never")]
)
def test_a_time_is_told_as_a_class(seconds, told):
    assert duration(seconds) == told


def test_an_empty_log_says_nothing():
    assert log_fact("\n  \n") == "nothing"


def test_a_log_is_told_by_the_exceptions_in_it_whatever_leads_to_them():
    text = """ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "app.py", line 7, in handler
    raise ClientError("a word")
starlette.requests.ClientDisconnect

During handling of the above exception, another exception occurred:

  + Exception Group Traceback (most recent call last):
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | ConnectionResetError: the client has left
    +------------------------------------
"""
    assert log_fact(text) == "ClientDisconnect, ConnectionResetError"


def test_a_log_without_exceptions_is_told_by_its_first_line_without_figures():
    assert log_fact("WARNING: port 4711 is slow\nand more\n") == "WARNING: port # is slow"


# --- verdicts -------------------------------------------------------------------------------------


def test_equal_facts_are_the_same():
    assert str(judge(row({"status": "200"}, {"status": "200"}), ())) == "same as uvicorn"


def test_a_fact_of_one_side_only_differs():
    assert differing({"status": "200", "vary": "*"}, {"status": "200", "etag": "1"}) == [
        "etag",
        "vary",
    ]


def test_a_difference_tells_both_sides():
    verdict = judge(row({"status": "500", "log": "KeyError"}, {"status": "200"}), ())
    assert verdict.kind == "differs"
    assert verdict.text == "status 500, uvicorn 200; log KeyError, uvicorn none"


def test_a_difference_is_better_only_when_every_fact_of_it_is_meant():
    known = (Better("it ends", "str*", "after", "<*", "never"),)
    meant = row({"after": "<0.8 s", "log": "nothing"}, {"after": "never", "log": "nothing"})
    assert judge(meant, known) == Verdict("better", "it ends")
    logs, late = dict(meant.ours, log="KeyError"), dict(meant.ours, after="≥1.7 s")
    assert judge(row(logs, meant.theirs), known).kind == "differs"
    assert judge(row(late, meant.theirs), known).kind == "differs"


@pytest.mark.parametrize(
    "only", [{"framework": "Quart"}, {"middleware": "GZip*"}, {"server": "TLS"}]
)
def test_what_is_meant_for_some_rows_excuses_no_others(only):
    known = (Better("it ends", "*", "after", **only),)
    assert judge(row({"after": "<0.8 s"}, {"after": "never"}), known).kind == "differs"


# --- groups and the page --------------------------------------------------------------------------

SAME = Verdict("same")
DIFFERS = Verdict("differs", "status 500, uvicorn 200")


def test_features_with_one_result_are_one_group():
    judged = [
        (row({}, {}, feature="file"), SAME),
        (row({}, {}, feature="stream"), DIFFERS),
        (row({}, {}, feature="upload"), SAME),
    ]
    assert grouped(judged) == [
        Group("Starlette", "none", ("file", "upload"), "same as uvicorn"),
        Group("Starlette", "none", ("stream",), "differs: status 500, uvicorn 200"),
    ]


def test_ways_to_start_are_named_where_their_results_are_not_the_same():
    judged = [
        (row({}, {}, server="uvloop"), SAME),
        (row({}, {}, server="asyncio"), DIFFERS),
        (row({}, {}, server="TLS"), SAME),
    ]
    assert [group.result for group in grouped(judged)] == [
        "uvloop, TLS: same as uvicorn; asyncio: differs: status 500, uvicorn 200"
    ]


def outcome(*verdicts, failures=None):
    judged = tuple((row({}, {}, middleware="slowapi, ASGI"), verdict) for verdict in verdicts)
    versions = {"uvicorn": "0.40", "starlette": "1.0", "slowapi": "0.1"}
    return report.Outcome({"date": "today"}, versions, judged, failures or {})


def test_the_page_names_versions_and_counts():
    text = report.body(outcome(SAME, DIFFERS))
    assert "### Starlette 1.0" in text
    assert "slowapi, ASGI (0.1)" in text
    assert "| Starlette | 1.0 | 1 | 2 | 1 as under uvicorn, 0 better, **1 differ** |" in text


def test_a_run_is_good_when_nothing_differs_and_all_was_compared():
    assert outcome(SAME, Verdict("better", "it ends")).is_good
    assert not outcome(SAME, DIFFERS).is_good
    assert not outcome(SAME, failures={"Quart": "it does not start"}).is_good


def test_the_summary_names_what_differs_and_what_was_not_compared():
    text = report.summary(outcome(DIFFERS, failures={"Quart": "it does not start"}))
    assert "Starlette / slowapi, ASGI / stream: differs: status 500, uvicorn 200" in text
    assert "Quart: not compared: it does not start" in text


def test_the_page_in_the_documentation_can_be_filled():
    assert tables.filled(report.PAGE.read_text(), "words").count("words") >= 1


# --- tables ---------------------------------------------------------------------------------------


def test_every_server_has_a_reference_that_is_run():
    names = {server.name for server in SERVERS if not server.is_ours}
    assert {server.reference for server in SERVERS} == names


def test_tls_and_loop_reach_the_command_line():
    for server in SERVERS:
        words = arguments(server, "a:app", 8000, CERTIFICATE)
        assert words[words.index("--loop") + 1] == server.loop
        assert ("cert.pem" in words) is server.is_tls


def test_an_unknown_framework_is_named():
    assert [framework.name for framework in choose("quart,django")] == ["Quart", "Django"]
    with pytest.raises(ValueError, match="'flask'"):
        choose("quart,flask")


def test_every_framework_has_an_application_that_compiles():
    apps = Path(report.__file__).parent / "apps"
    for framework in FRAMEWORKS:
        ast.parse((apps / f"{framework.module}.py").read_text())


def test_the_page_gives_the_number_of_features_that_are_the_same_and_names_the_others():
    same = Group("Starlette", "none", ("file", "stream"), "same as uvicorn")
    assert report.features_told(same) == "2 features"
    better = Group("Starlette", "none", ("file", "stream"), "better: it ends")
    assert report.features_told(better) == "file; stream"
