"""A short way for access lines: directly to the handler, when no code would see a LogRecord.

A LogRecord costs as much as all other work for a line. Code that would see the record (a filter, another handler, a
record factory, a library that has replaced a method of Logger) is looked for at each line, because it may be added
at any time.
"""

import logging

from asgireload.log.handlers import ServerHandler

_CALL_HANDLERS = logging.Logger.callHandlers
_HANDLE = logging.Logger.handle


def short_way(logger: logging.Logger) -> ServerHandler | None:
    """Return the handler to which a line may be given as text; None if a LogRecord is needed."""
    handlers = logger.handlers
    if len(handlers) != 1 or logger.propagate or logger.filters:
        return None
    handler = handlers[0]
    kind = type(logger)
    if (
        isinstance(handler, ServerHandler)
        and not handler.filters
        and handler.level <= logging.INFO
        and logging.getLogRecordFactory() is logging.LogRecord
        and kind.callHandlers is _CALL_HANDLERS
        and kind.handle is _HANDLE
    ):
        return handler
    return None
