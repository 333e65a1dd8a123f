import io
import logging

import pytest

from asgireload.log import (
    TRACE,
    AccessFormatter,
    LineFormatter,
    configure_logging,
    log_fields,
    printable,
    should_color,
)

NAMES = ("asgireload", "asgireload.error", "asgireload.access")


class Captured:
    """What a test wrote so far to one of the standard streams."""

    def __init__(self, read, name):
        self._read = read
        self._name = name

    def getvalue(self):
        return self._read()[self._name]


@pytest.fixture
def streams(capsys):
    """Standard output and error as text, and the loggers as they were afterwards."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(x.level, list(x.handlers), x.propagate, x.disabled) for x in loggers]
    for logger in loggers:
        logger.handlers.clear()
    text = {"out": "", "err": ""}

    def read():
        new = capsys.readouterr()
        text["out"] += new.out
        text["err"] += new.err
        return text

    yield Captured(read, "out"), Captured(read, "err")
    for logger, (level, handlers, propagate, disabled) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate, logger.disabled = propagate, disabled


def access(path="/a%20b?q=1", status=200, client="127.0.0.1:41582"):
    logging.getLogger("asgireload.access").info(
        '%s - "%s %s HTTP/%s" %d', client, "GET", path, "1.1", status
    )


def test_messages_and_requests_look_as_tools_expect(streams):
    out, err = streams
    configure_logging("info", access_log=True, use_colors=False)
    logging.getLogger("asgireload.error").warning("Slot %d is late", 2)
    access()
    assert err.getvalue() == "WARNING:  Slot 2 is late\n"
    assert out.getvalue() == 'INFO:     127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK\n'


def test_a_tag_follows_the_level(streams):
    out, err = streams
    configure_logging("info", access_log=True, use_colors=False, tag="w2")
    logging.getLogger("asgireload").info("Ready")
    access(status=404)
    assert err.getvalue() == "INFO:     [w2] Ready\n"
    assert out.getvalue().startswith("INFO:     [w2] 127.0.0.1:41582 - ")
    assert out.getvalue().endswith(" 404 Not Found\n")


def test_colours_do_not_change_the_width(streams):
    out, err = streams
    configure_logging("info", access_log=True, use_colors=True)
    logging.getLogger("asgireload").info("x")
    access(status=500)
    assert err.getvalue() == "\x1b[32mINFO\x1b[0m:     x\n"
    assert "\x1b[91m500 Internal Server Error\x1b[0m" in out.getvalue()


def test_levels_and_the_access_switch(streams):
    out, err = streams
    configure_logging("trace", access_log=False, use_colors=False)
    logging.getLogger("asgireload.error").log(TRACE, "detail")
    access()
    assert (out.getvalue(), err.getvalue()) == ("", "TRACE:    detail\n")
    assert not logging.getLogger("asgireload.access").isEnabledFor(logging.INFO)
    configure_logging("error", access_log=True, use_colors=False)
    logging.getLogger("asgireload").warning("hidden")
    assert err.getvalue() == "TRACE:    detail\n"


def test_configuring_twice_does_not_log_twice(streams):
    out, _ = streams
    for tag in ("template", "w0"):
        configure_logging("info", access_log=True, use_colors=False, tag=tag)
    access()
    assert out.getvalue().count("GET") == 1
    assert "[w0]" in out.getvalue()


def test_an_applications_logging_does_not_silence_the_server(streams):
    """dictConfig() disables loggers that exist; the next configuration makes them speak again."""
    out, err = streams
    configure_logging("info", access_log=True, use_colors=False)
    for name in NAMES:
        logging.getLogger(name).disabled = True
    configure_logging("info", access_log=True, use_colors=False)
    logging.getLogger("asgireload.error").info("still here")
    access()
    assert "still here" in err.getvalue()
    assert "GET" in out.getvalue()


def test_handlers_of_the_application_are_kept(streams):
    out, _ = streams
    theirs = io.StringIO()
    logging.getLogger("asgireload.access").addHandler(logging.StreamHandler(theirs))
    configure_logging("info", access_log=True, use_colors=False)
    access()
    assert out.getvalue() == ""
    assert theirs.getvalue() == '127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200\n'


def test_a_client_cannot_forge_a_line_or_drive_a_terminal(streams):
    """Control characters from a client reach the log escaped."""
    out, _ = streams
    configure_logging("info", access_log=True, use_colors=False)
    access(path="/\r\nINFO:     forged \x1b[2J\u2028\udc80")
    assert out.getvalue().count("\n") == 1
    assert r"/\r\nINFO:     forged \x1b[2J\u2028\udc80" in out.getvalue()
    assert printable("/plain ü") == "/plain ü"


def test_an_unknown_status_has_no_phrase():
    record = logging.makeLogRecord({"args": ("c", "GET", "/", "1.1", 299), "levelname": "INFO"})
    assert AccessFormatter().format(record).endswith('" 299 ')


def test_another_message_on_the_access_logger_is_shown_as_it_is():
    record = logging.makeLogRecord({"msg": "hello %s", "args": ("you",), "levelname": "INFO"})
    assert AccessFormatter().format(record) == "INFO:     hello you"


def test_a_traceback_follows_its_line():
    error = ValueError("broken")
    record = logging.makeLogRecord(
        {"msg": "oops", "levelname": "ERROR", "exc_info": (ValueError, error, None)}
    )
    text = LineFormatter().format(record)
    assert text == "ERROR:    oops\nValueError: broken"


def test_fields_are_attributes_of_the_record(caplog):
    logger = logging.getLogger("asgireload_test_fields")
    logger.warning("exited", extra=log_fields("worker", slot=2, generation=7))
    (record,) = caplog.records
    assert (record.role, record.slot, record.generation) == ("worker", 2, 7)


class Terminal(io.StringIO):
    def isatty(self):
        return True


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
