"""The short way of an access line: straight to its handler, when nobody would look at a record.

A LogRecord costs as much as everything else about a line together. Whoever may look (a filter, another
handler, a record factory, a library that has replaced a method of Logger) is asked for anew with each
line, so that nothing depends on who comes first.
"""

import logging

from asgireload.log.handlers import ServerHandler

_CALL_HANDLERS = logging.Logger.callHandlers
_HANDLE = logging.Logger.handle


def short_way(logger: logging.Logger) -> ServerHandler | None:
    """Return the handler to which a line may be given as text, None when it takes a record."""
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
