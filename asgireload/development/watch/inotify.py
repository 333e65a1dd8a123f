"""inotify(7) through the C library.

A package would make the same three calls. Existing packages do not report that a writer has closed its file, so
that they have to wait and guess, or they run their own event loop.
"""

import ctypes
import os
import struct

import msgspec

CLOSE_WRITE = 0x00000008
MOVED_FROM = 0x00000040
MOVED_TO = 0x00000080
CREATE = 0x00000100
DELETE = 0x00000200
DELETE_SELF = 0x00000400
MOVE_SELF = 0x00000800
OVERFLOW = 0x00004000
"""Notices were lost; the notice names no watch."""
IGNORED = 0x00008000
"""The watch, or its directory, was removed."""
IS_DIRECTORY = 0x40000000
_ONLY_DIRECTORIES = 0x01000000

WANTED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
"""IN_MODIFY is not included: a file is complete only when its writer has closed it."""
READ_BYTES = 64 * 1024
"""Bytes of one read: a notice has at most 272 bytes, so a burst of some thousands takes a few reads."""

_HEADER = struct.Struct("iIII")


class Notice(msgspec.Struct, frozen=True):
    """One event of inotify(7)."""

    watch: int
    mask: int
    name: str
    """The name of the directory entry; empty when the notice is about the directory itself."""

    @property
    def is_directory(self) -> bool:
        return bool(self.mask & IS_DIRECTORY)


class Inotify:
    """An inotify instance. Non-blocking; owns its descriptor until `close()`."""

    def __init__(self) -> None:
        """Create the instance. Raise OSError: EMFILE above fs.inotify.max_user_instances."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._check(
            self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1"
        )

    def fileno(self) -> int:
        return self._descriptor

    def add(self, directory: str) -> int:
        """Watch a directory, without its subdirectories; return the watch, the same for the same directory.

        Raise OSError: ENOSPC above fs.inotify.max_user_watches, or an error of opening a directory.
        """
        mask = WANTED | _ONLY_DIRECTORIES
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        return self._check(watch, directory)

    def remove(self, watch: int) -> None:
        """Remove a watch; do nothing when its directory is gone."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Notice]:
        """Return the queued notices, an empty list when there are none."""
        try:
            return parse(os.read(self._descriptor, READ_BYTES))
        except BlockingIOError:
            return []

    def close(self) -> None:
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1

    def _check(self, result: int, about: str) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), about)
        return result


def parse(data: bytes) -> list[Notice]:
    """Parse the bytes of one read: struct inotify_event in inotify(7), with names padded with NUL."""
    notices = []
    offset = 0
    while offset < len(data):
        watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        notices.append(Notice(watch, mask, os.fsdecode(name)))
    return notices
