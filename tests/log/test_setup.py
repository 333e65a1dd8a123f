import io
import json
import logging

import pytest

from asgireload.errors import LogConfigError
from asgireload.log import TRACE, Place, keep_logging, log_fields

from .conftest import NAMES, access, configure


def test_messages_go_to_standard_error_and_requests_to_standard_output(streams):
    out, err = streams
    configure()
    logging.getLogger("asgireload.error").warning("Slot %d is late", 2)
    access()
    assert err.getvalue() == "WARNING:  Slot 2 is late\n"
    assert out.getvalue() == 'INFO:     127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK\n'


def test_levels_and_the_access_switch(streams):
    out, err = streams
    configure(log_level="trace", access_log=False)
    logging.getLogger("asgireload.error").log(TRACE, "detail")
    access()
    assert (out.getvalue(), err.getvalue()) == ("", "TRACE:    detail\n")
    assert not logging.getLogger("asgireload.access").isEnabledFor(logging.INFO)
    configure(log_level="error")
    logging.getLogger("asgireload").warning("hidden")
    assert err.getvalue() == "TRACE:    detail\n"


def test_configuring_twice_does_not_log_twice(streams):
    out, _ = streams
    for tag in ("template", "w0"):
        configure(Place("worker", 0, 1, tag))
    access()
    assert out.getvalue().count("GET") == 1
    assert "[w0]" in out.getvalue()


def test_a_forked_process_goes_on_with_the_handlers_under_its_own_name(streams, tmp_path):
    file = tmp_path / "access.log"
    config = configure(Place("template", None, 1, "template"), access_log_file=str(file))
    handlers = list(logging.getLogger("asgireload.access").handlers)
    keep_logging(config, Place("worker", 2, 1, "w2"))
    assert logging.getLogger("asgireload.access").handlers == handlers
    access()
    assert file.read_text().startswith("INFO:     [w2] 127")


def test_an_applications_logging_does_not_silence_the_server(streams):
    """dictConfig() disables loggers that exist and may take their handlers."""
    out, err = streams
    config = configure()
    for name in NAMES:
        logging.getLogger(name).disabled = True
    logging.getLogger("asgireload.access").handlers.clear()
    logging.getLogger("asgireload.access").propagate = True
    keep_logging(config, Place("worker", 0, 1))
    logging.getLogger("asgireload.error").info("still here")
    access()
    assert "still here" in err.getvalue()
    assert "GET" in out.getvalue()


def test_handlers_of_the_application_are_kept(streams):
    out, _ = streams
    config = configure()
    theirs = io.StringIO()
    logging.getLogger("asgireload.access").handlers[:] = [logging.StreamHandler(theirs)]
    keep_logging(config, Place("worker", 0, 1))
    access()
    assert out.getvalue() == ""
    assert theirs.getvalue() == '127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200\n'


def test_handlers_that_were_there_before_the_server_are_kept(streams):
    theirs = io.StringIO()
    logging.getLogger("asgireload").addHandler(logging.StreamHandler(theirs))
    configure()
    logging.getLogger("asgireload.error").info("hello")
    assert theirs.getvalue() == "hello\n"
    assert streams[1].getvalue() == ""


def test_records_tell_role_slot_and_generation_to_handlers_of_others(streams):
    configure(Place("worker", 2, 7))
    seen = []

    class Seeing(logging.Handler):
        def emit(self, record):
            seen.append((record.role, record.slot, record.generation))

    logging.getLogger("asgireload").addHandler(Seeing())
    logging.getLogger("asgireload.error").info("mine")
    logging.getLogger("asgireload.error").info("about", extra=log_fields("worker", 3, 8))
    assert seen == [("worker", 2, 7), ("worker", 3, 8)]


def test_everything_is_json_when_asked_for(streams):
    out, err = streams
    configure(Place("worker", 2, 7, "w2"), log_format="json")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("asgireload.error").exception("oops")
    (line,) = err.getvalue().splitlines()
    fields = json.loads(line)
    assert (fields["slot"], fields["message"]) == (2, "oops")
    assert fields["exception"].endswith("with base 10: 'broken'")
    access()
    assert json.loads(out.getvalue())["logger"] == "asgireload.access"


def test_log_files_are_appended_to_without_colours(streams, tmp_path):
    files = [tmp_path / "access.log", tmp_path / "error.log"]
    files[0].write_text("before\n")
    configure(access_log_file=str(files[0]), error_log_file=str(files[1]), use_colors=None)
    access(path="/")
    logging.getLogger("asgireload.error").warning("careful")
    assert files[0].read_text() == 'before\nINFO:     127.0.0.1:41582 - "GET / HTTP/1.1" 200 OK\n'
    assert files[1].read_text() == "WARNING:  careful\n"
    assert streams[0].getvalue() == streams[1].getvalue() == ""


def test_a_log_file_that_cannot_be_opened_is_named_and_the_server_can_still_speak(
    streams, tmp_path
):
    path = tmp_path / "missing" / "access.log"
    with pytest.raises(LogConfigError) as caught:
        configure(access_log_file=str(path))
    assert str(caught.value) == (
        f"--access-log-file {path}: it cannot be opened for appending: No such file or directory;"
        " the directory must exist and be writable"
    )
    logging.getLogger("asgireload.error").error("why")
    assert streams[1].getvalue() == "ERROR:    why\n"


def test_a_worker_comes_back_although_the_log_file_cannot_be_opened_any_more(streams, tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    config = configure(access_log_file=str(directory / "access.log"))
    access_logger = logging.getLogger("asgireload.access")
    access_logger.handlers[0].close()
    access_logger.handlers.clear()
    (directory / "access.log").unlink()
    directory.rmdir()
    keep_logging(config, Place("worker", 0, 1))
    access()
    assert "GET" in streams[0].getvalue()
    assert "it cannot be opened" in streams[1].getvalue()
