import json
import logging
import sys

import pytest

from asgireload.errors import LogConfigError
from asgireload.log import (
    AccessFormatter,
    Place,
    configure_logging,
    keep_logging,
    read_user_config,
)
from asgireload.log.setup import begin_logging

from .conftest import access, configure

UVICORN_STYLE = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {
            "()": "uvicorn.logging.DefaultFormatter",
            "fmt": "%(levelprefix)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
        },
    },
    "handlers": {
        "default": {
            "formatter": "default",
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
        },
        "access": {
            "formatter": "access",
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
        },
    },
    "loggers": {
        "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "uvicorn.error": {"level": "INFO"},
        "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}
"""What uvicorn configures by itself, and people copy and change."""

TOML = """
version = 1
[formatters.plain]
format = "toml %(message)s"
[handlers.console]
class = "logging.StreamHandler"
formatter = "plain"
[loggers.asgireload]
handlers = ["console"]
"""
YAML = """
version: 1
formatters: {plain: {format: "yaml %(message)s"}}
handlers: {console: {class: logging.StreamHandler, formatter: plain}}
loggers: {asgireload: {handlers: [console]}}
"""
INI = """
[loggers]
keys=root,server
[handlers]
keys=console
[formatters]
keys=plain
[logger_root]
handlers=
[logger_server]
qualname=asgireload
handlers=console
propagate=0
[handler_console]
class=StreamHandler
formatter=plain
args=(sys.stderr,)
[formatter_plain]
format=ini %(message)s
"""


@pytest.fixture
def written(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def apply(path, place=None, **options):
    return configure(place, read_user_config(path), log_config=path, **options)


def say(text="hello"):
    logging.getLogger("asgireload.error").info("%s", text)


@pytest.mark.parametrize(
    ("name", "content"),
    [("log.toml", TOML), ("log.yaml", YAML), ("log.YML", YAML), ("log.ini", INI)],
)
def test_every_format_is_applied(streams, written, name, content):
    apply(written(name, content))
    say()
    kind = content.partition(" %(message)s")[0].split()[-1].strip("\"'").rpartition("=")[2]
    assert streams[1].getvalue() == f"{kind} hello\n"


def test_a_file_written_for_uvicorn_gives_the_same_lines(streams, written):
    """Its loggers count for ours, its formatters are ours; uvicorn need not be installed."""
    out, err = streams
    path = written("log.json", UVICORN_STYLE)
    apply(path, Place("worker", 2, 7, "w2"))
    say()
    access()
    assert err.getvalue() == "INFO:     [w2] hello\n"
    assert out.getvalue() == 'INFO:     [w2] 127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK\n'
    (handler,) = logging.getLogger("asgireload.access").handlers
    assert type(handler.formatter) is AccessFormatter


def test_loggers_of_ours_that_the_file_names_are_not_overruled_by_uvicorns(streams, written):
    content = json.loads(json.dumps(UVICORN_STYLE))
    content["loggers"]["asgireload.access"] = {"handlers": [], "propagate": False}
    apply(written("log.json", content))
    access()
    assert streams[0].getvalue() == ""


def test_a_file_with_a_root_handler_gets_the_lines_of_the_server(streams, written):
    content = {
        "version": 1,
        "formatters": {"plain": {"format": "%(name)s %(message)s"}},
        "handlers": {"all": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"handlers": ["all"], "level": "INFO"},
    }
    apply(written("log.json", content))
    say()
    access(path="/")
    assert streams[1].getvalue() == (
        'asgireload.error hello\nasgireload.access 127.0.0.1:41582 - "GET / HTTP/1.1" 200\n'
    )


def test_a_file_that_says_nothing_about_the_server_leaves_its_lines_alone(streams, written):
    apply(written("log.json", {"version": 1, "loggers": {"shop": {"level": "DEBUG"}}}))
    say()
    access(path="/")
    assert streams[1].getvalue() == "INFO:     hello\n"
    assert streams[0].getvalue() == 'INFO:     127.0.0.1:41582 - "GET / HTTP/1.1" 200 OK\n'


def test_levels_of_the_file_hold_unless_another_is_asked_for(streams, written):
    content = json.loads(json.dumps(UVICORN_STYLE))
    content["loggers"]["uvicorn"]["level"] = "WARNING"
    path = written("log.json", content)
    apply(path)
    assert logging.getLogger("asgireload.error").getEffectiveLevel() == logging.WARNING
    apply(path, log_level="debug")
    assert logging.getLogger("asgireload.error").getEffectiveLevel() == logging.DEBUG
    apply(path, access_log=False)
    access()
    assert streams[0].getvalue() == ""


def test_after_the_fork_the_handlers_of_the_file_serve_on(streams, written):
    config = apply(written("log.json", UVICORN_STYLE), Place("template", None, 1, "template"))
    logging.getLogger("asgireload").disabled = True
    keep_logging(config, Place("worker", 0, 1, "w0"))
    say()
    assert streams[1].getvalue() == "INFO:     [w0] hello\n"


def test_a_second_file_replaces_the_first(streams, written):
    apply(written("log.json", UVICORN_STYLE))
    apply(written("log.toml", TOML))
    say()
    assert streams[1].getvalue() == "toml hello\n"


def test_the_content_that_was_read_can_be_applied_again_when_the_file_is_gone(streams, tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(UVICORN_STYLE))
    content = read_user_config(str(path))
    path.unlink()
    for _ in range(2):
        configure(None, content, log_config=str(path))
    say()
    assert streams[1].getvalue() == "INFO:     hello\n"


def test_classes_beside_the_application_are_found(streams, written, tmp_path):
    written(
        "log_classes_of_a_shop.py",
        "import logging\nclass Shouting(logging.Formatter):\n"
        "    def format(self, record):\n        return record.getMessage().upper()\n",
    )
    path = written(
        "log.json",
        {
            "version": 1,
            "formatters": {"loud": {"()": "log_classes_of_a_shop.Shouting"}},
            "handlers": {"err": {"class": "logging.StreamHandler", "formatter": "loud"}},
            "loggers": {"asgireload": {"handlers": ["err"]}},
        },
    )
    before = list(sys.path)
    config = configure()
    configure_logging(
        config, Place("supervisor"), read_user_config(path), import_from=str(tmp_path)
    )
    say()
    assert streams[1].getvalue() == "HELLO\n"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("log.txt", "", "the name must end in one of .toml, .json"),
        ("log.toml", "version = 1\nx = = 2", "not valid TOML: Invalid value (at line 2, column 5)"),
        ("log.json", '{"version": 1,\n]', "not valid JSON: Expecting property name"),
        ("log.yaml", "version: 1\n a: [", "not valid YAML: "),
        ("log.ini", "[loggers\n", "not valid INI: File contains no section headers"),
        ("log.ini", "[loggers]\nkeys=root\n", "there is no section [handlers] with keys"),
        ("log.ini", "[logger_a]\nlevel=INFO\n", "section [logger_a] has no qualname"),
        ("log.json", "[]", "expected a table, not list"),
        ("log.yaml", "", "expected a table, not NoneType"),
        ("log.json", "{}", "version: expected 1 (logging.config, dictionary schema)"),
        ("log.json", {"version": 1, "loggers": []}, "loggers: expected a table"),
        (
            "log.json",
            {"version": 1, "handlers": {"file": {"class": "no.such.Class"}}},
            "Unable to configure handler 'file': Cannot resolve 'no.such.Class': No module named 'no'",
        ),
        (
            "log.json",
            {"version": 1, "loggers": {"asgireload": {"handlers": ["gone"]}}},
            "Unable to configure logger 'asgireload': Unable to add handler 'gone'",
        ),
        ("log.ini", INI.replace("args=(sys.stderr,)", "args=(nothing,)"), "name 'nothing'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_place(
    streams, written, name, content, reason
):
    path = written(name, content)
    with pytest.raises(LogConfigError) as caught:
        apply(path)
    text = str(caught.value)
    assert text.startswith(f"--log-config {path}: ")
    assert reason in text
    assert "\n" not in text


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(LogConfigError, match=r"--log-config /no/log\.toml: No such file"):
        read_user_config("/no/log.toml")


def test_bytes_that_are_no_text_and_files_without_end_are_refused(tmp_path):
    path = tmp_path / "log.toml"
    path.write_bytes(b"version = 1 # \xff")
    with pytest.raises(LogConfigError, match="not UTF-8: byte 14"):
        read_user_config(str(path))
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(LogConfigError, match="larger than"):
        read_user_config(str(path))


def test_yaml_without_its_package_says_what_to_install(written, monkeypatch):
    path = written("log.yaml", YAML)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(LogConfigError, match=r"pip install 'asgireload\[yaml\]'"):
        read_user_config(path)


def test_after_a_file_that_could_not_be_applied_the_server_still_speaks(streams, written):
    path = written("log.json", {"version": 1, "handlers": {"file": {"class": "no.such.Class"}}})
    with pytest.raises(LogConfigError):
        apply(path)
    say()
    access()
    assert streams[1].getvalue() == "INFO:     hello\n"
    assert "GET" in streams[0].getvalue()


def test_a_file_that_can_no_longer_be_read_changes_nothing(streams, written):
    path = written("log.json", UVICORN_STYLE)
    config = apply(path)
    written("log.json", "{")
    with pytest.raises(LogConfigError):
        begin_logging(config)
    say()
    assert streams[1].getvalue() == "INFO:     hello\n"
