"""Real applications under reloads: what counts as a failure, what a log says, verdicts, and the page."""

import ast
import http.client
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.applications import report, run
from benchmarks.applications.asking import Answer, Count, ending_told, failure_of
from benchmarks.applications.judging import (
    PRELOADED,
    Result,
    loading_told,
    problems,
    read_log,
    told_apart,
)
from benchmarks.applications.known import APPLICATIONS, Ask, choose

HERE = Path(report.__file__).parent
ASK = Ask("/", "hello")


def good(**changes):
    """Return the result of a run in which all went well."""
    values = {
        "name": "datasette",
        "packages": "datasette 1.0",
        "asked": "page",
        "python": "3.11.7",
        "commit": "abc",
        "date": "2026-01-01 00:00 UTC",
        "loaded": PRELOADED,
        "verdicts": ["committed"] * 3,
        "reload_seconds": [1.0, 2.0, 0.51],
        "requests": 100,
        "exit_status": 0,
        "stop_seconds": 0.25,
        "startups": 5,
        "shutdowns": 4,
        "has_lifespan": True,
    }
    return Result(**values | changes)


# --- what counts as a failure ---------------------------------------------------------------------


def test_the_expected_answer_is_no_failure():
    assert failure_of(ASK, Answer(200, b"<p>hello</p>")) == ""


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(500, b"hello"), "status 500"),
        (Answer(404, b"hello"), "status 404"),
        (Answer(200, b"hell"), "'hello' is not in the body"),
        (ConnectionResetError(104, "reset"), "ConnectionResetError: [Errno 104] reset"),
        (TimeoutError(), "TimeoutError"),
        (http.client.IncompleteRead(b"he", 3), "IncompleteRead"),
        (http.client.RemoteDisconnected("gone"), "RemoteDisconnected: gone"),
    ],
)
def test_any_other_answer_and_every_error_is_one(answer, told):
    assert failure_of(ASK, answer).startswith(told)


def test_failures_are_counted_by_their_reason():
    count = Count()
    for failure in ("", "status 500", "", "status 500", "TimeoutError"):
        count.add(failure)
    assert count.requests == 5
    assert count.failures == Counter({"status 500": 2, "TimeoutError": 1})


@pytest.mark.parametrize(
    ("code", "is_told"), [(1001, True), (1012, True), (4408, True), (1006, False), (1011, False)]
)
def test_a_websocket_that_ends_without_a_word_or_by_an_error_is_one(code, is_told):
    assert ending_told(code) == (f"WebSocket {code}", is_told)


# --- the log --------------------------------------------------------------------------------------

LOG = """\
INFO:     [w0] Started server process [11]
INFO:     [w0] Application startup complete.
INFO:     [w1] Application startup complete.
ERROR:    [w0] worker 11 died 3.0 s after it was ready: killed by SIGKILL; a new worker starts in 0.2 s
\x1b[33mWARNING\x1b[0m:  [w1] Told to leave by a signal or by the end of the supervisor; draining
INFO:     [w1] Application shutdown complete.
WARNING:  [w1] Worker 12 did not leave in time and was killed
WARNING:  [w1] Cut 3 exchanges
WARNING:  [w0] Cut 4 exchanges
Traceback (most recent call last):
"""


def test_what_the_run_has_killed_itself_is_no_news():
    facts = read_log(LOG.splitlines(), expected=[11])
    assert facts.killed == ("WARNING:  [w1] Worker 12 did not leave in time and was killed",)


def test_a_worker_that_dies_by_itself_is_told():
    killed = read_log(LOG.splitlines()).killed
    assert len(killed) == 2
    assert "worker 11 died" in killed[0]


def test_the_log_tells_of_lifespans_warnings_and_tracebacks():
    facts = read_log(LOG.splitlines(), expected=[11])
    assert (facts.startups, facts.shutdowns, facts.has_lifespan) == (2, 1, True)
    assert facts.warnings == ("2 × WARNING: [w#] Cut # exchanges",)
    assert facts.tracebacks == 1


def test_an_application_without_lifespan_owes_no_shutdown():
    facts = read_log(["INFO:     [w0] ASGI 'lifespan' protocol appears unsupported."])
    assert not facts.has_lifespan
    assert problems(good(has_lifespan=False, startups=0, shutdowns=0)) == []


def test_how_it_was_loaded_comes_with_the_reason():
    assert loading_told(True, ()) == "preloaded"
    told = loading_told(False, ("thread 'a' was started", "a socket", "a socket"))
    assert told == "each worker imports it: thread 'a' was started; 2 × a socket"


# --- verdicts -------------------------------------------------------------------------------------


def test_a_good_run_has_no_problems():
    assert problems(good()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"verdicts": ["committed", "reverted", "committed"]}, "reloads: reverted"),
        ({"verdicts": ["committed"] * 2}, "2 reloads of 3"),
        ({"failures": {"status 500": 2}}, "failed requests: 2 × status 500"),
        ({"exit_status": 5}, "exit status 5"),
        (
            {"killed": ["WARNING:  worker 3 was killed", "WARNING:  worker 4 was killed"]},
            "killed: 2 × worker # was killed",
        ),
        ({"shutdowns": 3}, "lifespan: 5 startups, 3 shutdowns"),
        ({"left_processes": ["python x"]}, "processes left: python x"),
        ({"left_files": ["a/b"]}, "files left: a/b"),
        ({"failure": "it did not start"}, "it did not start"),
    ],
)
def test_what_is_wrong_is_named(changes, told):
    found = problems(good(**changes))
    assert len(found) == 1
    assert found[0].startswith(told)


def test_files_that_an_application_is_known_to_leave_are_told_apart():
    assert told_apart(["gradio/a", "b.sock"], ["gradio/*"]) == (["b.sock"], ["gradio/a"])
    assert problems(good(own_files=["gradio/a"])) == []
    assert report.row(good(own_files=["gradio/a"]))[-1].endswith("; leaves gradio/a by itself")


# --- the page -------------------------------------------------------------------------------------


def test_a_row_tells_milliseconds_counts_and_seconds():
    assert report.row(good()) == [
        "datasette 1.0",
        "page",
        "preloaded",
        "1000, 2000, 510",
        "0 of 100",
        "–",
        "0.2 s",
        "shutdown ran",
        "as expected",
    ]


def test_a_row_tells_how_streams_ended():
    row = report.row(good(endings={"WebSocket 1012": 6, "WebSocket 1001": 2}))
    assert row[5] == "6 × WebSocket 1012, 2 × WebSocket 1001"


def test_what_is_wrong_stands_in_the_table_in_bold():
    row = report.row(good(failures={"status 500": 2}))
    assert row[4] == "2 of 100"
    assert row[-1] == "**failed requests: 2 × status 500**"


def test_a_run_that_ended_early_has_a_row_without_figures():
    row = report.row(Result("gradio", asked="page", failure="not installed: no | such package"))
    assert row[:4] == ["gradio", "page", "–", "–"]
    assert row[-1] == "**not installed: no \\| such package**"


def test_a_cell_names_no_directory_of_this_machine_and_holds_no_markup():
    row = report.row(Result("gradio", failure="<html> at /home/me/lib/python3.11/queue.py:57"))
    assert row[-1] == "**&lt;html> at …/queue.py:57**"


def test_reasons_of_those_that_each_worker_imports_have_a_table():
    text = report.body([good(), good(name="gradio", loaded="each worker imports it: a thread")])
    assert "2 applications, 2 as expected" in text
    assert "| gradio | a thread |" in text
    assert "Imported by each worker" not in report.body([good()])


@pytest.mark.parametrize(
    ("compiled", "told"),
    [
        ((True, True), "asgireload at abc (compiled), "),
        ((False, False), "asgireload at abc (not compiled), "),
        ((True, False), "asgireload at abc (compiled for 1 of them, otherwise not), "),
        ((None, None), "asgireload at abc, "),
    ],
)
def test_the_page_tells_whether_asgireload_was_compiled(compiled, told):
    assert told in report.body([good(compiled=each) for each in compiled])


def test_a_result_is_read_back_as_it_was_kept():
    result = good(failures={"status 500": 2})
    assert Result(**json.loads(json.dumps(asdict(result)))) == result


# --- the table of applications --------------------------------------------------------------------


def test_every_application_has_the_files_that_its_row_names():
    for application in APPLICATIONS:
        if not application.served or application.is_prepared:
            assert (HERE / "apps" / f"{application.module}.py").is_file(), application.name
        if application.script:
            assert (HERE / "asks" / f"ask_{application.script[0]}.py").is_file(), application.name
        if application.companion:
            assert (HERE / "asks" / f"{application.companion}.py").is_file(), application.name


def test_no_verdict_depends_on_how_busy_the_machine_is():
    """LiteLLM computes for ten seconds to be imported: beside other work that may take minutes."""
    for application in APPLICATIONS:
        command = run.command_of(application, 8000, 9000)
        boot_timeout = float(command[command.index("--boot-timeout") + 1])
        assert 120 < boot_timeout <= run.START_TIMEOUT < run.RELOAD_TIMEOUT


def test_a_script_has_no_name_of_what_it_imports():
    """A script's own directory comes first on its import path."""
    for path in (HERE / "asks").glob("*.py"):
        ast.parse(path.read_text())
        assert path.stem.startswith("ask_") or path.stem in {"common", "redis_server"}


def test_names_are_unique():
    names = [application.name for application in APPLICATIONS]
    assert len(set(names)) == len(names)


def test_applications_are_chosen_by_name_or_pattern():
    assert [each.name for each in choose("gradio, data*")] == ["datasette", "gradio"]
    assert choose("") == APPLICATIONS
    with pytest.raises(ValueError, match="no application is called 'rails'"):
        choose("gradio rails")
