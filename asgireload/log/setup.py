"""Set up the loggers of this process at its start, and restore them after the application was imported."""

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
"""The value of --access-log-file and --error-log-file that means the standard stream."""

_COUNTERPARTS = {SERVER: ("uvicorn.error", "uvicorn"), ACCESS: ("uvicorn.access",)}
"""uvicorn's loggers whose configuration applies to the server's when a file does not name those, nearest first."""

_DEFAULT_LEVEL = OPTIONS["log_level"].default


def begin_logging(config: Config) -> None:
    """Set up logging of the supervisor, or set it up again with the present content of the --log-config file.

    Raise LogConfigError. If the file cannot be read, nothing is changed; otherwise see `configure_logging`.
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
    """Set up the loggers of this process; a second call replaces the setup of the first.

    Without `user_config`, handlers that other code has added to the server's loggers are kept. With it, the file
    decides, and the server adds its own handlers only to loggers that the file leaves without any; classes that the
    file names are also imported from the directory `import_from`. Raise LogConfigError when the file or a log file
    cannot be used; the server's lines then go to the standard streams.
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
    """Set the place of this process and restore the server's loggers.

    Call this after a fork, and after the import of the application, which may configure logging and switch off the
    server's loggers. A logger to which the application has given handlers keeps them.
    """
    settle(place)
    if config.log_config is None:
        for name, make in _HANDLERS:
            if not logging.getLogger(name).handlers:
                _give(name, _handler_at_any_rate(config, make))
    _settle_loggers(config)


def _is_decided(name: str, named: frozenset[str]) -> bool:
    """Return whether a --log-config file decides where the lines of logger `name` go, even if that is nowhere."""
    if name in named or any(other in named for other in _COUNTERPARTS[name]):
        return True
    return _reaches_foreign_handler(logging.getLogger(name))


def _handler_at_any_rate(config: Config, make: "_MakeHandler") -> ServerHandler:
    """Return a handler, for the standard stream if the log file cannot be opened: that must not make a new worker
    fail."""
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
    # A file is not read on this terminal, so colours are used only if requested.
    return config.use_colors if file == STANDARD else bool(config.use_colors)


class _MakeHandler(Protocol):
    def __call__(self, config: Config, *, is_standard: bool) -> ServerHandler:
        """Return a handler, for the standard stream if `is_standard`, else by the options. Raise LogConfigError."""
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
    """Apply the file's configuration of uvicorn's loggers to the server's loggers that it does not name."""
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
    """Set levels and filters of the server's loggers, and enable them: dictConfig may disable existing loggers."""
    for logger in _our_loggers():
        logger.disabled = False
        # Access records have the fields already, and a filter would cost time for each.
        if logger.name != ACCESS and not any(
            isinstance(known, PlaceFilter) for known in logger.filters
        ):
            logger.addFilter(PlaceFilter())
    server, access = logging.getLogger(SERVER), logging.getLogger(ACCESS)
    # A level in the file holds, unless --log-level is not the default.
    file_decides = config.log_config is not None and config.log_level == _DEFAULT_LEVEL
    if not (file_decides and server.level):
        server.setLevel(LEVELS[config.log_level])
    # --access-log is a switch of its own; with it, `--log-level warning` hides requests, as in other servers.
    if not config.access_log:
        access.setLevel(logging.CRITICAL + 1)
    elif not (file_decides and access.level):
        access.setLevel(LEVELS[config.log_level])


def _reset(*, everything: bool) -> None:
    """Remove an earlier setup from the server's loggers: all of it, or only the server's own handlers."""
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
    """Return whether records of `logger` reach a handler that is not the server's."""
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, ServerHandler) for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False


def _our_loggers() -> Iterator[logging.Logger]:
    for name in (SERVER, ERROR, ACCESS, ADMIN):
        yield logging.getLogger(name)
