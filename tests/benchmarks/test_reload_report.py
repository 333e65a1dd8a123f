"""From what a run of reloads left behind to tables, plots and verdicts; what is started and killed."""

import json
import xml.etree.ElementTree as ET

import pytest

from benchmarks.common import tables
from benchmarks.common.asking import LoadError
from benchmarks.reloads import kill, quiet, report, servers
from benchmarks.reloads.clients import BEHAVIOUR, Effort
from benchmarks.reloads.judge import Figures, Kill, Mark, Reload
from benchmarks.reloads.kill import KillTrial
from benchmarks.reloads.quiet import Minute, Part, QuietTrial, joined
from benchmarks.reloads.records import (
    CROSSED,
    KINDS,
    STEADY,
    WHILE_IDLE,
    Outcome,
    Record,
    kinds_for,
)
from benchmarks.reloads.results import KILL, MIXED, QUIET, Run, dump, load, parse, summary
from benchmarks.reloads.trial import TEMPLATE, Trial, write_code

GOOD = Figures(answered=100, closed=2, p50_ms=1.0, p99_ms=2.0, longest_ms=3.0, gap_ms=4.0)
BAD = Figures(
    answered=50, lost=3, cut=2, p50_ms=1.0, p99_ms=900.0, longest_ms=2000.0, gap_ms=2500.0,
    codes={"1006": 2}, reasons={"the connection ended": 3, "1006": 2},
)  # fmt: skip
OURS = Trial(
    "asgireload",
    [Reload(2, 1.0, 3.0, "committed")],
    0.0,
    10.0,
    {"new": GOOD, "moving": Figures(is_absent=True)},
    [Mark(0.0, 3.0, 0, 2)],
    Effort(0.1, 1.0, 2.0),
)
THEIRS = Trial(
    "uvicorn",
    [Reload(2, 1.0, None, "old workers still there")],
    0.0,
    9.0,
    {"new": BAD},
    [Mark(0.5, 2000.0, 5, 0)],
    None,
    "the server ended with 1 in reload 1",
    "Error: gone | away",
)


def run_of(part=MIXED, **more):
    return Run(part, {"date": "today"}, {"uvicorn": "1"}, **more)


MIX = run_of(trials=[OURS, THEIRS], left_out={"granian": "not installed"})
MINUTES = [Minute(Figures(answered=9, p99_ms=ms), [], Effort(0.1, 1.0, 1.0)) for ms in (10.0, 14.0)]
QUIET_RUN = run_of(QUIET, quiet=[QuietTrial("asgireload", 60.0, 4000.0, 2000.0, *MINUTES)])
KILL_RUN = run_of(
    KILL,
    kill=KillTrial(7, [Kill(1.0, 5, "old", "Reload 1: committed after 1 s")], explained=4),
)


@pytest.mark.parametrize("run", [MIX, QUIET_RUN, KILL_RUN], ids=lambda run: run.part)
def test_results_are_read_as_they_were_written(run, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(dump(run))
    assert load(path) == run


@pytest.mark.parametrize("run", [MIX, QUIET_RUN, KILL_RUN], ids=lambda run: run.part)
def test_a_summary_makes_the_same_section(run):
    read = parse(summary(run))
    assert report.TEXTS[run.part](read) == report.TEXTS[run.part](run)
    assert report.drawings(read) == report.drawings(run)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', json.dumps({"format": 2})])
def test_a_file_that_holds_no_results_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_the_summary_names_what_broke():
    ours, theirs = report.summary(MIX.trials).splitlines()[2:]
    assert ours.startswith("| asgireload | 100 | 0 | 0 | 0 | **2** |")
    assert theirs.startswith("| uvicorn | 50 | **3** | **2** | 0 | 0 |")
    assert ours.endswith("2.0 s |")
    assert theirs.endswith("0 of 1 |")


def test_kinds_are_told_with_what_broke_and_what_was_closed():
    table = report.by_kind(MIX.trials, report.losses)
    assert "| new connections | 0 / 2 | **5** / 0 |" in table
    assert "| WebSockets that move | not offered | – |" in table


STREAMS = [
    Trial(
        "asgireload",
        kinds={
            "with_ids": Figures(answered=1200, moved=9),
            "without_ids": Figures(answered=900, closed=4),
            "completion": Figures(answered=30),
        },
    ),
    Trial(
        "uvicorn",
        kinds={
            "with_ids": Figures(answered=700, cut=5, missed=2, twice=1),
            "completion": Figures(answered=20, cut=2, lost=1, incomplete=3),
        },
    ),
]


def test_event_streams_are_told_by_kind_with_all_servers_beside_each_other():
    assert report.streams(STREAMS).splitlines() == [
        "|  |  | answered | closed | moved | cut | lost | missed | twice | incomplete |",
        "|---|---|---|---|---|---|---|---|---|---|",
        "| events with ids | asgireload | 1,200 | 0 | 9 | 0 | 0 | 0 | 0 | – |",
        "| events with ids | uvicorn | 700 | 0 | 0 | **5** | 0 | **2** | **1** | – |",
        "| events without ids | asgireload | 900 | **4** | 0 | 0 | 0 | 0 | 0 | – |",
        "| streamed completions | asgireload | 30 | – | – | 0 | 0 | – | – | 0 |",
        "| streamed completions | uvicorn | 20 | – | – | **2** | **1** | – | – | **3** |",
    ]


def test_the_page_explains_the_table_of_event_streams_and_has_none_without_them():
    text = report.mixed_text(run_of(trials=STREAMS))
    assert f"### Event streams\n\n{report.STREAM_WORDS}\n\n{report.streams(STREAMS)}" in text
    assert "Event streams" not in report.mixed_text(MIX)


def test_what_failed_is_told_with_the_log():
    text = report.failures(MIX.trials)
    assert "| uvicorn | the server ended with 1 in reload 1 | Error: gone / away |" in text
    assert "reload 1: old workers still there" in text


@pytest.mark.parametrize("run", [MIX, QUIET_RUN, KILL_RUN], ids=lambda run: run.part)
def test_each_part_fills_its_own_section_of_the_page(run):
    page = report.PAGE.read_text()
    text = report.TEXTS[run.part](run)
    filled = tables.filled(page, text, *report.MARKERS[run.part])
    assert text in filled
    assert tables.filled(filled, text, *report.MARKERS[run.part]) == filled
    for part, (start, stop) in report.MARKERS.items():
        if part != run.part:
            assert (
                filled.partition(start)[2].partition(stop)[0]
                == (page.partition(start)[2].partition(stop)[0])
            )


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="lacks its markers"):
        tables.filled("# A page", "text", *report.MARKERS[MIXED])


@pytest.mark.parametrize("run", [MIX, QUIET_RUN, KILL_RUN], ids=lambda run: run.part)
def test_the_terminal_gets_every_table_without_marks(run):
    text = report.console(run)
    assert "date: today" in text
    assert "|--" not in text


def test_plots_are_well_formed_and_name_every_server():
    plots = report.drawings(MIX)
    assert len(plots) == 3
    for _, drawing in plots.values():
        words = "".join(ET.fromstring(drawing).itertext())
        assert "asgireload" in words
        assert "uvicorn" in words


def test_the_goal_of_the_quiet_minute_is_judged():
    assert QUIET_RUN.quiet[0].ratio == pytest.approx(1.4)
    assert "is reached" in report.quiet_text(QUIET_RUN)


def test_verdicts_are_counted_by_who_was_killed():
    assert "| old | 1 | 1 committed |" in report.kill_text(KILL_RUN)


def test_every_kind_has_a_behaviour():
    assert {kind.name for kind in (*KINDS, STEADY)} == set(BEHAVIOUR)


def test_only_ours_is_asked_for_handover():
    assert "moving" in {kind.name for kind in kinds_for("asgireload")}
    assert "moving" not in {kind.name for kind in kinds_for("uvicorn")}


def test_servers_are_chosen_by_name():
    assert [server.name for server in servers.choose("uvicorn,asgireload")] == [
        "asgireload",
        "uvicorn",
    ]
    assert len(servers.choose("")) == 6
    with pytest.raises(ValueError, match="no server is called 'puma'"):
        servers.choose("puma")


@pytest.mark.parametrize("server", servers.SERVERS, ids=lambda server: server.name)
def test_every_server_gets_the_same_workers_and_drain(server):
    words = server.command(8123, "/tmp/place")
    assert words[words.index("--workers") + 1] == str(servers.WORKERS)
    assert str(servers.DRAIN_SECONDS) in words
    assert any("8123" in word for word in words)


def test_the_code_is_written_with_its_version(tmp_path):
    write_code(str(tmp_path), 7)
    text = (tmp_path / TEMPLATE.name).read_text()
    assert "VERSION = 7\n" in text
    assert [path.name for path in tmp_path.iterdir()] == [TEMPLATE.name]
    compile(text, TEMPLATE.name, "exec")


# --- who is killed ----------------------------------------------------------------------------------


def worker(pid, generation, state="ready", slot=0):
    return {"pid": pid, "generation": generation, "state": state, "slot": slot}


def test_the_plan_of_kills_is_the_same_for_the_same_seed():
    plans = kill.plan(20, 3, 2.0)
    assert plans == kill.plan(20, 3, 2.0)
    assert plans != kill.plan(20, 4, 2.0)
    assert {step.victim for step in plans} == {"successor", "old"}
    assert all(step.delay <= (kill.AT_HANDOVER if step.at_handover else 2.0) for step in plans)


@pytest.mark.parametrize(
    ("workers", "victim", "chosen"),
    [
        ([], "old", None),
        ([worker(1, 4), worker(2, 4)], "old", (1, "serving")),
        ([worker(1, 4), worker(2, 4, "draining"), worker(3, 5)], "old", (2, "old")),
        (
            [worker(1, 4), worker(3, 5), worker(4, 5, "booting", slot=1)],
            "successor",
            (4, "successor"),
        ),
        ([worker(0, 5), worker(1, 4)], "successor", (1, "serving")),
    ],
)
def test_the_victim_is_of_the_kind_that_was_drawn(workers, victim, chosen):
    assert kill.choose_victim({"workers": workers}, victim) == chosen


@pytest.mark.parametrize(
    ("ready", "old", "current", "whole"),
    [(2, 0, None, True), (1, 0, None, False), (2, 1, None, False), (2, 0, {"id": 1}, False)],
)
def test_a_server_is_whole_when_every_slot_serves_and_nothing_is_under_way(
    ready, old, current, whole
):
    status = {
        "workers_ready": ready,
        "workers_wanted": 2,
        "workers_old": old,
        "current_reload": current,
    }
    assert kill.is_whole(status) is whole


def test_what_broke_with_a_kill_is_told_from_what_broke_otherwise():
    trial = KillTrial(0, kills=[Kill(5.0, 71, "old")])
    kill.sort_out(
        trial,
        [
            Record("busy", Outcome.ANSWERED, 1.0, 1.0, 1.1),
            Record("busy", Outcome.LOST, 4.9, 4.9, 5.01),
            Record("busy", Outcome.LOST, 7.0, 7.0, 7.5, detail="the connection ended"),
            Record("websocket", Outcome.LOST, 7.0, 7.0, 7.5, detail=CROSSED),
            Record("idle", Outcome.CLOSED, 5.0, 5.0, 5.0, detail=WHILE_IDLE),
            Record("idle", Outcome.CLOSED, 9.0, 9.0, 9.0, detail=WHILE_IDLE),
            Record("events", Outcome.CLOSED, 9.0, 9.0, 9.0, detail="ended properly"),
        ],
    )
    assert (trial.explained, trial.unexplained_count, trial.crossed, trial.closed) == (1, 1, 1, 3)
    assert trial.closed_otherwise == 1
    assert trial.unexplained == [
        "busy: lost after 0.500 s, +2.500 s of killing old: the connection ended"
    ]


def test_the_rate_of_wrk_is_read():
    assert quiet.parse_rate("Requests/sec:   4176.33\nTransfer/sec: 1MB") == 4176.33
    with pytest.raises(LoadError, match="told no rate"):
        quiet.parse_rate("unable to connect")


def part_of(*ends, reloads=()):
    found = [
        Record("steady", Outcome.ANSWERED, end - 0.25, end - 0.25, end, version=1) for end in ends
    ]
    return Part(found, reloads, Effort(0.2, 1.0, 2.0), 0.125)


def test_parts_of_a_minute_follow_each_other_at_once():
    """What the other minute took between them is no gap, and moves nothing else."""
    reload = Reload(2, asked=101.5, complete=102.0)
    parts = [part_of(10.5, 13.0), part_of(100.25, 103.25, reloads=[reload])]
    minute = joined(parts)
    assert minute.figures.answered == 4
    assert minute.figures.gap_ms == pytest.approx(3000.0)
    assert minute.figures.longest_ms == pytest.approx(250.0)
    assert minute.figures.stale == 1
    assert [(r.asked, r.complete) for r in minute.reloads] == [(14.5, 15.0)]
    assert (minute.began, minute.others_share) == (10.25, 0.125)
    assert minute.effort == Effort(0.2, 1.0, 2.0)
    assert minute.line[-1].at == pytest.approx(6.0)
