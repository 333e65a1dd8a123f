"""The import record of the last run, kept on disk so that the next start can build the library base at once.

The record is one small file for each application and interpreter in the user's cache directory. The record is a
hint: without it, or with an outdated one, only the first load is slower. Modules in the record are imported only
from directories of installed libraries, so the file cannot bring in code. A record older than a day is ignored,
since modules that the application no longer imports would stay in it for ever.
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
"""Age in seconds after which a record is ignored."""
FILE_LIMIT = 4 * 1024 * 1024
"""Largest record that is read, in bytes; an application with ten thousand modules takes a tenth of it."""


def cache_path(app: str, app_dir: str) -> str | None:
    """Return the path of the record of this application and interpreter; None when the user has no home directory.

    The directory is $XDG_CACHE_HOME or ~/.cache (XDG base directory specification).
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
    """Return the record at `path`; None when there is none, or when it is unreadable, too old or not the user's."""
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
    """Write the record to `path`; log at debug level when that fails."""
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        replace_file(path, msgspec.msgpack.encode(record), mode=0o600)
    except OSError as error:
        _logger.debug("What was imported cannot be kept in %s: %s", path, error)
