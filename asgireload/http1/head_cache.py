"""Request heads that were read before, so that equal bytes are not read twice.

Clients say nearly the same in every request: one that polls sends the same head again and again, a browser
the same header lines behind another request line. What was read of them once, and found right, is kept and
shared by the connections of a worker. Only heads from HTTP/1.1 that ask for no upgrade.
"""

from typing import Final

from asgireload.http.request import RequestHead

MOST_HEADS: Final = 256
MOST_BYTES: Final = 8192
"""Larger heads are not kept. Cookies and tokens take some KiB, and cost the most to read."""
TABLE_BYTES: Final = 256 * 1024
"""Of heads in one table. What is made of them takes about four times as much, so both together stay below
some 2.5 MiB."""


class KnownHead:
    """A head that was read, the bytes that it was read from, and where it stands in its cache."""

    __slots__ = ("data", "head", "place")

    def __init__(self, data: bytes, head: RequestHead, place: int) -> None:
        self.data = data
        self.head = head
        self.place = place


class HeadCache:
    """Two bounded tables. When one is full it is emptied: what is still in use comes back at once."""

    __slots__ = ("_block_bytes", "_places", "_whole_bytes", "blocks", "whole")

    def __init__(self) -> None:
        self.whole: dict[bytes, KnownHead] = {}
        """By all bytes of the head."""
        self._places: list[KnownHead] = []
        """The same, in the order in which they came."""
        self.blocks: dict[bytes, RequestHead] = {}
        """By the header lines; the request line in it is that of another request."""
        self._whole_bytes = 0
        self._block_bytes = 0

    def repeats(self, data: bytes, place: int) -> KnownHead | None:
        """Return the head at `place`, which may be any number, if it is `data`.

        A client often repeats itself, and to compare the bytes costs a tenth of looking for them in the table.
        """
        if place >= len(self._places):
            return None
        known = self._places[place]
        return known if data == known.data else None

    def begins(self, data: bytes, place: int) -> KnownHead | None:
        """Return the head at `place`, which may be any number, if `data` begins with it."""
        if place >= len(self._places):
            return None
        known = self._places[place]
        size = len(known.data)
        return known if len(data) >= size and data[:size] == known.data else None

    def keep_whole(self, data: bytes, head: RequestHead) -> None:
        """Keep a head that is not known yet, with its bytes to the last."""
        if len(self.whole) >= MOST_HEADS or self._whole_bytes + len(data) > TABLE_BYTES:
            self.whole.clear()
            self._places.clear()
            self._whole_bytes = 0
        known = KnownHead(data, head, len(self._places))
        self._places.append(known)
        self.whole[data] = known
        self._whole_bytes += len(data)

    def keep_block(self, block: bytes, head: RequestHead) -> None:
        if len(self.blocks) >= MOST_HEADS or self._block_bytes + len(block) > TABLE_BYTES:
            self.blocks.clear()
            self._block_bytes = 0
        self.blocks[block] = head
        self._block_bytes += len(block)
