"""Logging in every process of the server.

    asgireload          all messages of the server, on standard error
    asgireload.error    the same handler; the name that tools know from other servers
    asgireload.access   one line for each request, on standard output

By default lines have the format of uvicorn's, because people and tools expect that. Callers choose the messages;
`http.access_format` formats the lines about requests.

`LineFormatter`, `AccessFormatter` and `JsonFormatter` may be named in a --log-config file.
"""

from asgireload.log.escaping import printable
from asgireload.log.formatters import AccessFormatter, JsonFormatter, LineFormatter
from asgireload.log.levels import LEVELS, TRACE
from asgireload.log.place import Place, log_fields
from asgireload.log.setup import begin_logging, configure_logging, keep_logging
from asgireload.log.user_config import UserConfig, read_user_config

__all__ = [
    "LEVELS",
    "TRACE",
    "AccessFormatter",
    "JsonFormatter",
    "LineFormatter",
    "Place",
    "UserConfig",
    "begin_logging",
    "configure_logging",
    "keep_logging",
    "log_fields",
    "printable",
    "read_user_config",
]
