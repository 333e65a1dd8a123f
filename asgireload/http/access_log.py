"""The access log of one process: decides which requests get a line, and warns of slow ones.

The exchange and the WebSocket connection call it; `access_format` renders the lines. A log record always has
`args == (client, method, path, http_version, status)`, in every format, so that filters written for uvicorn work.
"""

import logging
from collections.abc import Callable

from asgireload.config import Config
from asgireload.http.access_format import (
    JSON,
    PRESETS,
    UVICORN,
    AccessEntry,
    Render,
    compile_format,
    path_matcher,
)
from asgireload.log import AccessFormatter, JsonFormatter, Place, printable
from asgireload.log.short_way import short_way

NEVER = 1 << 63
"""Nanoseconds (292 years), longer than any request."""

_access_logger = logging.getLogger("asgireload.access")
_error_logger = logging.getLogger("asgireload.error")
_MESSAGE = '%s - "%s %s HTTP/%s" %d'
_NO_ARGUMENTS = "%.0s" * 5
"""Format that takes five arguments and shows none: appended to a rendered line, whose record keeps its args."""
_NS = 1_000_000_000


def open_access_log(config: Config, place: Place) -> "AccessLog | None":
    """Return the access log of this process; None when no request is logged, not even a slow one.

    Raise ConfigError for an invalid format; `check_format` finds it earlier.
    """
    name = format_name(config)
    is_on = config.access_log and _access_logger.isEnabledFor(logging.INFO)
    if not is_on and config.log_slow_requests is None:
        return None
    return AccessLog(
        format_name=name,
        render=None if name == UVICORN or not is_on else compile_format(name, place),
        is_on=is_on,
        exclude=config.access_log_exclude,
        slow_seconds=config.log_slow_requests,
        place=place,
    )


def format_name(config: Config) -> str:
    """Return the configured format; by default `json` if `log_format` is json, else `uvicorn`."""
    if config.access_log_format is not None:
        return config.access_log_format
    return JSON if config.log_format == "json" else UVICORN


class AccessLog:
    """Logs requests. Made after the fork; it owns nothing and is not closed.

    `logs_at_start`: call `response_begun` when the head of a response is written, and `websocket_answered` when a
    handshake was answered. `entry_from_ns`: call `response_ended` for a request that took at least so many
    nanoseconds; no entry has to be made for others.
    """

    __slots__ = (
        "_fields",
        "_format_name",
        "_is_excluded",
        "_render",
        "_slow_ns",
        "entry_from_ns",
        "logs_at_start",
    )

    def __init__(
        self,
        *,
        format_name: str,
        render: Render | None,
        is_on: bool,
        exclude: tuple[str, ...],
        slow_seconds: float | None,
        place: Place,
    ) -> None:
        self._format_name = format_name
        self._render = render
        self._is_excluded: Callable[[str], bool] | None = path_matcher(exclude) if exclude else None
        self._slow_ns = NEVER if slow_seconds is None else int(slow_seconds * _NS)
        self._fields = {
            "role": place.role,
            "slot": place.slot,
            "generation": place.generation,
            "access_format": format_name if format_name in PRESETS else "custom",
        }
        self.logs_at_start = is_on and render is None
        self.entry_from_ns = 0 if render is not None else self._slow_ns

    def response_begun(
        self,
        client: str,
        method: str,
        target: str,
        http_version: str,
        status: int,
        request_id: str | None = None,
    ) -> None:
        """Write a line in the format of uvicorn. `client` is "ip:port" or "", `target` the path with its query."""
        if not _access_logger.isEnabledFor(logging.INFO):
            return
        if self._is_excluded is not None and self._is_excluded(target):
            return
        args = (printable(client), method, printable(target), http_version, status)
        handler = short_way(_access_logger)
        if handler is not None:
            formatter = handler.formatter
            if type(formatter) is AccessFormatter and formatter.is_usual:
                handler.write_line(
                    formatter.prefix(logging.INFO, "INFO") + formatter.request_line(args)
                )
                return
        self._write(_MESSAGE, args, {"request_id": request_id})

    def websocket_answered(self, client: str, target: str, outcome: str) -> None:
        """Write the line of uvicorn for a WebSocket handshake. `outcome` is `[accepted]` or a status."""
        if self._is_excluded is None or not self._is_excluded(target):
            # uvicorn, too, logs handshakes to its error logger.
            _error_logger.info(
                '%s - "WebSocket %s" %s', printable(client), printable(target), outcome
            )

    def response_ended(self, entry: AccessEntry) -> None:
        """Write the line, if the format is not that of uvicorn, and the warning if the request was slow."""
        if self._render is not None:
            self._log_entry(self._render, entry)
        if entry.kind == "http":
            lasted_ns = entry.duration_ns if entry.begun_ns is None else entry.begun_ns
            if lasted_ns >= self._slow_ns:
                self._warn_of_slow(entry, lasted_ns)

    def _log_entry(self, render: Render, entry: AccessEntry) -> None:
        if not _access_logger.isEnabledFor(logging.INFO):
            return
        if self._is_excluded is not None and self._is_excluded(entry.target):
            return
        line = render(entry)
        handler = short_way(_access_logger)
        if handler is not None and self._is_shown_as_it_is(handler.formatter):
            handler.write_line(line)
            return
        args = (
            _client_label(entry),
            entry.method,
            printable(entry.target),
            entry.http_version,
            entry.status,
        )
        fields = {
            "access_line": line,
            "duration_ms": entry.duration_ns / 1_000_000,
            "body_bytes": entry.body_bytes,
            "request_id": entry.request_id,
        }
        self._write(line.replace("%", "%%") + _NO_ARGUMENTS, args, fields)

    def _is_shown_as_it_is(self, formatter: logging.Formatter | None) -> bool:
        if type(formatter) is AccessFormatter:
            return formatter.is_usual
        return type(formatter) is JsonFormatter and self._format_name == JSON

    def _write(
        self, message: str, args: tuple[str, str, str, str, int], fields: dict[str, object]
    ) -> None:
        # Not `info()`, which searches the stack for the caller each time. `makeRecord` uses the record factory of
        # the application, whose formatters may need attributes that the factory adds.
        logger = _access_logger
        record = logger.makeRecord(
            logger.name, logging.INFO, __file__, 0, message, args, None, "AccessLog"
        )
        _, method, target, http_version, status = args
        record.__dict__.update(
            self._fields,
            method=method,
            target=target,
            http_version=http_version,
            status=status,
            **fields,
        )
        logger.handle(record)

    def _warn_of_slow(self, entry: AccessEntry, lasted_ns: int) -> None:
        fields = self._fields
        _error_logger.warning(
            "Slow request: %s %s took %.3f s%s and %s; client %s, slot %s, generation %s",
            entry.method,
            printable(entry.target),
            lasted_ns / _NS,
            "" if entry.begun_ns is None else " to begin its event stream",
            _ending(entry),
            _client_label(entry) or "-",
            _or_absent(fields["slot"]),
            _or_absent(fields["generation"]),
            extra={
                **{name: fields[name] for name in ("role", "slot", "generation")},
                "method": entry.method,
                "target": printable(entry.target),
                "status": entry.status,
                "duration_ms": lasted_ns / 1_000_000,
                "request_id": entry.request_id,
            },
        )


def _client_label(entry: AccessEntry) -> str:
    return printable(f"{entry.client[0]}:{entry.client[1]}") if entry.client is not None else ""


def _ending(entry: AccessEntry) -> str:
    if not entry.status:
        return "got no answer"
    if not entry.is_complete:
        return f"was answered with {entry.status}, not to the end"
    return f"was answered with {entry.status}"


def _or_absent(value: object) -> object:
    return "-" if value is None else value
