"""A cache of parsed request heads, so that equal bytes are not parsed twice.

Clients repeat themselves: a client that polls sends the same head again and again, and a browser sends the same
header lines after different request lines. Heads that were parsed and accepted are shared by the connections of a
worker. Only heads of HTTP/1.1 without `Connection: upgrade` are cached.
"""

from typing import Final

from asgireload.http.request import RequestHead

MOST_HEADS: Final = 256
"""Heads in one table."""
MOST_BYTES: Final = 8192
"""Larger heads are not cached. Cookies and tokens take some KiB, and cost the most to parse."""
TABLE_BYTES: Final = 256 * 1024
"""Bytes of heads in one table. The objects made of them take about four times as much, so both tables together
stay below some 2.5 MiB."""


class KnownHead:
    """A parsed head, the bytes from which it was parsed, and its place in the cache."""

    __slots__ = ("data", "head", "place")

    def __init__(self, data: bytes, head: RequestHead, place: int) -> None:
        self.data = data
        self.head = head
        self.place = place


class HeadCache:
    """Two bounded tables of heads. A full table is emptied; heads that are still in use soon return."""

    __slots__ = ("_block_bytes", "_places", "_whole_bytes", "blocks", "whole")

    def __init__(self) -> None:
        self.whole: dict[bytes, KnownHead] = {}
        """Heads by all their bytes."""
        self._places: list[KnownHead] = []
        """The values of `whole`, by their places."""
        self.blocks: dict[bytes, RequestHead] = {}
        """Heads by their header lines. The request line of such a head may differ from that of the request."""
        self._whole_bytes = 0
        self._block_bytes = 0

    def repeats(self, data: bytes, place: int) -> KnownHead | None:
        """Return the head at `place`, which may be out of range, if its bytes are `data`; else None.

        Clients often send the same head again, and to compare the bytes costs a tenth of a look into the table.
        """
        if place >= len(self._places):
            return None
        known = self._places[place]
        return known if data == known.data else None

    def begins(self, data: bytes, place: int) -> KnownHead | None:
        """Return the head at `place`, which may be out of range, if `data` begins with its bytes; else None."""
        if place >= len(self._places):
            return None
        known = self._places[place]
        size = len(known.data)
        return known if len(data) >= size and data[:size] == known.data else None

    def keep_whole(self, data: bytes, head: RequestHead) -> None:
        """Add a head that is not in `whole`. `data`: all its bytes, with the empty line."""
        if len(self.whole) >= MOST_HEADS or self._whole_bytes + len(data) > TABLE_BYTES:
            self.whole.clear()
            self._places.clear()
            self._whole_bytes = 0
        known = KnownHead(data, head, len(self._places))
        self._places.append(known)
        self.whole[data] = known
        self._whole_bytes += len(data)

    def keep_block(self, block: bytes, head: RequestHead) -> None:
        """Add a head to `blocks`. `block`: its header lines, each with its line end."""
        if len(self.blocks) >= MOST_HEADS or self._block_bytes + len(block) > TABLE_BYTES:
            self.blocks.clear()
            self._block_bytes = 0
        self.blocks[block] = head
        self._block_bytes += len(block)
