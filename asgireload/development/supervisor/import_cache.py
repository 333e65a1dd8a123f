"""What the last run has imported, kept on disk so that the first start can begin with a base.

One small file for each application and interpreter in the user's cache directory. It is a hint: without it,
or with an outdated one, the first load is slower and nothing else. Names in it are imported from where
libraries are installed only, so it cannot bring in code. After a day it counts no more: what an application
has stopped importing would be in it for ever.
"""

import hashlib
import logging
import os
import sys
import time

import msgspec

from asgireload.ipc.records import ImportRecord
from asgireload.supervisor.whole_files import replace_file

_logger = logging.getLogger("asgireload.error")
LONGEST_AGE = 24 * 3600.0
"""Seconds."""
FILE_LIMIT = 4 * 1024 * 1024
"""Bytes; an application with ten thousand modules takes a tenth."""


def cache_path(app: str, app_dir: str) -> str | None:
    """Return where the record of this application and interpreter lies; None where nobody has a home.

    $XDG_CACHE_HOME, or ~/.cache: the XDG base directory specification.
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(cache):
        return None
    key = f"{app}\n{app_dir}\n{sys.executable}\n{sys.version}"
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:24]
    return os.path.join(cache, "asgireload", f"imports-{name}.msgpack")


def read_record(path: str) -> ImportRecord | None:
    """Return what was kept; None when there is nothing, or nothing that can be read."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mtime < time.time() - LONGEST_AGE:
                return None
            return msgspec.msgpack.decode(file.read(FILE_LIMIT), type=ImportRecord)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        _logger.debug("What was imported last cannot be read from %s: %s", path, error)
        return None


def write_record(path: str, record: ImportRecord) -> None:
    """Keep the record; say at debug level when that cannot be done."""
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        replace_file(path, msgspec.msgpack.encode(record), mode=0o600)
    except OSError as error:
        _logger.debug("What was imported cannot be kept in %s: %s", path, error)
