"""The tables fit together: every case has servers, every name is one, and commands say what a setting asks."""

import re
from dataclasses import replace

import pytest

from benchmarks.common.asking import LoadError
from benchmarks.suite import cases, servers
from benchmarks.suite.cases import CASES, Kind, Setting, request_headers
from benchmarks.suite.goals import APP_ALONE, GOALS, compared
from benchmarks.suite.load import parse_wrk, wrk_script
from benchmarks.suite.plan import estimate, plan
from benchmarks.suite.servers import SERVERS, Place, takes_part

BY_NAME = {case.name: case for case in CASES}
SERVER = {server.name: server for server in SERVERS}


def test_names_are_unique_and_lists_name_what_there_is():
    assert len(BY_NAME) == len(CASES)
    assert len(SERVER) == len(SERVERS)
    assert set(cases.QUICK_CASES) <= set(BY_NAME)
    assert set(cases.QUICK_SERVERS) | cases.GROWTH_SERVERS | set(servers.NEEDS) <= set(SERVER)


def test_every_case_compares_ours_with_uvicorn():
    for case in CASES:
        assert takes_part(SERVER["asgireload"], case), case.name
        assert takes_part(SERVER["uvicorn"], case), case.name


def test_the_floor_takes_part_only_where_it_needs_no_application():
    taken = {case.name for case in CASES if takes_part(SERVER["floor"], case)}
    assert {"hello-7", "pipelined", "connection-1", "ws-64", "connections-10000"} <= taken
    assert not taken & {"json-10k", "upload-1m", "ws-4k", "ws-broadcast", "tls", "fastapi"}


def test_the_other_way_to_accept_is_measured_with_new_connections_only():
    taken = {case.name for case in CASES if takes_part(SERVER["asgireload per-slot"], case)}
    assert taken == {"connection-1", "connection-4"}


def test_servers_take_turns_within_a_setting_and_each_round_repeats_the_sequence():
    chosen = [BY_NAME["hello-7"], BY_NAME["ws-64"], BY_NAME["json-10k"], BY_NAME["idle-10000"]]
    blocks = plan(chosen, [SERVER["asgireload"], SERVER["uvicorn wsproto"], SERVER["floor"]], 2)
    told = [(b.round, b.server.name, [case.name for case in b.cases]) for b in blocks]
    first = [
        (0, "asgireload", ["hello-7", "json-10k"]),
        (0, "floor", ["hello-7"]),
        (0, "asgireload", ["ws-64"]),
        (0, "uvicorn wsproto", ["ws-64"]),
        (0, "floor", ["ws-64"]),
    ]
    assert told[:5] == first
    assert told[5:] == [
        (0, "asgireload", ["idle-10000"]),
        *((1, name, taken) for _, name, taken in first),
    ]


def test_the_default_run_ends_within_three_quarters_of_an_hour_and_the_quick_one_within_two_minutes():
    assert estimate(plan(CASES, SERVERS, 3), 1, latency_rounds=3) < 45 * 60
    quick = [BY_NAME[name] for name in cases.QUICK_CASES]
    chosen = [SERVER[name] for name in cases.QUICK_SERVERS]
    assert estimate(plan(quick, chosen, 3), 1, latency_rounds=0) < 120


def test_more_rounds_of_what_goals_are_about_measure_just_what_is_compared():
    chosen = [BY_NAME["hello-7"], BY_NAME["json-10k"], BY_NAME["await-sleep"]]
    among = [SERVER[name] for name in ("asgireload", "uvicorn", "gunicorn", "floor")]
    blocks = plan(chosen, among, 1, 3, compared())
    for number in (1, 2):
        told = [(b.server.name, [c.name for c in b.cases]) for b in blocks if b.round == number]
        assert told == [
            ("asgireload", ["hello-7", "await-sleep"]),
            ("uvicorn", ["hello-7", "await-sleep"]),
            ("floor", ["hello-7"]),
        ]
    assert estimate(blocks, 1, latency_rounds=1) < estimate(blocks, 1, latency_rounds=3)


@pytest.mark.parametrize("count", [0, 7, 20, 50])
def test_a_request_has_as_many_headers_as_its_case_says(count):
    assert len(request_headers(count)) == max(0, count - 1)  # Host is the client's own


def test_cases_and_servers_are_chosen_by_name_or_beginning():
    assert [case.name for case in cases.choose("ws-64,hello-7")] == ["hello-7", "ws-64"]
    assert {case.name for case in cases.choose("memory-fast")} == {
        f"memory-fast-{n}" for n in (1, 4, 16)
    }
    assert [server.name for server in servers.choose("uvicorn")] == ["uvicorn", "uvicorn wsproto"]


def test_an_unknown_name_is_told_with_what_there_is():
    with pytest.raises(ValueError, match=r"no case is called 'nope'; there are: hello-0"):
        cases.choose("hello-7,nope")
    with pytest.raises(ValueError, match=r"no server is called 'nope'; there are: asgireload"):
        servers.choose("nope")


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_a_command_names_the_port_and_what_the_setting_asks_for(server):
    place = Place(8123, "cert.pem", "key.pem")
    plain = " ".join(server.command(Setting(), place))
    assert re.search(r"\b8123\b", plain)
    assert "cert.pem" not in plain
    if cases.Ability.TLS in server.abilities:
        secured = " ".join(server.command(Setting(tls=True), place))
        assert "cert.pem" in secured
        assert "key.pem" in secured
    if cases.Ability.WORKERS in server.abilities:
        assert server.command(Setting(workers=3), place) != server.command(Setting(), place)


def test_goals_are_about_cases_that_exist():
    class Nothing:
        def figure(self, case, server, metric):
            assert case in BY_NAME
            asked.append((case, server))
            return

    asked = []

    for goal in GOALS:
        asked.clear()
        assert goal.measure(Nothing()) is None
        named = {(goal.case, name) for name in (*goal.compares, APP_ALONE)}
        assert set(asked) <= named, "more is needed than is measured more often"


def test_what_wrk_says_is_read():
    text = "Running 1s test\n  12345 requests in 1.10s, 1.2MB read\nRequests/sec: 11222.72\n"
    assert parse_wrk(text) == (12345, 1.1)
    assert parse_wrk("3 requests in 900.50ms, 1KB read") == (3, pytest.approx(0.9005))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unable to connect", "said nothing of requests"),
        ("5 requests in 1.00s\nNon-2xx or 3xx responses: 4", "4 answers were not 2xx"),
        ("5 requests in 1.00s\n  Socket errors: connect 0, read 7, write 0, timeout 0", "read 7"),
        ("0 requests in 1.00s, 0B read", "no answer"),
    ],
)
def test_a_run_of_wrk_with_errors_is_refused(text, reason):
    with pytest.raises(LoadError, match=reason):
        parse_wrk(text)


def test_wrk_needs_a_script_for_bodies_and_pipelines_only():
    assert wrk_script(BY_NAME["hello-7"]) is None
    assert 'string.rep("x", 1024)' in wrk_script(BY_NAME["post-1k"])
    assert "string.rep(one, 16)" in wrk_script(BY_NAME["pipelined"])
    assert all(case.depth == 1 or case.kind is Kind.WRK for case in CASES)
    assert wrk_script(replace(BY_NAME["hello-7"], depth=2)).count("request()") == 1
