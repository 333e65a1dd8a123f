"""Request heads that were read before, so that equal bytes are not read twice.

Clients say nearly the same in every request: one that polls sends the same head again and again, a browser
the same header lines behind another request line. What was read of them once, and found right, is kept and
shared by the connections of a worker. Only heads from HTTP/1.1 that ask for no upgrade, and as a whole only those
without a body.
"""

from asgireload.http.parser import RequestHead

MOST_HEADS = 256
MOST_BYTES = 2048
"""Larger heads are not kept: all together the two tables stay below some 2 MiB."""


class HeadCache:
    """Two bounded tables. When one is full it is emptied: what is still in use comes back at once."""

    __slots__ = ("blocks", "whole")

    def __init__(self) -> None:
        self.whole: dict[bytes, RequestHead] = {}
        """By all bytes of the head."""
        self.blocks: dict[bytes, RequestHead] = {}
        """By the header lines; the request line in it is that of another request."""

    def keep_whole(self, data: bytes, head: RequestHead) -> None:
        if len(self.whole) >= MOST_HEADS:
            self.whole.clear()
        self.whole[data] = head

    def keep_block(self, block: bytes, head: RequestHead) -> None:
        if len(self.blocks) >= MOST_HEADS:
            self.blocks.clear()
        self.blocks[block] = head
