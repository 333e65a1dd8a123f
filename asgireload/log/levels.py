"""The levels of --log-level, the most severe first. `trace` is the one of uvicorn."""

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
