"""Pieces of a response that are made within one turn of the loop, on their way to one write.

A system call for each piece, and waking who reads it, costs more than its bytes. They are handed on as they are, in
one call, and copied together only where they are small.
"""

from typing import Final

LEAST_BYTES: Final = 64 * 1024
"""Held for a client before they are written. As much as waits for the socket before an application is kept from
writing more."""
MOST_BYTES: Final = 256 * 1024
"""The same for a client that is known to take so much at once."""
MOST_PIECES: Final = 256
"""Of any size; writev(2) takes 1024."""
JOINED_BYTES: Final = 16 * 1024
"""Up to so many are copied together, which costs less than a list of them."""


class Pieces:
    """Of one connection. `take()` them when `add` says so, and at the end of the turn."""

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._limit = LEAST_BYTES

    def add(self, data: bytes) -> bool:
        """Take the next piece. Return True when it is time to write."""
        self._pieces.append(data)
        self._size += len(data)
        return self._size >= self._limit or len(self._pieces) >= MOST_PIECES

    def take(self, first: bytes) -> list[bytes]:
        """Return what is to be written, `first` before all: one piece, or several that are large together."""
        pieces, self._pieces = self._pieces, []
        if not pieces:
            return [first]
        if len(first) + self._size <= JOINED_BYTES:
            return [first + b"".join(pieces)]
        pieces.insert(0, first)
        return pieces

    def note_written(self, left_bytes: int) -> None:
        """What was taken is written, and the socket had no room for `left_bytes` of it."""
        if left_bytes:
            self._limit = LEAST_BYTES
        elif self._size >= self._limit:
            self._limit = min(self._limit * 2, MOST_BYTES)
        self._size = 0
