"""Format log lines, as text in uvicorn's format or as JSON.

All three formatters may be named in a --log-config file, with the keywords of logging's formatters (`fmt`,
`datefmt`, `style`, `validate`). `LineFormatter` and `AccessFormatter` also take uvicorn's `use_colors`; without
`fmt` they write asgireload's own format.
"""

import copy
import http
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, TextIO

import msgspec

from asgireload.log.escaping import block, encodable, field, json_text
from asgireload.log.levels import TRACE
from asgireload.log.place import Place, here
from asgireload.log.times import iso_time

Style = Literal["%", "{", "$"]

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

_ORDINARY = frozenset(
    (*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "color_message")
)
"""Attributes that every record has, or that formatters add."""


def should_color(stream: TextIO, *, use_colors: bool | None, environ: Mapping[str, str]) -> bool:
    """Return whether to use colours, by `use_colors`, no-color.org, force-color.org, or whether `stream` is a
    terminal.

    The first of these that applies decides.
    """
    if use_colors is not None:
        return use_colors
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty()


class LineFormatter(logging.Formatter):
    """Formats `INFO:     [tag] message`, then the traceback if there is one.

    `fmt` may use, in addition to logging's attributes, `levelprefix` (`INFO:     [tag]`, or without a tag
    `INFO:    `), `role`, `slot` and `generation`. With `use_colors` None, `should_color` decides.
    """

    _usual_stream = "stderr"

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        validate: bool = True,  # noqa: FBT001, FBT002 - logging.config gives it by position
        *,
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt, datefmt, style, validate)
        stream: TextIO = getattr(sys, self._usual_stream)
        self._has_format = fmt is not None
        self._colored = should_color(stream, use_colors=use_colors, environ=os.environ)
        self._place: Place | None = None
        self._prefixes: dict[int, str] = {}

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        line = self._formatted(record) if self._has_format else self._usual(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line = f"{line}\n{_continued(record.exc_text)}"
        if record.stack_info:
            line = f"{line}\n{_continued(self.formatStack(record.stack_info))}"
        return line

    def prefix(self, level: int, name: str) -> str:
        """Return the padded level and the tag; colour codes do not count for the width."""
        place = here()
        if self._place is not place:
            self._place = place
            self._prefixes.clear()
        prefix = self._prefixes.get(level)
        if prefix is None:
            color = _LEVEL_COLORS.get(level, "") if self._colored else ""
            shown = f"{color}{name}{_RESET}" if color else name
            padding = " " * max(1, _PREFIX_WIDTH - len(name) - 1)
            tag = f"[{place.tag}] " if place.tag else ""
            prefix = self._prefixes[level] = f"{shown}:{padding}{tag}"
        return prefix

    def variables(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the variables that `fmt` may use in addition to the record's own attributes."""
        # Without the last space, because uvicorn's formats have a space after it.
        prefix = self.prefix(record.levelno, record.levelname)[:-1]
        return {"levelprefix": prefix, "message": block(record.message)}

    def _usual(self, record: logging.LogRecord) -> str:
        return self.prefix(record.levelno, record.levelname) + block(record.message)

    def _formatted(self, record: logging.LogRecord) -> str:
        # A copy, because other handlers format the same record.
        shown = copy.copy(record)
        if self.usesTime():
            shown.asctime = self.formatTime(record, self.datefmt)
        place = here()
        fields = {"role": place.role, "slot": place.slot, "generation": place.generation}
        shown.__dict__ = {**fields, **shown.__dict__, **self.variables(record)}
        return self.formatMessage(shown)


class AccessFormatter(LineFormatter):
    """Formats `INFO:     127.0.0.1:41582 - "GET /a%20b?q=1 HTTP/1.1" 200 OK`.

    A record's args are `(client, method, path, http_version, status)`, on which filters written for uvicorn rely;
    `fmt` may use uvicorn's `client_addr`, `request_line` and `status_code`. If --access-log-format is not
    uvicorn's, the line made by it is used. Written for speed, because it runs once for each request.
    """

    _usual_stream = "stdout"

    def format(self, record: logging.LogRecord) -> str:
        if self._has_format or not _is_request(record):
            return super().format(record)
        line: str | None = record.__dict__.get("access_line")
        if line is not None:
            return line
        assert isinstance(record.args, tuple)
        return self.prefix(record.levelno, record.levelname) + self.request_line(record.args)

    def request_line(self, args: Sequence[object]) -> str:
        """Return uvicorn's line without its prefix; `args` are those of a record."""
        client, request, answer = self._parts(args)
        return f'{client} - "{request}" {answer}'

    @property
    def is_usual(self) -> bool:
        """Whether the line depends only on the level and args of the record."""
        return not self._has_format

    def variables(self, record: logging.LogRecord) -> dict[str, object]:
        found = super().variables(record)
        if _is_request(record):
            names = ("client_addr", "request_line", "status_code")
            assert isinstance(record.args, tuple)
            found.update(zip(names, self._parts(record.args), strict=True))
        return found

    def _parts(self, args: Sequence[object]) -> tuple[str, str, str]:
        """Return client, request line, and status with its phrase, escaped and coloured."""
        client, method, path, http_version, status = args
        assert isinstance(status, int)
        request = field(f"{method} {path} HTTP/{http_version}", is_quoted=True)
        answer = _STATUSES.get(status) or f"{status} "
        if self._colored:
            request = f"\x1b[1m{request}{_RESET}"
            color = _STATUS_COLORS.get(status // 100)
            answer = f"{color}{answer}{_RESET}" if color else answer
        return field(str(client), is_quoted=False) if client else "", request, answer


class JsonFormatter(logging.Formatter):
    """Formats one JSON object for each record, tracebacks included.

    Fields: `time` (ISO 8601, UTC), `level`, `logger`, `message`, `role`, `slot`, `generation`, `pid`, `exception`
    and `stack` if there are any, then the fields that the caller gave as `extra`. A line that is JSON already
    (--access-log-format json) is not changed. Raises ValueError if it is given a format.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Style = "%",
        validate: bool = True,  # noqa: FBT001, FBT002 - logging.config gives it by position
    ) -> None:
        if fmt is not None or datefmt is not None:
            raise ValueError("JsonFormatter takes no format: its fields are fixed")
        super().__init__(None, None, style, validate)

    def format(self, record: logging.LogRecord) -> str:
        attributes = record.__dict__
        if attributes.get("access_format") == "json" and "access_line" in attributes:
            return str(attributes["access_line"])
        place = here()
        fields: dict[str, object] = {
            "time": iso_time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "role": attributes.get("role", place.role),
            "slot": attributes.get("slot", place.slot),
            "generation": attributes.get("generation", place.generation),
            "pid": record.process,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        for name, value in attributes.items():
            if name not in _ORDINARY and name not in fields:
                fields[name] = value
        try:
            return json_text(msgspec.json.encode(fields))
        except (TypeError, ValueError, OverflowError, RecursionError):
            # An application may give anything as `extra`; a line with values as text is better than none.
            plain = {encodable(name): _plain(value) for name, value in fields.items()}
            return json_text(msgspec.json.encode(plain))


def _is_request(record: logging.LogRecord) -> bool:
    return type(record.args) is tuple and len(record.args) == 5 and type(record.args[4]) is int


def _continued(text: str) -> str:
    """Return `text` escaped as lines after the first, so that none looks like the beginning of a log line."""
    return block(f"\n{text}")[1:]


def _plain(value: object) -> object:
    """Return a value that can be encoded as JSON, as text if necessary."""
    if value is None or isinstance(value, bool | float):
        return value
    # JSON readers differ about integers of more than 64 bits, and msgspec refuses them.
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return encodable(str(value))
