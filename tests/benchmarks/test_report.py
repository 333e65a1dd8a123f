"""From results to tables, plots and verdicts."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import keeping, tables
from benchmarks.common.figures import Figure
from benchmarks.common.plots import Axis, bars, lines, number
from benchmarks.common.results import (
    Failure,
    Run,
    Sample,
    dump,
    failures_table,
    load,
    parse,
    summary,
)
from benchmarks.suite import report
from benchmarks.suite.goals import GOALS


def run_of(*rows, **more):
    samples = [Sample(case, server, n, metrics) for n, (case, server, metrics) in enumerate(rows)]
    return Run({"date": "today"}, {"uvicorn": "1"}, samples=samples, **more)


def verdict(run, what, against):
    goal = next(g for g in GOALS if g.what == what and g.against == against)
    return goal.measure(run)


HELLO = run_of(
    ("hello-7", "asgireload", {"cpu_us": 14.0, "rate": 70000.0}),
    ("hello-7", "asgireload", {"cpu_us": 16.0, "rate": 60000.0}),
    ("hello-7", "asgireload", {"cpu_us": 12.0, "rate": 80000.0}),
    ("hello-7", "uvicorn", {"cpu_us": 28.0, "rate": 35000.0}),
    ("hello-7", "floor", {"cpu_us": 7.0}),
)


def test_results_are_read_as_they_were_written(tmp_path):
    run = run_of(("hello-7", "uvicorn", {"cpu_us": 1.5}), left_out={"granian": "not installed"})
    run.failures.append(Failure("tls", "h2corn", 0, "it did not start"))
    path = tmp_path / "run.json"
    path.write_text(dump(run))
    assert load(path) == run


def test_a_summary_makes_the_same_page_in_few_lines():
    run = run_of(
        ("hello-7", "asgireload", {"cpu_us": 14.123456789123, "client_share": 0.5}),
        ("hello-7", "asgireload", {"cpu_us": 16.0, "client_share": 0.25}),
        ("startup", "uvicorn", {"startup_ms": 700.5}),
        left_out={"granian": "not installed"},
    )
    run.failures += [Failure("tls", "h2corn", n, f"no answer, {n}") for n in range(2)]
    kept = report.kept(run)
    assert report.body(parse(kept)) == report.body(run)
    assert "client_share" not in kept
    assert kept.count("\n") < 30


def test_a_summary_of_everything_keeps_every_metric():
    read = parse(summary(HELLO))
    assert read.cases() == HELLO.cases()
    assert read.servers() == HELLO.servers()
    for case, server, metric in (
        *(("hello-7", "asgireload", metric) for metric in ("cpu_us", "rate")),
        ("hello-7", "floor", "cpu_us"),
    ):
        assert read.figure(case, server, metric) == HELLO.figure(case, server, metric)


LONG = ["x" * 300, "y" * 300]


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ({}, 1),
        ({"a": {"b": [1, 2]}, "c": None}, 1),
        (LONG, 1),
        ({"a": LONG, "b": {"c": 1}}, 4),
        ([{"a": LONG}, {"b": 0.5}], 6),
    ],
)
def test_what_is_short_or_plain_is_kept_on_one_line(value, lines):
    text = keeping.compact(value)
    assert json.loads(text) == value
    assert len(text.splitlines()) == lines


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', json.dumps({"format": 1, "samples": [{}], "failures": []})],
)
def test_a_file_that_holds_no_results_is_refused_by_name(tmp_path, text):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: "):
        load(path)


@given(st.text())
def test_no_text_makes_reading_fail_otherwise(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_goals_are_ratios_of_medians():
    told = verdict(HELLO, "hello, 7 request headers, CPU", "uvicorn")
    assert (told.ratio, told.against) == (0.5, "uvicorn")
    assert verdict(HELLO, "hello, 7 request headers, CPU", "granian") is None


def test_the_best_peer_is_the_cheapest_server_and_not_the_floor():
    run = run_of(
        ("connection-1", "asgireload", {"cpu_us": 50.0}),
        ("connection-1", "asgireload per-slot", {"cpu_us": 5.0}),
        ("connection-1", "uvicorn", {"cpu_us": 80.0}),
        ("connection-1", "peregrine", {"cpu_us": 40.0}),
        ("connection-1", "floor", {"cpu_us": 20.0}),
    )
    told = verdict(run, "new connection per request, 1 worker, CPU", "the best peer")
    assert (told.ratio, told.against) == (1.25, "peregrine")


def test_a_servers_own_share_is_what_is_above_the_application_alone():
    run = run_of(
        ("fastapi", "app alone", {"cpu_us": 60.0}),
        ("fastapi", "asgireload", {"cpu_us": 72.0}),
        ("fastapi", "uvicorn", {"cpu_us": 90.0}),
    )
    assert verdict(run, "FastAPI hello, the server's own share", "uvicorn").ratio == 0.4


def test_a_table_shows_median_spread_and_the_best_server():
    text = report.matrix(HELLO, report.with_kinds(report.Kind.WRK), "cpu_us")
    assert text.splitlines() == [
        "|  | asgireload | uvicorn | floor |",
        "|---|---|---|---|",
        "| hello, 7 request headers | **14.0** ±14 % | 28.0 | 7.00 |",
    ]


def test_what_nobody_measured_has_no_table_and_a_missing_cell_a_dash():
    assert report.matrix(HELLO, report.with_kinds(report.Kind.IDLE), "connection_kib") is None
    run = run_of(("tls", "uvicorn", {"cpu_us": 1.0}), ("hello-7", "floor", {"cpu_us": 2.0}))
    assert "| hello over TLS | **1.00** | – |" in report.body(run)


def test_goals_are_told_as_reached_or_missed():
    text = report.goals_table(HELLO)
    assert "| ≤ 0.45 × uvicorn | 0.50 | **missed** |" in text
    assert "| ≤ 1.40 × floor | 2.00 | **missed** |" in text
    assert "| ≤ 0.60 × granian | – | – |" in text


def test_a_report_without_results_says_how_to_get_them():
    assert report.body(None).startswith("No figures are kept yet: `make bench` fills")


def test_only_what_stands_between_the_markers_is_replaced():
    page = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.filled(page, "new") == f"before\n{tables.BEGIN}\n\nnew\n\n{tables.END}\nafter\n"
    with pytest.raises(ValueError, match="lacks its markers"):
        tables.filled("before", "new")


def test_the_page_of_the_documentation_has_the_markers():
    assert "new" in tables.filled(report.PAGE.read_text(), "new")


def test_a_failure_is_told_once_in_words_that_fit_a_table():
    run = run_of(("hello-7", "floor", {"cpu_us": 1.0}))
    run.failures += [Failure("tls", "h2corn", n, "no option --x | `y`\n") for n in range(2)]
    assert failures_table(run).splitlines()[2:] == ["| h2corn | tls | no option x / 'y' |"]


def test_the_terminal_shows_ratios_to_each_other_server():
    text = report.console(HELLO)
    assert "14.0 ±14%" in text
    assert "0.50 of it" in text


def test_plots_are_well_formed_and_name_every_server():
    for name, (_, drawing) in report.drawings(HELLO).items():
        assert name.startswith("performance-")
        ET.fromstring(drawing)
    text = bars("CPU <µs>", "µs", {"a&b": Figure(2, 1, 3, 3), "c": Figure(0, 0, 0, 1)}, "c")
    assert [node.text for node in ET.fromstring(text).iter() if node.text == "a&b"]


def test_curves_need_two_points():
    run = run_of(
        ("hello-0", "uvicorn", {"cpu_us": 20.0}),
        ("hello-20", "uvicorn", {"cpu_us": 30.0}),
        ("hello-0", "floor", {"cpu_us": 7.0}),
    )
    assert report.growth_series(run, "headers") == {"uvicorn": [(0, 20.0), (20, 30.0)]}
    ET.fromstring(report.drawings(run)["performance-by-headers.svg"][1])


values = st.floats(0, 1e9, allow_subnormal=False).filter(lambda v: v == 0 or v > 1e-6)


@given(st.lists(values, min_size=1, max_size=8))
def test_every_value_and_mark_lies_on_its_axis(found):
    axis = Axis.around(found, 0.0, 100.0)
    for value in [*found, *axis.marks()]:
        assert -1e-6 <= axis.place(value) <= 100 + 1e-6


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.tuples(values, values), max_size=4)))
def test_any_curves_can_be_drawn(series):
    ET.fromstring(lines("t", "x", "µs", series))


def test_numbers_have_three_digits_that_matter():
    assert [number(v) for v in (0, 0.01234, 1.234, 12.34, 123.4, 12345.6)] == [
        "0", "0.0123", "1.23", "12.3", "123", "12,346",
    ]  # fmt: skip
