"""Write log lines to a standard stream, or to a file that may be moved away.

A line that cannot be written (disk full, closed pipe) is lost. The first loss is reported on standard error, and
the request goes on.
"""

import logging
import os
import sys
from typing import TextIO

from asgireload.log.escaping import printable


class ServerHandler(logging.StreamHandler[TextIO]):
    """Writes to a standard stream, `sys.stdout` or `sys.stderr`, which is never closed.

    The type marks a handler as installed by the server.
    """

    _is_failing = False

    @property
    def target(self) -> str:
        """The destination of the lines, for messages."""
        return str(getattr(self.stream, "name", "the stream"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._put(self.format(record))
        except Exception:  # noqa: BLE001 - a log line must not make a request fail
            self._note_loss()
        else:
            self._is_failing = False

    def write_line(self, line: str) -> None:
        """Write a line that is formatted already."""
        self.acquire()
        try:
            self._put(line)
        except Exception:  # noqa: BLE001 - as above
            self._note_loss()
        else:
            self._is_failing = False
        finally:
            self.release()

    def _put(self, line: str) -> None:
        self.stream.write(line + self.terminator)
        self.stream.flush()

    def _note_loss(self) -> None:
        """Report once that lines are lost; logging would report it for each line."""
        if not self._is_failing:
            self._is_failing = True
            report(f"{self.target}: log lines are lost: {sys.exception()!r}")


class FileHandler(ServerHandler):
    """Appends to a file, and opens a new one when the file was moved away or deleted.

    So logrotate needs to send no signal. Every line is a single write(2) with O_APPEND, so lines of several
    processes do not mix, and a forked process may use the handler. While a new file cannot be opened, lines go to
    the old one. `close()` closes the descriptor.

    Raises OSError when the file cannot be opened at first.
    """

    def __init__(self, path: str) -> None:
        super().__init__(sys.stderr)
        self._path = os.path.abspath(path)
        self._descriptor: int | None = None
        self._identity = (-1, -1)
        self._is_left_behind = False
        """The name now means another file, which could not be opened."""
        self._open()

    @property
    def target(self) -> str:
        return self._path

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    def _put(self, line: str) -> None:
        data = (line + self.terminator).encode("utf-8", "backslashreplace")
        self._follow()
        assert self._descriptor is not None
        while data:
            # A write to a file is short only when the disk is full or a limit is reached; then the next write
            # raises the reason.
            data = data[os.write(self._descriptor, data) :]

    def _follow(self) -> None:
        """Open the file again if the name now means another file, or none."""
        try:
            found = os.stat(self._path)
            identity = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            identity = None
        if self._descriptor is not None and identity == self._identity:
            return
        try:
            self._open()
        except OSError as error:
            if self._descriptor is None:
                raise
            if not self._is_left_behind:
                self._is_left_behind = True
                report(f"{self._path} cannot be opened again, the old file is used: {error}")
        else:
            self._is_left_behind = False

    def _open(self) -> None:
        # O_NONBLOCK: opening a pipe without a reader fails at once, rather than block.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self._path, flags, 0o644)
        os.set_blocking(descriptor, True)
        found = os.fstat(descriptor)
        old, self._descriptor = self._descriptor, descriptor
        self._identity = (found.st_dev, found.st_ino)
        if old is not None:
            os.close(old)


def report(text: str) -> None:
    """Write a line to standard error directly, because the loggers are what fails."""
    try:
        sys.stderr.write(f"asgireload: {printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # standard error is closed, so the text cannot be reported
