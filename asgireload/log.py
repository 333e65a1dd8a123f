"""Logging of every process of the server: loggers, line formats, colours.

    asgireload          everything the server says, on standard error
    asgireload.error    the same handler; the name that tools know from other servers
    asgireload.access   one line for each request, on standard output

Lines look as uvicorn's do, because people and tools wait for them. What is said is up to the caller.
"""

import http
import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

TRACE = 5
LEVELS: Mapping[str, int] = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}

_PREFIX_WIDTH = 10
_RESET = "\x1b[0m"
_LEVEL_COLORS = {
    TRACE: "\x1b[34m",
    logging.DEBUG: "\x1b[36m",
    logging.INFO: "\x1b[32m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[91m",
}
_STATUS_COLORS = {1: "\x1b[97m", 2: "\x1b[32m", 3: "\x1b[33m", 4: "\x1b[31m", 5: "\x1b[91m"}
_STATUSES = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}


def configure_logging(
    level: str, *, access_log: bool, use_colors: bool | None, tag: str | None = None
) -> None:
    """Set up the three loggers of this process; a second call replaces what the first set up.

    `level` is a key of LEVELS. `use_colors` None decides by terminal, NO_COLOR and FORCE_COLOR. `tag`
    is written in brackets after the level, such as `[w2]`. A logger to which the application has given
    handlers of its own is left as it is.
    """
    logging.addLevelName(TRACE, "TRACE")
    root = logging.getLogger("asgireload")
    error = logging.getLogger("asgireload.error")
    access = logging.getLogger("asgireload.access")
    for logger in (root, error, access):
        # dictConfig() disables loggers that exist already unless told otherwise, and an application
        # that configures logging at import does so after us.
        logger.disabled = False
    if not _has_foreign_handler(root):
        colored = should_color(sys.stderr, use_colors=use_colors, environ=os.environ)
        _install(root, sys.stderr, LineFormatter(tag=tag, colored=colored))
    root.setLevel(LEVELS[level])
    if not _has_foreign_handler(access):
        colored = should_color(sys.stdout, use_colors=use_colors, environ=os.environ)
        _install(access, sys.stdout, AccessFormatter(tag=tag, colored=colored))
    # The access log has its own switch: `--log-level warning` still shows no requests, as elsewhere.
    access.setLevel(LEVELS[level] if access_log else logging.CRITICAL + 1)


def should_color(stream: TextIO, *, use_colors: bool | None, environ: Mapping[str, str]) -> bool:
    """Decide about colours: an explicit choice, then no-color.org, force-color.org, the terminal."""
    if use_colors is not None:
        return use_colors
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty()


def log_fields(
    role: str, slot: int | None = None, generation: int | None = None
) -> dict[str, object]:
    """Return the `extra` of a log call, so that handlers of the user see which child a line is about."""
    return {"role": role, "slot": slot, "generation": generation}


def printable(text: str) -> str:
    """Return text from a client with everything escaped that could forge a log line or a terminal.

    That is what str.isprintable() refuses: control characters, line separators, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


class LineFormatter(logging.Formatter):
    """`INFO:     [tag] message`, then the traceback if there is one."""

    def __init__(self, *, tag: str | None = None, colored: bool = False) -> None:
        super().__init__()
        self._tag = f"[{tag}] " if tag else ""
        self._colored = colored
        self._prefixes: dict[int, str] = {}

    def prefix(self, record: logging.LogRecord) -> str:
        """Return the padded level and the tag; the colour codes do not count for the width."""
        prefix = self._prefixes.get(record.levelno)
        if prefix is None:
            name = record.levelname
            padding = " " * max(1, _PREFIX_WIDTH - len(name) - 1)
            color = _LEVEL_COLORS.get(record.levelno, "") if self._colored else ""
            shown = f"{color}{name}{_RESET}" if color else name
            prefix = self._prefixes[record.levelno] = f"{shown}:{padding}{self._tag}"
        return prefix

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return self.prefix(record) + record.message


class AccessFormatter(LineFormatter):
    """`INFO:     127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK`

    A record's args are `(client, method, path, http_version, status)`, which filters written for
    uvicorn rely on. Written for speed: it runs once for each request.
    """

    def format(self, record: logging.LogRecord) -> str:
        args = record.args
        if type(args) is not tuple or len(args) != 5:
            return super().format(record)
        client, method, path, http_version, status = args
        request = f"{method} {path} HTTP/{http_version}"
        if not request.isprintable():
            request = printable(request)
        assert isinstance(status, int)
        answer = _STATUSES.get(status) or f"{status} "
        if self._colored:
            request = f"\x1b[1m{request}{_RESET}"
            color = _STATUS_COLORS.get(status // 100)
            answer = f"{color}{answer}{_RESET}" if color else answer
        return f'{self.prefix(record)}{client} - "{request}" {answer}'


class _OurHandler(logging.StreamHandler[TextIO]):
    """Marks a handler as put here by configure_logging."""


def _has_foreign_handler(logger: logging.Logger) -> bool:
    return any(not isinstance(handler, _OurHandler) for handler in logger.handlers)


def _install(logger: logging.Logger, stream: TextIO, formatter: logging.Formatter) -> None:
    handler = _OurHandler(stream)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.propagate = False
