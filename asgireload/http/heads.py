"""Request heads that were read before, so that equal bytes are not read twice.

Clients say nearly the same in every request: one that polls sends the same head again and again, a browser
the same header lines behind another request line. What was read of them once, and found right, is kept and
shared by the connections of a worker. Only heads from HTTP/1.1 that ask for no upgrade.
"""

from typing import Final

from asgireload.http.parser import RequestHead

MOST_HEADS: Final = 256
MOST_BYTES: Final = 8192
"""Larger heads are not kept. Cookies and tokens take some KiB, and cost the most to read."""
TABLE_BYTES: Final = 256 * 1024
"""Of heads in one table. What is made of them takes about three times as much, so both together stay below
some 2 MiB."""


class HeadCache:
    """Two bounded tables. When one is full it is emptied: what is still in use comes back at once."""

    __slots__ = ("_block_bytes", "_whole_bytes", "blocks", "whole")

    def __init__(self) -> None:
        self.whole: dict[bytes, RequestHead] = {}
        """By all bytes of the head."""
        self.blocks: dict[bytes, RequestHead] = {}
        """By the header lines; the request line in it is that of another request."""
        self._whole_bytes = 0
        self._block_bytes = 0

    def keep_whole(self, data: bytes, head: RequestHead) -> None:
        if len(self.whole) >= MOST_HEADS or self._whole_bytes + len(data) > TABLE_BYTES:
            self.whole.clear()
            self._whole_bytes = 0
        self.whole[data] = head
        self._whole_bytes += len(data)

    def keep_block(self, block: bytes, head: RequestHead) -> None:
        if len(self.blocks) >= MOST_HEADS or self._block_bytes + len(block) > TABLE_BYTES:
            self.blocks.clear()
            self._block_bytes = 0
        self.blocks[block] = head
        self._block_bytes += len(block)
