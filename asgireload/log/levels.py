"""The levels of --log-level, least severe last; `trace` is uvicorn's."""

import logging
from collections.abc import Mapping

TRACE = 5
LEVELS: Mapping[str, int] = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
