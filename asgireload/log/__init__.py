"""Logging of every process of the server.

    asgireload          everything the server says, on standard error
    asgireload.error    the same handler; the name that tools know from other servers
    asgireload.access   one line for each request, on standard output

Lines look as uvicorn's do unless something else is asked for, because people and tools wait for them.
What is said is up to the caller; what a line about a request holds is `http.access_format`.

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
