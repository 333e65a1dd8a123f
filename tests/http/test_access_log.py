import io
import json
import logging

import msgspec
import pytest

from asgireload.config import Config
from asgireload.errors import ConfigError
from asgireload.http.access_log import NEVER, open_access_log
from asgireload.log import AccessFormatter, JsonFormatter, LineFormatter, Place
from asgireload.log.handlers import ServerHandler
from asgireload.log.place import here, settle
from asgireload.log.short_way import short_way

from .entries import entry

PLACE = Place("worker", 2, 7, "w2")


@pytest.fixture
def out():
    """Lines of the access logger and of the error logger, as the server's own handlers write them."""
    names = ("asgireload.access", "asgireload.error")
    streams = {}
    before = []
    place = here()
    settle(PLACE)
    for name in names:
        logger = logging.getLogger(name)
        before.append((logger.level, list(logger.handlers), list(logger.filters), logger.propagate))
        formatter = AccessFormatter if name == "asgireload.access" else LineFormatter
        streams[name] = io.StringIO()
        handler = logging.StreamHandler(streams[name])
        handler.setFormatter(formatter(use_colors=False))
        logger.handlers[:], logger.propagate, logger.disabled = [handler], False, False
        logger.setLevel(logging.INFO)
    yield lambda name="access": streams[f"asgireload.{name}"].getvalue()
    settle(place)
    for name, (level, handlers, filters, propagate) in zip(names, before, strict=True):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:], logger.propagate = handlers, filters, propagate


def opened(**options):
    log = open_access_log(msgspec.structs.replace(Config(), **options), PLACE)
    assert log is not None
    return log


def begin(log, target="/a%20b?q=1", client="127.0.0.1:41582"):
    log.response_begun(client, "GET", target, "1.1", 200)


def test_uvicorns_line_is_written_when_the_response_begins(out):
    log = opened()
    assert log.logs_at_start
    assert log.entry_from_ns == NEVER
    begin(log)
    assert out() == 'INFO:     [w2] 127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK\n'


@pytest.mark.parametrize("name", ["common", "json", "%(m)s %({slot}x)s"])
def test_other_formats_are_written_when_the_response_has_ended(out, name):
    log = opened(access_log_format=name)
    assert not log.logs_at_start
    assert log.entry_from_ns == 0
    log.response_ended(entry())
    (line,) = out().splitlines()
    assert not line.startswith("INFO")
    if name == "json":
        assert json.loads(line)["status"] == 200
    if name.startswith("%"):
        assert line == "GET 2"


def test_json_for_the_server_means_json_for_requests_unless_told_otherwise(out):
    opened(log_format="json").response_ended(entry())
    assert json.loads(out())["path"] == "/a%20b"
    assert opened(log_format="json", access_log_format="uvicorn").logs_at_start


@pytest.mark.parametrize("name", [None, "combined", "json", "100%% of %(U)s"])
def test_filters_and_handlers_written_for_uvicorn_go_on_working(out, name):
    """They look at args, at getMessage(), or at attributes."""
    seen = []
    logger = logging.getLogger("asgireload.access")
    logger.addFilter(lambda record: seen.append(record) or True)
    log = opened(access_log_format=name)
    if name is None:
        log.response_begun("192.0.2.7:41582", "GET", "/a%20b?q=1", "1.1", 200, "r1")
    else:
        log.response_ended(entry(request_id="r1"))
    (record,) = seen
    assert record.args == ("192.0.2.7:41582", "GET", "/a%20b?q=1", "1.1", 200)
    assert record.getMessage() in out()
    assert "/a%20b" in record.getMessage()
    assert (record.method, record.target, record.status) == ("GET", "/a%20b?q=1", 200)
    assert (record.role, record.slot, record.generation) == ("worker", 2, 7)
    assert record.request_id == "r1"


class Counting(io.StringIO):
    """A stream that knows how often it was written to."""

    writes = 0

    def write(self, text):
        self.writes += 1
        return super().write(text)


@pytest.mark.parametrize("colors", [True, False])
@pytest.mark.parametrize("name", [None, "combined", "json"])
def test_the_short_way_writes_the_same_line_in_one_piece(out, name, colors):
    """It is taken when nobody would look at a record, and left as soon as somebody does."""
    stream = Counting()
    logger = logging.getLogger("asgireload.access")
    formatter = JsonFormatter() if name == "json" else AccessFormatter(use_colors=colors)
    handler = ServerHandler(stream)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    log = opened(access_log_format=name)

    def write():
        return log.response_ended(entry()) if name else begin(log, '/"\x1b\n')

    write()
    assert short_way(logger) is handler
    assert stream.writes == 1
    seen = []
    logger.addFilter(lambda record: seen.append(record) or True)
    write()
    assert len(seen) == 1
    first, second = stream.getvalue().splitlines()
    assert first == second
    logger.addFilter(lambda record: False)
    write()
    assert stream.writes == 2


@pytest.mark.parametrize(
    "look",
    [
        lambda logger: logger.addHandler(logging.NullHandler()),
        lambda logger: logger.addFilter(lambda record: True),
        lambda logger: logger.handlers[0].addFilter(lambda record: True),
        lambda logger: setattr(logger, "propagate", True),
        lambda logger: logger.handlers[0].setLevel(logging.WARNING),
    ],
)
def test_whoever_looks_at_records_gets_them(out, look):
    logger = logging.getLogger("asgireload.access")
    logger.handlers[:] = [ServerHandler(io.StringIO())]
    assert short_way(logger) is not None
    look(logger)
    assert short_way(logger) is None


def test_libraries_that_replace_a_method_of_logger_get_records(out, monkeypatch):
    logger = logging.getLogger("asgireload.access")
    logger.handlers[:] = [ServerHandler(io.StringIO())]
    monkeypatch.setattr(logging.Logger, "callHandlers", lambda self, record: None)
    assert short_way(logger) is None


def test_a_record_factory_of_the_application_is_asked(out):
    factory = logging.getLogRecordFactory()

    def traced(*args, **kwargs):
        record = factory(*args, **kwargs)
        record.trace = "t1"
        return record

    logging.getLogger("asgireload.access").handlers[0].setFormatter(
        logging.Formatter("%(trace)s %(message)s")
    )
    logging.setLogRecordFactory(traced)
    try:
        begin(opened())
    finally:
        logging.setLogRecordFactory(factory)
    assert out().startswith("t1 127.0.0.1")


def test_a_json_handler_shows_uvicorns_record_with_its_fields(out):
    logging.getLogger("asgireload.access").handlers[0].setFormatter(JsonFormatter())
    begin(opened())
    fields = json.loads(out())
    assert fields["message"] == '127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200'
    assert (fields["method"], fields["target"], fields["status"]) == ("GET", "/a%20b?q=1", 200)


@pytest.mark.parametrize("name", [None, "json"])
def test_excluded_paths_get_no_line(out, name):
    log = opened(access_log_format=name, access_log_exclude=("/healthz", "/static/*"))
    for target in ("/healthz?x=1", "/static/a.css", "/shown"):
        begin(log, target)
        log.websocket_answered("", target, "[accepted]")
        if name:
            log.response_ended(entry(target=target))
    assert "/healthz" not in out() + out("error")
    assert "/static" not in out() + out("error")
    assert "/shown" in out()
    assert out("error") == 'INFO:     [w2]  - "WebSocket /shown" [accepted]\n'


def test_nothing_is_logged_and_nothing_costs_without_an_access_log(out):
    config = Config(access_log=False)
    assert open_access_log(config, PLACE) is None
    logging.getLogger("asgireload.access").setLevel(logging.WARNING)
    assert open_access_log(Config(), PLACE) is None


def test_switching_the_logger_off_later_is_respected(out):
    log, ended = opened(), opened(access_log_format="json")
    logging.getLogger("asgireload.access").setLevel(logging.WARNING)
    begin(log)
    ended.response_ended(entry())
    assert out() == ""


def test_slow_requests_are_warned_of_also_without_an_access_log(out):
    log = opened(access_log=False, log_slow_requests=0.5)
    assert not log.logs_at_start
    assert log.entry_from_ns == 500_000_000
    log.response_ended(entry())
    assert out() == ""
    assert out("error") == (
        "WARNING:  [w2] Slow request: GET /a%20b?q=1 took 1.235 s and was answered with 200;"
        " client 192.0.2.7:41582, slot 2, generation 7\n"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": 0}, "and got no answer; client 192"),
        ({"is_complete": False}, "was answered with 200, not to the end;"),
        ({"client": None}, "client -,"),
    ],
)
def test_how_a_slow_request_ended(out, changes, text):
    opened(log_slow_requests=1.0).response_ended(entry(**changes))
    assert text in out("error")


def test_an_event_stream_is_slow_if_it_begins_late_however_long_it_lasts(out):
    log = opened(access_log=False, log_slow_requests=1.0)
    log.response_ended(entry(begun_ns=0, duration_ns=10**12))
    assert out("error") == ""
    log.response_ended(entry(begun_ns=1_500_000_000, duration_ns=10**12))
    assert "took 1.500 s to begin its event stream and was answered with 200" in out("error")


def test_only_slow_requests_are_slow(out):
    log = opened(access_log_format="common", log_slow_requests=2.0)
    log.response_ended(entry())
    log.response_ended(entry(kind="websocket", duration_ns=10**12))
    assert out().count("\n") == 2
    assert out("error") == ""


def test_a_format_that_cannot_be_used_is_refused(out):
    with pytest.raises(ConfigError, match="column 1"):
        open_access_log(Config(access_log_format="%(zz)s"), PLACE)


def test_no_target_or_client_forges_a_line_for_any_formatter(out):
    logging.getLogger("asgireload.access").handlers[0].setFormatter(
        logging.Formatter("%(message)s")
    )
    log = opened(log_slow_requests=0.1)
    begin(log, "/\r\nforged\x1b[2J", "1.2.3.4\n")
    log.websocket_answered("1.2.3.4\n", "/\nforged", "403")
    log.response_ended(entry(target="/\nforged\x9b", client=("\n", 1)))
    opened(access_log_format="common").response_ended(entry(target="/\nforged\u2028"))
    assert len(out().splitlines()) == 2
    assert len(out("error").splitlines()) == 2
    assert (out() + out("error")).replace("\n", "").isprintable()
