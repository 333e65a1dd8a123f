import io
import logging

import msgspec
import pytest

from asgireload.config import Config
from asgireload.log import Place, configure_logging
from asgireload.log.place import here, settle

NAMES = (
    "asgireload",
    "asgireload.error",
    "asgireload.access",
    "asgireload.admin",
    "uvicorn",
    "uvicorn.error",
    "uvicorn.access",
)


class Captured:
    """What a test wrote so far to one of the standard streams."""

    def __init__(self, read, name):
        self._read = read
        self._name = name

    def getvalue(self):
        return self._read()[self._name]


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """Give every logger of ours, and the root, back what it had."""
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, NAMES)]
    before = [
        (x.level, list(x.handlers), list(x.filters), x.propagate, x.disabled) for x in loggers
    ]
    place = here()
    for logger in loggers:
        logger.handlers.clear()
    yield
    for logger, (level, handlers, filters, propagate, disabled) in zip(
        loggers, before, strict=True
    ):
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.setLevel(level)
        logger.handlers[:], logger.filters[:] = handlers, filters
        logger.propagate, logger.disabled = propagate, disabled
    settle(place)


@pytest.fixture
def streams(capsys):
    """Standard output and error as text."""
    text = {"out": "", "err": ""}

    def read():
        new = capsys.readouterr()
        text["out"] += new.out
        text["err"] += new.err
        return text

    return Captured(read, "out"), Captured(read, "err")


def configure(place=None, user_config=None, **options):
    """Set up logging without colours, as the supervisor unless another place is given."""
    # pytest's own handlers are none that a program would find.
    root = logging.getLogger()
    root.handlers[:] = [x for x in root.handlers if not type(x).__module__.startswith("_pytest")]
    config = msgspec.structs.replace(Config(use_colors=False), **options)
    configure_logging(config, place or Place("supervisor"), user_config)
    return config


def access(path="/a%20b?q=1", status=200, client="127.0.0.1:41582"):
    logging.getLogger("asgireload.access").info(
        '%s - "%s %s HTTP/%s" %d', client, "GET", path, "1.1", status
    )


class Terminal(io.StringIO):
    def isatty(self):
        return True
