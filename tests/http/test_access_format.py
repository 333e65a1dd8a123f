import json
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.errors import ConfigError
from asgireload.http.access_format import (
    PRESETS,
    check_format,
    compile_format,
    path_matcher,
    user_name,
)
from asgireload.log import Place
from asgireload.log.times import clf_time

from .entries import entry

PLACE = Place("worker", 2, 7)


@pytest.fixture
def _los_angeles(monkeypatch):
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    clf_time.cache_clear()  # a test before may have asked for the same second
    yield
    monkeypatch.undo()
    time.tzset()
    clf_time.cache_clear()


def line(text, **changes):
    return compile_format(text, PLACE)(entry(**changes))


# --- presets --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_los_angeles")
def test_the_presets_of_apache():
    common = '192.0.2.7 - - [10/Oct/2000:13:55:36 -0700] "GET /a%20b?q=1 HTTP/1.1" 200 1234'
    assert line("common") == common
    assert line("combined") == f'{common} "https://example.net/" "curl/8.5"'


def test_what_is_absent_is_a_dash():
    shown = line("combined", client=None, request_headers=[], status=0, body_bytes=0)
    assert re.fullmatch(r'- - - \[.*\] "GET /a%20b\?q=1 HTTP/1.1" - - "-" "-"', shown)


def test_the_fields_of_json_are_promised():
    assert json.loads(line("json", request_id="r1")) == {
        "time": "2000-10-10T20:55:36.250Z",
        "level": "INFO",
        "logger": "asgireload.access",
        "kind": "http",
        "client": "192.0.2.7",
        "client_port": 41582,
        "method": "GET",
        "path": "/a%20b",
        "query": "q=1",
        "http_version": "1.1",
        "scheme": "http",
        "status": 200,
        "bytes": 1234,
        "duration_ms": 1234.568,
        "complete": True,
        "request_id": "r1",
        "close_code": None,
        "referer": "https://example.net/",
        "user_agent": "curl/8.5",
        "role": "worker",
        "slot": 2,
        "generation": 7,
        "pid": os.getpid(),
    }


def test_json_names_every_field_also_where_there_is_nothing_to_say():
    fields = json.loads(line("json", client=None, request_headers=[], status=0, is_complete=False))
    assert fields.keys() == json.loads(line("json")).keys()
    assert fields["client"] is fields["client_port"] is fields["status"] is None
    assert fields["referer"] is fields["user_agent"] is None
    assert fields["complete"] is False


# --- atoms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("%(h)s", "192.0.2.7"),
        ("%(l)s", "-"),
        ("%(m)s %(U)s %(q)s %(Uq)s %(H)s %(S)s", "GET /a%20b q=1 /a%20b?q=1 HTTP/1.1 http"),
        ('"%(r)s" "%(R)s"', '"GET /a%20b?q=1 HTTP/1.1" "GET /a%20b?q=1 HTTP/1.1"'),
        ("%(s)s %(st)s", "200 OK"),
        ("%(b)s %(B)s", "1234 1234"),
        ("%(f)s %(a)s", "https://example.net/ curl/8.5"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1234 1234567 1.234568"),
        ("%(p)s %({pid}x)s", "<PID> PID"),
        ("%({Host}i)s %({x-none}i)s", "example.org -"),
        ("%({content-type}o)s %({X-None}o)s", "text/plain -"),
        ("%({slot}x)s %({generation}x)s %({role}x)s", "2 7 worker"),
        ("%({scheme}x)s %({kind}x)s %({complete}x)s", "http http yes"),
        ("%({request_id}x)s %({close_code}x)s %({client_port}x)s", "- - 41582"),
        ("%({time}x)s %({duration_ms}x)s", "2000-10-10T20:55:36.250Z 1234.568"),
        ("100%% %(s)d", "100% 200"),
        ("%(s)5s|%(m)-5s|", "  200|GET  |"),
        ("a\t%(s)s", "a\t200"),
    ],
)
def test_every_atom(text, shown):
    # The number of this process would give the case another name in each worker of a parallel run.
    assert line(text) == shown.replace("PID", str(os.getpid()))


def test_atoms_of_a_websocket():
    text = "%({kind}x)s %(s)s %({close_code}x)s %({complete}x)s"
    shown = line(text, kind="websocket", status=101, close_code=1012, is_complete=False)
    assert shown == "websocket 101 1012 no"


def test_variables_of_the_environment(monkeypatch):
    monkeypatch.setenv("RELEASE_NAME", "a\nb")
    assert line("%({RELEASE_NAME}e)s %({NO_SUCH}e)s") == r"a\nb -"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==", "aladdin"),
        (b"basic  OnBhc3M=", ""),
        (b"Basic YWxhZGRpbg==", ""),
        (b"Basic ***", ""),
        (b"Bearer YWxhZGRpbjpv", ""),
        (b"Basic /zo=", "\\xff"),
        (b"Basic \xff\xfe", ""),
    ],
)
def test_user_names_of_basic_credentials(header, name):
    assert user_name([(b"authorization", header)]) == name


def test_a_password_is_never_shown():
    shown = line("%(u)s", request_headers=[(b"authorization", b"Basic YWxhZGRpbjpvcGVu")])
    assert shown == "aladdin"


def test_the_documentation_names_every_atom_and_no_other():
    page = (Path(__file__).parents[2] / "docs" / "howto" / "logging.md").read_text()
    table = page[page.index("| Atom |") : page.index("An absent value is")]
    named = re.findall(r"%\(([^()]*)\)s", table)
    for atom in named:
        check_format(f"%({atom})s")
    with pytest.raises(ConfigError) as caught:
        check_format("%(zz)s")
    known = re.findall(
        r"[A-Za-z]+", str(caught.value).partition("there are ")[2].partition(",{")[0]
    )
    with pytest.raises(ConfigError) as caught:
        check_format("%({zz}x)s")
    ours = str(caught.value).partition("knows ")[2].split(", ")
    plain = known[: known.index("header")]
    assert {*plain, *(f"{{{name}}}x" for name in ours)} <= set(named)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("%(h)s %(z)s", "column 7: there is no atom %(z)s; there are l, t, r"),
        ("%(h)s %h", "column 7: % begins neither an atom such as %(h)s nor %%"),
        ("%(h)x", "column 1: % begins neither"),
        ("%(s)99999s", "column 1: % begins neither"),
        ("100%", "column 4: % begins neither"),
        ("%({a}z)s", "column 1: there is no atom %({a}z)s: after {…} comes i, o, e or x"),
        ("%(s)s %({slots}x)s", "column 7: there is no atom %({slots}x)s; {…}x knows client_port"),
        ("%(s)s\n", r"column 6: '\n' cannot be in a line"),
        ("%(s)s\x1b[1m", r"column 6: '\x1b' cannot be in a line"),
        ("combind", "'combind' is none of uvicorn, common, combined, json, and has no atom"),
        ("combind", "did you mean combined?"),
        ("", "'' is none of"),
    ],
)
def test_a_format_that_cannot_be_used_is_refused_with_its_column(text, reason):
    with pytest.raises(ConfigError) as caught:
        check_format(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", [*PRESETS, "%(h)s"])
def test_good_formats_pass(text):
    check_format(text)


# --- what clients send ----------------------------------------------------------------------------

headers = st.lists(
    st.tuples(st.sampled_from([b"user-agent", b"referer", b"authorization", b"x-any"]), st.binary())
)
hostile = st.builds(
    entry,
    client=st.none() | st.tuples(st.text(), st.integers(0, 65535)),
    method=st.text(),
    target=st.text(),
    status=st.integers(0, 999),
    request_headers=headers,
    response_headers=headers,
    request_id=st.none() | st.text(),
)

BARE = (
    "%(h)s %(u)s %(m)s %(U)s %(q)s %(Uq)s %(f)s %(a)s %({x-any}i)s %({x-any}o)s %({request_id}x)s"
)


@given(hostile)
def test_whatever_a_client_sends_stays_in_its_field_between_spaces(value):
    shown = compile_format(BARE, PLACE)(value)
    assert shown.isprintable()
    assert len(shown.split(" ")) == 11
    assert "" not in shown.split(" ")


@given(hostile)
def test_whatever_a_client_sends_stays_between_its_quotation_marks(value):
    shown = compile_format("combined", PLACE)(value)
    assert shown.isprintable()
    quoted = r'"(?:[^"\\]|\\.)*"'
    assert re.fullmatch(rf"\S+ - \S+ \[[^\]]+\] {quoted} \S+ \S+ {quoted} {quoted}", shown)


@given(hostile)
def test_whatever_a_client_sends_a_json_line_is_one_line_that_parses(value):
    try:
        "".join(
            [value.target, value.method, value.request_id or "", *(value.client or ("",))[:1]]
        ).encode()
    except UnicodeEncodeError:
        return  # such text cannot come from bytes that were decoded
    shown = compile_format("json", PLACE)(value)
    assert shown.isprintable()
    fields = json.loads(shown)
    path, _, query = value.target.partition("?")
    assert (fields["path"], fields["query"], fields["method"]) == (path, query, value.method)


@given(st.text())
def test_any_text_is_a_format_or_is_refused(text):
    try:
        render = compile_format(text, PLACE)
    except ConfigError:
        return
    assert isinstance(render(entry()), str)


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "matches"),
    [
        ("/healthz", True),
        ("/healthz?probe=1", True),
        ("/healthz/", False),
        ("/Healthz", False),
        ("/static/a/b.css", True),
        ("/static", False),
        ("/v1/ping", True),
        ("/v12/ping", False),
        ("/?/healthz", False),
    ],
)
def test_patterns_are_compared_with_the_path_only(target, matches):
    assert path_matcher(["/healthz", "/static/*", "/v?/ping"])(target) is matches
