import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgireload.log import (
    AccessFormatter,
    JsonFormatter,
    LineFormatter,
    Place,
    log_fields,
    printable,
)
from asgireload.log.escaping import block, field
from asgireload.log.formatters import should_color
from asgireload.log.place import settle

from .conftest import Terminal

ARGS = ("127.0.0.1:41582", "GET", "/a%20b?q=1", "1.1", 200)
MESSAGE = '%s - "%s %s HTTP/%s" %d'


def record(message="Ready", *args, level="INFO", **more):
    number = logging.getLevelNamesMapping()[level]
    return logging.makeLogRecord(
        {"msg": message, "args": args, "levelname": level, "levelno": number, **more}
    )


def failure(error):
    return (type(error), error, None)


# --- text -----------------------------------------------------------------------------------------


def test_messages_and_requests_look_as_tools_expect():
    settle(Place("supervisor"))
    line = LineFormatter(use_colors=False).format(record("Slot %d is late", 2, level="WARNING"))
    assert line == "WARNING:  Slot 2 is late"
    line = AccessFormatter(use_colors=False).format(record(MESSAGE, *ARGS))
    assert line == 'INFO:     127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK'


def test_the_tag_of_the_process_follows_the_level():
    """The same formatter serves on when the process has become another by a fork."""
    formatter = AccessFormatter(use_colors=False)
    for tag in ("template", "w2"):
        settle(Place("worker", 2, 7, tag))
        assert formatter.format(record()) == f"INFO:     [{tag}] Ready"
        assert formatter.format(record(MESSAGE, *ARGS)).startswith(f"INFO:     [{tag}] 127.0.0.1")


def test_colours_do_not_change_the_width():
    settle(Place("supervisor"))
    assert LineFormatter(use_colors=True).format(record("x")) == "\x1b[32mINFO\x1b[0m:     x"
    line = AccessFormatter(use_colors=True).format(record(MESSAGE, *ARGS[:4], 500))
    assert "\x1b[91m500 Internal Server Error\x1b[0m" in line


@pytest.mark.parametrize(
    ("fmt", "line"),
    [
        ("%(levelprefix)s %(message)s", 'INFO:     c - "GET / HTTP/1.1" 200'),
        (
            '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
            'INFO:     c - "GET / HTTP/1.1" 200 OK',
        ),
        ("%(role)s/%(slot)s/%(generation)s", "worker/2/7"),
    ],
)
def test_formats_written_for_uvicorn_give_its_lines(fmt, line):
    settle(Place("worker", 2, 7))
    formatter = AccessFormatter(fmt, use_colors=False)
    assert formatter.format(record(MESSAGE, "c", "GET", "/", "1.1", 200)) == line


def test_a_format_may_use_time_and_another_style():
    settle(Place("supervisor"))
    formatter = LineFormatter("{asctime} {message}", "%Y", "{", use_colors=False)
    assert formatter.format(record(created=86400 * 365.0)) == "1971 Ready"


def test_an_unknown_status_has_no_phrase():
    line = AccessFormatter(use_colors=False).format(record(MESSAGE, *ARGS[:4], 299))
    assert line.endswith('" 299 ')


def test_another_message_on_the_access_logger_is_shown_as_it_is():
    settle(Place("supervisor"))
    line = AccessFormatter(use_colors=False).format(record("hello %s", "you"))
    assert line == "INFO:     hello you"


def test_a_traceback_follows_its_line():
    settle(Place("supervisor"))
    text = LineFormatter(use_colors=False).format(
        record("oops", level="ERROR", exc_info=failure(ValueError("broken")))
    )
    assert text == "ERROR:    oops\nValueError: broken"


def test_a_line_with_its_own_format_is_left_as_it_is():
    line = record("x", *ARGS, access_line="1.2.3.4 - -")
    assert AccessFormatter(use_colors=True).format(line) == "1.2.3.4 - -"


# --- what others have written ---------------------------------------------------------------------


def test_a_client_cannot_forge_a_line_or_drive_a_terminal():
    target = '/\r\nINFO:     forged" 200 \x1b[2J\u2028\udc80'
    args = ("1.2.3.4\n:1", "GET", target, "1.1", 200)
    for fmt in (None, '%(client_addr)s "%(request_line)s"', "%(message)s"):
        line = AccessFormatter(fmt, use_colors=False).format(record(MESSAGE, *args))
        assert "\x1b" not in line
        assert all(not part.startswith("INFO:     forged") for part in line.splitlines())
    line = AccessFormatter(use_colors=False).format(record(MESSAGE, *args))
    assert r'"GET /\r\nINFO:     forged\" 200 \x1b[2J\u2028\udc80 HTTP/1.1" 200 OK' in line
    assert printable("/plain ü") == "/plain ü"


def test_the_text_of_an_exception_cannot_begin_a_line_of_the_log():
    settle(Place("supervisor"))
    error = ValueError('no\nINFO:     1.2.3.4 - "GET / HTTP/1.1" 200 OK\r\x1b[2J\x85end')
    line = LineFormatter(use_colors=False).format(
        record("oops", level="ERROR", exc_info=failure(error))
    )
    assert line == (
        'ERROR:    oops\nValueError: no\n  INFO:     1.2.3.4 - "GET / HTTP/1.1" 200 OK'
        r"\r\x1b[2J\x85end"
    )
    stacked = LineFormatter(use_colors=False).format(record("x", stack_info="INFO: y"))
    assert stacked == "INFO:     x\n  INFO: y"


@given(st.text())
def test_a_field_is_one_word_or_stays_between_its_quotation_marks(text):
    bare = field(text, is_quoted=False)
    assert bare.isprintable()
    assert bare
    assert " " not in bare
    quoted = field(text, is_quoted=True)
    assert quoted.isprintable()
    unescaped = quoted.replace("\\\\", "").replace('\\"', "")
    assert '"' not in unescaped


@given(st.text())
def test_a_block_never_begins_a_line_and_has_no_other_breaks(text):
    lines = block(f"first\n{text}").split("\n")
    assert len(lines) == 2 + text.count("\n")
    for line in lines[1:]:
        assert not line.startswith(("INFO:", "ERROR:", "WARNING:", "CRITICAL:", "DEBUG:"))
        assert all(c.isprintable() or c == "\t" for c in line)


# --- JSON -----------------------------------------------------------------------------------------


def test_a_json_line_has_the_fields_that_are_promised():
    settle(Place("worker", 2, 7))
    line = JsonFormatter().format(
        record(
            "Slot %d",
            2,
            level="ERROR",
            name="asgireload.error",
            created=1.5,
            process=9,
            exc_info=failure(ValueError("a\nb")),
            order=17,
        )
    )
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "ERROR",
        "logger": "asgireload.error",
        "message": "Slot 2",
        "role": "worker",
        "slot": 2,
        "generation": 7,
        "pid": 9,
        "exception": "ValueError: a\nb",
        "order": 17,
    }


def test_json_says_which_child_a_line_of_the_supervisor_is_about():
    settle(Place("supervisor"))
    fields = json.loads(JsonFormatter().format(record(**log_fields("worker", 3, 8))))
    assert (fields["role"], fields["slot"], fields["generation"]) == ("worker", 3, 8)


def test_a_line_that_is_json_already_is_not_wrapped():
    line = record("x", access_line='{"a":1}', access_format="json")
    assert JsonFormatter().format(line) == '{"a":1}'


@pytest.mark.parametrize("extra", [object(), 1 << 70, {1j: 2}, "\udc80", float("nan"), [[]]])
def test_any_extra_of_an_application_gives_a_line(extra):
    fields = json.loads(JsonFormatter().format(record(thing=extra)))
    assert fields["message"] == "Ready"
    assert "thing" in fields


def test_json_takes_no_format():
    with pytest.raises(ValueError, match="takes no format"):
        JsonFormatter("%(message)s")


@given(st.text(), st.text())
def test_any_message_gives_one_printable_line_that_parses(message, extra):
    line = JsonFormatter().format(
        record("%s", message, exc_info=failure(ValueError(message)), extra=extra)
    )
    assert line.isprintable()
    fields = json.loads(line)
    if message.isprintable():
        assert fields["message"] == message


# --- colours --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "choice", "environ", "colored"),
    [
        (Terminal(), None, {}, True),
        (io.StringIO(), None, {}, False),
        (Terminal(), None, {"NO_COLOR": "1"}, False),
        (Terminal(), None, {"NO_COLOR": ""}, True),
        (io.StringIO(), None, {"FORCE_COLOR": "1"}, True),
        (io.StringIO(), None, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        (Terminal(), False, {"FORCE_COLOR": "1"}, False),
        (io.StringIO(), True, {"NO_COLOR": "1"}, True),
    ],
)
def test_colours_are_for_terminals_unless_somebody_says_otherwise(stream, choice, environ, colored):
    assert should_color(stream, use_colors=choice, environ=environ) is colored
