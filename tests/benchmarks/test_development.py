"""How soon a saved file is served: what is made of answers, the tables, and the report."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import tables
from benchmarks.common.results import Run, Sample
from benchmarks.development import report
from benchmarks.development.judging import (
    LONGEST_PAUSE,
    PROBES,
    SHORTEST_PAUSE,
    Answer,
    Save,
    judge,
    pauses,
)
from benchmarks.development.projects import PROJECTS, VERSION, choose, tiny_same_size
from benchmarks.development.run import metrics_of
from benchmarks.development.servers import RELOADERS
from benchmarks.development.servers import choose as choose_servers


def answer(asked_at, ended_at, version=None, **more):
    return Answer(asked_at, ended_at, version, **more)


# --- judging --------------------------------------------------------------------------------------


def test_a_save_is_fresh_when_the_first_new_answer_has_ended():
    judged = judge(
        [Save(1, 10.0), Save(2, 20.0)],
        [
            answer(9.9, 10.001, 0),
            answer(10.005, 10.030, 1),
            answer(10.0, 10.020, 1),
            answer(20.1, 20.5, 2),
        ],
    )
    assert judged.fresh_ms == (pytest.approx(20), pytest.approx(500))
    assert judged.missed == 0


def test_a_save_that_was_overtaken_counts_from_the_later_version():
    judged = judge([Save(1, 10.0), Save(2, 10.1)], [answer(10.1, 10.2, 2)])
    assert judged.fresh_ms == (pytest.approx(200), pytest.approx(100))


def test_a_save_that_nobody_ever_saw_is_missed():
    judged = judge([Save(1, 10.0), Save(2, 20.0)], [answer(10.0, 10.1, 1), answer(21, 21.1, 1)])
    assert (len(judged.fresh_ms), judged.missed) == (1, 1)


def test_an_old_answer_is_stale_when_it_was_asked_after_a_new_one_was_seen():
    judged = judge(
        [Save(1, 10.0)],
        [
            answer(10.01, 10.30, 0),  # asked before, answered after: in flight
            answer(10.02, 10.10, 1),
            answer(10.11, 10.12, 0),
            answer(10.13, 10.14, 1),
        ],
    )
    assert judged.stale == 1


def test_failures_are_counted_by_kind_without_the_probes():
    judged = judge(
        [Save(1, 10.0)],
        [
            answer(10.0, 10.0, failure="refused"),
            answer(10.0, 10.0, failure="refused"),
            answer(10.0, 10.0, failure="empty"),
            answer(10.0, 10.0, failure="reset", probe=0.001, save=1),
        ],
    )
    assert judged.failures == {"refused": 2, "empty": 1}
    assert judged.asked == 3


def test_a_probe_is_new_old_or_a_failure():
    judged = judge(
        [Save(1, 10.0), Save(2, 20.0)],
        [
            answer(10.001, 10.2, 1, probe=0.001, save=1),
            answer(20.001, 20.2, 1, probe=0.001, save=2),
            answer(10.02, 10.02, failure="refused", probe=0.02, save=1),
        ],
    )
    assert judged.probes == {0.001: {"new": 1, "old": 1}, 0.02: {"refused": 1}, 0.1: {}}


times = st.floats(0, 100, allow_nan=False)
answers = st.lists(
    st.builds(
        lambda asked, spent, version, failure, probe: Answer(
            asked, asked + spent, None if failure else version, failure, probe
        ),
        times,
        times,
        st.integers(0, 5),
        st.sampled_from(["", "", "", "refused", "empty"]),
        st.sampled_from([None, None, *PROBES]),
    )
)


@given(st.lists(times, max_size=5), answers)
def test_every_save_and_every_question_is_counted_once(moments, given_answers):
    saves = [Save(number, at) for number, at in enumerate(sorted(moments), 1)]
    judged = judge(saves, given_answers)
    assert len(judged.fresh_ms) + judged.missed == len(saves)
    steady = [a for a in given_answers if a.probe is None]
    assert judged.asked == len(steady)
    assert judged.stale + sum(judged.failures.values()) <= len(steady)
    probed = sum(sum(outcomes.values()) for outcomes in judged.probes.values())
    assert probed == len(given_answers) - len(steady)


def test_pauses_are_irregular_and_the_same_for_everybody():
    chosen = pauses(20, 1)
    assert chosen == pauses(20, 1)
    assert len(set(chosen)) == 20
    assert all(SHORTEST_PAUSE <= pause <= LONGEST_PAUSE for pause in chosen)


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_a_project_is_python_and_says_its_version(project):
    for text in (*project.files.values(), project.text(17)):
        ast.parse(text)
    assert VERSION.search(project.text(17).encode())[1] == b"0017"
    assert project.edited not in project.files


def test_the_package_has_twenty_modules():
    package = next(project for project in PROJECTS if project.name == "package")
    modules = [name for name in (*package.files, package.edited) if name.startswith("shop/")]
    assert len(modules) == 20


def test_versions_differ_in_size_unless_that_is_the_point():
    for project in PROJECTS:
        assert len(project.text(3)) != len(project.text(4))
    assert len(tiny_same_size(3)) == len(tiny_same_size(4))


@pytest.mark.parametrize("chosen", [choose, choose_servers])
def test_an_unknown_name_is_refused_with_the_known_ones(chosen):
    with pytest.raises(ValueError, match="'nginx'; there are: "):
        chosen("nginx")


def test_names_choose_servers_in_the_order_of_the_table():
    assert [server.name for server in choose_servers("uvicorn,asgireload")] == [
        "asgireload",
        "uvicorn",
    ]


@pytest.mark.parametrize("server", RELOADERS, ids=lambda server: server.name)
def test_every_server_is_told_to_reload(server):
    arguments = server.arguments("main:app", 8123)
    assert "--reload" in arguments
    assert "main:app" in arguments
    assert any("8123" in argument for argument in arguments)


# --- report ---------------------------------------------------------------------------------------


def run_of(server="asgireload", fresh=(10.0, 30.0, 12.0), **counts):
    judged = judge(
        [Save(1, 1.0)], [answer(1.0, 1.1, 1), answer(1.001, 1.2, 1, probe=0.001, save=1)]
    )
    samples = [Sample("tiny", server, n, {"fresh_ms": ms}) for n, ms in enumerate(fresh)]
    samples.append(Sample("tiny", server, 0, {**metrics_of(judged), **counts}))
    return Run({"date": "today"}, {"uvicorn": "1"}, samples=samples)


def test_the_tables_tell_median_percentile_and_least():
    text = report.body(run_of())
    assert "| asgireload | **12** / 30 (10) | – | – |" in text
    assert "| asgireload | new 1 | – | – |" in text


def test_missed_saves_stand_beside_the_latency():
    assert "**12** / 30 (10), 2 missed" in report.body(run_of(missed=2.0))


def test_goals_are_held_against_figures():
    text = report.goals_table(run_of())
    assert "| save to first new answer, one file, median | ≤ 20 ms | 12 ms | reached |" in text
    assert "| the same, FastAPI and SQLAlchemy | ≤ 60 ms | – | – |" in text
    text = report.goals_table(run_of(fresh=(50.0,), failed_reset=1.0, stale=3.0))
    assert "| ≤ 20 ms | 50 ms | **missed** |" in text
    assert "| questions refused, reset or without an answer | ≤ 0 | 1 | **missed** |" in text


def test_without_figures_the_page_says_how_to_get_them():
    assert "make dev-bench" in report.body(None)


def test_the_page_has_room_for_the_tables():
    assert "### Goals" in tables.filled(report.PAGE.read_text(), report.body(run_of()))
