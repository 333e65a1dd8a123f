"""The loggers of this process: set up at its start, looked after when the application was imported."""

import logging
import os
import sys
from collections.abc import Iterator
from typing import Protocol

from asgireload.config import OPTIONS, Config
from asgireload.errors import LogConfigError
from asgireload.log.formatters import AccessFormatter, JsonFormatter, LineFormatter
from asgireload.log.handlers import FileHandler, ServerHandler, report
from asgireload.log.levels import LEVELS, TRACE
from asgireload.log.place import Place, PlaceFilter, settle
from asgireload.log.user_config import UserConfig, apply_user_config, read_user_config

SERVER = "asgireload"
ERROR = "asgireload.error"
ACCESS = "asgireload.access"
ADMIN = "asgireload.admin"

STANDARD = "-"
"""How --access-log-file and --error-log-file spell the standard streams."""

_COUNTERPARTS = {SERVER: ("uvicorn.error", "uvicorn"), ACCESS: ("uvicorn.access",)}
"""Loggers of uvicorn that say what ours shall do when a file names no other, the nearest first."""

_DEFAULT_LEVEL = OPTIONS["log_level"].default


def begin_logging(config: Config) -> None:
    """Set up logging of the supervisor, or again with what --log-config says by now.

    Raise LogConfigError: nothing is changed when the file cannot be read; else see `configure_logging`.
    """
    user_config = read_user_config(config.log_config) if config.log_config is not None else None
    configure_logging(
        config,
        Place("supervisor"),
        user_config,
        import_from=os.path.realpath(config.app_dir or "."),
    )


def configure_logging(
    config: Config,
    place: Place,
    user_config: UserConfig | None = None,
    *,
    import_from: str | None = None,
) -> None:
    """Set up the loggers of this process; a second call replaces what the first did.

    Handlers that others have given our loggers are kept. With `user_config` that file decides, and the
    server gives handlers of its own only to loggers that the file leaves without any; classes that it
    names are also imported from `import_from`. Raise LogConfigError when the file or a log file cannot
    be used; the server's own lines go to the standard streams then.
    """
    logging.addLevelName(TRACE, "TRACE")
    settle(place)
    _reset(everything=config.log_config is not None)
    try:
        if user_config is not None:
            apply_user_config(user_config, import_from=import_from)
            _adopt(user_config.logger_names)
        for name, make in _HANDLERS:
            if user_config is None:
                is_decided = bool(logging.getLogger(name).handlers)
            else:
                is_decided = _is_decided(name, user_config.logger_names)
            if not is_decided:
                _give(name, make(config, is_standard=False))
    except LogConfigError:
        _reset(everything=True)
        for name, make in _HANDLERS:
            _give(name, make(config, is_standard=True))
        raise
    finally:
        _settle_loggers(config)


def keep_logging(config: Config, place: Place) -> None:
    """Make the loggers speak again in a process that goes on with those of another, as `place`.

    Called after a fork, and when the application was imported: logging that an application configures
    at import may switch ours off. A logger to which it has given handlers is left as it is.
    """
    settle(place)
    if config.log_config is None:
        for name, make in _HANDLERS:
            if not logging.getLogger(name).handlers:
                _give(name, _handler_at_any_rate(config, make))
    _settle_loggers(config)


def _is_decided(name: str, named: frozenset[str]) -> bool:
    """Return whether a file says where the lines of our logger go, be it nowhere."""
    if name in named or any(other in named for other in _COUNTERPARTS[name]):
        return True
    return _reaches_foreign_handler(logging.getLogger(name))


def _handler_at_any_rate(config: Config, make: "_MakeHandler") -> ServerHandler:
    """A worker that has to come back does not fail because a log file cannot be opened meanwhile."""
    try:
        return make(config, is_standard=False)
    except LogConfigError as error:
        report(str(error))
        return make(config, is_standard=True)


def _server_handler(config: Config, *, is_standard: bool) -> ServerHandler:
    file = STANDARD if is_standard else config.error_log_file
    handler = ServerHandler(sys.stderr) if file == STANDARD else _open("error_log_file", file)
    if config.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(LineFormatter(use_colors=_colors(config, file)))
    return handler


def _access_handler(config: Config, *, is_standard: bool) -> ServerHandler:
    file = STANDARD if is_standard else config.access_log_file
    handler = ServerHandler(sys.stdout) if file == STANDARD else _open("access_log_file", file)
    if config.log_format == "json" and config.access_log_format is None:
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(AccessFormatter(use_colors=_colors(config, file)))
    return handler


def _colors(config: Config, file: str) -> bool | None:
    # A file is read later, elsewhere: only who asks for colours gets them.
    return config.use_colors if file == STANDARD else bool(config.use_colors)


class _MakeHandler(Protocol):
    def __call__(self, config: Config, *, is_standard: bool) -> ServerHandler:
        """Return a handler, for a standard stream or what the options say. Raise LogConfigError."""
        ...


_HANDLERS: tuple[tuple[str, _MakeHandler], ...] = (
    (SERVER, _server_handler),
    (ACCESS, _access_handler),
)


def _open(option: str, path: str) -> FileHandler:
    try:
        return FileHandler(path)
    except OSError as error:
        raise LogConfigError(
            f"{OPTIONS[option].flag} {path}: it cannot be opened for appending: {error.strerror};"
            " the directory must exist and be writable"
        ) from error


def _adopt(named: frozenset[str]) -> None:
    """Let what the file says of uvicorn's loggers count for ours where it does not name these."""
    for ours, counterparts in _COUNTERPARTS.items():
        theirs = [name for name in counterparts if name in named]
        if ours in named or not theirs:
            continue
        loggers = [logging.getLogger(name) for name in theirs]
        source = next((logger for logger in loggers if logger.handlers), loggers[0])
        target = logging.getLogger(ours)
        target.handlers[:] = source.handlers
        target.filters.extend(source.filters)
        target.setLevel(source.level)
        target.propagate = source.propagate


def _settle_loggers(config: Config) -> None:
    """Levels, fields and the switch of dictConfig, which disables loggers that exist already."""
    for logger in _our_loggers():
        logger.disabled = False
        # Records of requests have the fields already; a filter would cost something for each.
        if logger.name != ACCESS and not any(
            isinstance(known, PlaceFilter) for known in logger.filters
        ):
            logger.addFilter(PlaceFilter())
    server, access = logging.getLogger(SERVER), logging.getLogger(ACCESS)
    # What a file says of levels holds, unless another than the default was asked for.
    file_decides = config.log_config is not None and config.log_level == _DEFAULT_LEVEL
    if not (file_decides and server.level):
        server.setLevel(LEVELS[config.log_level])
    # The access log has its own switch: `--log-level warning` still shows no requests, as elsewhere.
    if not config.access_log:
        access.setLevel(logging.CRITICAL + 1)
    elif not (file_decides and access.level):
        access.setLevel(LEVELS[config.log_level])


def _reset(*, everything: bool) -> None:
    """Take from our loggers what an earlier configuration gave them; all handlers or only our own."""
    for logger in _our_loggers():
        for handler in tuple(logger.handlers):
            if isinstance(handler, ServerHandler):
                handler.close()
                logger.removeHandler(handler)
        if everything:
            logger.handlers.clear()
            logger.filters.clear()
            logger.setLevel(logging.NOTSET)
            logger.propagate = True


def _give(name: str, handler: logging.Handler) -> None:
    logger = logging.getLogger(name)
    logger.handlers[:] = [handler]
    logger.propagate = False


def _reaches_foreign_handler(logger: logging.Logger) -> bool:
    """Return whether a record of this logger comes to a handler that is not the server's."""
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, ServerHandler) for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False


def _our_loggers() -> Iterator[logging.Logger]:
    for name in (SERVER, ERROR, ACCESS, ADMIN):
        yield logging.getLogger(name)
