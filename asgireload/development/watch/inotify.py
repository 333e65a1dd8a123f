"""The kernel's notices about directories, behind one seam: inotify(7) through the C library.

A library would do the same three calls; the ones that exist either hide that a writer has closed its file,
so that they must wait and guess, or bring an event loop of their own.
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
"""Notices were lost; it names no watch."""
IGNORED = 0x00008000
"""The watch is gone: removed, or its directory was."""
IS_DIRECTORY = 0x40000000
_ONLY_DIRECTORIES = 0x01000000

WANTED = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
"""No IN_MODIFY: a file counts when its writer has closed it, for before it is half a file."""
READ_BYTES = 64 * 1024
"""Of one read: a notice has at most 272 bytes, so a burst of some thousands takes a few reads."""

_HEADER = struct.Struct("iIII")


class Notice(msgspec.Struct, frozen=True):
    watch: int
    mask: int
    name: str
    """Of the entry of the directory; empty when it is about the directory itself."""

    @property
    def is_directory(self) -> bool:
        return bool(self.mask & IS_DIRECTORY)


class Inotify:
    """A queue of notices. Non-blocking; owns its descriptor until `close()`."""

    def __init__(self) -> None:
        """Raise OSError: EMFILE when this user has too many (fs.inotify.max_user_instances)."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._check(
            self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1"
        )

    def fileno(self) -> int:
        return self._descriptor

    def add(self, directory: str) -> int:
        """Watch a directory, not what lies below it; return its number, the same when asked again.

        Raise OSError: ENOSPC when this user watches too many (fs.inotify.max_user_watches), else what
        opening a directory may raise.
        """
        mask = WANTED | _ONLY_DIRECTORIES
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(directory), mask)
        return self._check(watch, directory)

    def remove(self, watch: int) -> None:
        """Forget a watch; one whose directory is gone already is fine."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def read(self) -> list[Notice]:
        """Return the notices that are there now, none when there is nothing."""
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
    """Take apart what was read: struct inotify_event in inotify(7), names padded with NUL."""
    notices = []
    offset = 0
    while offset < len(data):
        watch, mask, _cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        notices.append(Notice(watch, mask, os.fsdecode(name)))
    return notices
