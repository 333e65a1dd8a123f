"""permessage-deflate (RFC 7692): negotiate the offer, and compress and decompress messages.

The state between messages is one LZ77 window for each direction. The sender may drop its window at any time,
because a new compressor never refers to data before its own start. The peer may refer to the receiver's window,
which `Inflater.window` returns, so that another process can continue the stream.
"""

import re
import zlib
from collections.abc import Iterable
from typing import Final

from asgireload.errors import FrameError
from asgireload.ipc.scoreboard import Limit
from asgireload.websocket.frames import INVALID_DATA, TOO_BIG

NAME: Final = "permessage-deflate"

TAIL: Final = b"\x00\x00\xff\xff"
"""The end of a sync flush, which the sender removes and the receiver appends (sections 7.2.1 and 7.2.2)."""

DEFLATE_FROM: Final = 16
"""Bytes of the shortest message that is compressed. Section 6 allows sending messages uncompressed, and shorter
ones hardly shrink."""

SEND_WINDOW_BITS: Final = 12
_SEND_MEMORY_LEVEL: Final = 5
"""A compressor takes 2**(bits + 2) + 2**(level + 9) bytes (zconf.h): 32 KiB for each connection, not the 256 KiB of
zlib's defaults. A sender may use a smaller window than agreed."""
_SEND_LEVEL: Final = 4
"""The lowest level that finds repetitions of the previous message. zlib's default, 6, takes up to 1.6 times the
time for some 6 % fewer bytes (`benchmarks/deflate_levels.py`)."""

FINAL_BLOCKS_LIMIT: Final = 16
"""Ends of a DEFLATE stream allowed in one message. A sender that cannot flush may end its stream instead (section
7.2.3.4). Each end takes two bytes and costs the receiver a new decompressor; no sender needs many in a message."""

Offer = tuple[str, list[tuple[str, str | None]]]
"""One extension of the header: its name, and its parameters with their values."""

_WINDOW_BITS = re.compile(r"8|9|1[0-5]")  # section 7.1.2: decimal, no leading zero


class DeflateParameters:
    """The negotiated parameters. Window sizes are base-2 logarithms of bytes."""

    __slots__ = (
        "client_max_window_bits",
        "client_no_context_takeover",
        "server_max_window_bits",
        "server_no_context_takeover",
    )

    def __init__(
        self,
        *,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int = 15,
        client_max_window_bits: int = 15,
    ) -> None:
        self.server_no_context_takeover: Final = server_no_context_takeover
        self.client_no_context_takeover: Final = client_no_context_takeover
        self.server_max_window_bits: Final = server_max_window_bits
        self.client_max_window_bits: Final = client_max_window_bits

    @property
    def header_value(self) -> bytes:
        """The value of the Sec-WebSocket-Extensions header that accepts these parameters."""
        parts = [NAME]
        if self.server_no_context_takeover:
            parts.append("server_no_context_takeover")
        if self.client_no_context_takeover:
            parts.append("client_no_context_takeover")
        if self.server_max_window_bits < 15:
            parts.append(f"server_max_window_bits={self.server_max_window_bits}")
        if self.client_max_window_bits < 15:
            parts.append(f"client_max_window_bits={self.client_max_window_bits}")
        return "; ".join(parts).encode("ascii")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeflateParameters) and self.header_value == other.header_value

    def __hash__(self) -> int:
        return hash(self.header_value)

    def __repr__(self) -> str:
        return f"DeflateParameters({self.header_value!r})"


def negotiate(offers: Iterable[Offer]) -> DeflateParameters | None:
    """Return the parameters for the first acceptable offer, in the client's order of preference; None if none is.

    An offer with an unknown or repeated parameter, or a bad value, is declined (section 7.1). So is an offer that
    requires a server window of 256 bytes, because zlib cannot compress raw DEFLATE with that window.
    """
    for name, parameters in offers:
        if name == NAME:
            accepted = _accept(parameters)
            if accepted is not None:
                return accepted
    return None


def _accept(parameters: list[tuple[str, str | None]]) -> DeflateParameters | None:
    values = dict(parameters)
    if len(values) < len(parameters):
        return None
    server_resets = "server_no_context_takeover" in values
    client_resets = "client_no_context_takeover" in values
    if values.pop("server_no_context_takeover", None) is not None:
        return None
    if values.pop("client_no_context_takeover", None) is not None:
        return None
    server_bits = values.pop("server_max_window_bits", "15")
    if server_bits is None or _WINDOW_BITS.fullmatch(server_bits) is None or server_bits == "8":
        return None
    # Without a value the client only states that it would accept a limit (section 7.1.2.2).
    client_bits = values.pop("client_max_window_bits", None) or "15"
    if _WINDOW_BITS.fullmatch(client_bits) is None or values:
        return None
    return DeflateParameters(
        server_no_context_takeover=server_resets,
        client_no_context_takeover=client_resets,
        server_max_window_bits=int(server_bits),
        client_max_window_bits=int(client_bits),
    )


def new_compressor(window_bits: int, level: int) -> "zlib._Compress":
    """Return a raw DEFLATE compressor. `level` is from 1, the fastest, to 9, the best compression."""
    return zlib.compressobj(level, zlib.DEFLATED, -window_bits, _SEND_MEMORY_LEVEL)


class Deflater:
    """Compresses messages, one call for each. Allocates the compressor at the first message.

    With `resets` each message is compressed without context (server_no_context_takeover).
    """

    __slots__ = ("_deflater", "_resets", "_window_bits")

    def __init__(self, window_bits: int, *, resets: bool) -> None:
        self._window_bits = min(window_bits, SEND_WINDOW_BITS)
        self._resets = resets
        self._deflater: zlib._Compress | None = None

    def deflate(self, payload: bytes) -> bytes:
        """Return the compressed message, without the end of its sync flush (section 7.2.1)."""
        deflater = self._deflater
        if deflater is None:
            deflater = new_compressor(self._window_bits, _SEND_LEVEL)
            if not self._resets:
                self._deflater = deflater
        data = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(TAIL)]


class Inflater:
    """Decompresses messages: `inflate` for each piece, `finish` for the last, which may be empty.

    At most one byte more than allowed is decompressed. Allocates the decompressor at the first message. With
    `resets` no message refers to an earlier one (client_no_context_takeover). `window` is that of an earlier
    inflater of the same connection.
    """

    __slots__ = ("_final_blocks", "_inflater", "_known_bytes", "_resets", "_window", "_window_bits")

    def __init__(self, window_bits: int, *, resets: bool, window: bytes = b"") -> None:
        # A peer that negotiates 8 may run a zlib that uses 9 instead, as zlib did for years.
        self._window_bits = max(window_bits, 9)
        self._resets = resets
        self._window = window
        self._inflater: zlib._Decompress | None = None
        self._known_bytes = len(window)
        """How many bytes back the peer may refer, up to the size of the window."""
        self._final_blocks = 0
        """Ends of a DEFLATE stream in this message."""

    def inflate(self, data: bytes, allowed_bytes: int) -> bytes:
        """Decompress a piece of a message.

        Raise FrameError: 1009 for more than `allowed_bytes`, 1007 for data that is not DEFLATE.
        """
        inflater = self._inflater
        if inflater is None:
            inflater = self._inflater = zlib.decompressobj(-self._window_bits, zdict=self._window)
            self._window = b""
        try:
            output = inflater.decompress(data, allowed_bytes + 1)
            self._known_bytes += len(output)
            while inflater.eof and len(output) <= allowed_bytes:
                rest = inflater.unused_data
                inflater = self._start_over()
                more = inflater.decompress(rest, allowed_bytes + 1 - len(output))
                self._known_bytes += len(more)
                output += more
        except zlib.error:
            raise FrameError(INVALID_DATA, "the compressed data is damaged") from None
        if len(output) > allowed_bytes:
            raise FrameError(
                TOO_BIG, "the compressed message becomes too big", limit=Limit.WS_INFLATION
            )
        return output

    def finish(self, data: bytes, allowed_bytes: int) -> bytes:
        """Decompress the last piece of a message, which may be empty. Raise FrameError as `inflate` does."""
        output = self.inflate(data + TAIL, allowed_bytes)
        self._final_blocks = 0
        if self._resets:
            self._inflater = None
            self._known_bytes = 0
        return output

    def window(self) -> bytes:
        """Return the bytes that the peer's next message may refer to. Call only between two messages.

        Python's zlib does not expose the window, but a copy of the decompressor outputs it when given a block that
        repeats it. So no copy of the window has to be kept.
        """
        known_bytes = min(self._known_bytes, 1 << self._window_bits)
        if self._inflater is None or not known_bytes:
            return self._window
        return self._inflater.copy().decompress(_repeat_last(known_bytes), known_bytes)

    def copy(self) -> "Inflater":
        """Return an independent copy. Call only between two messages."""
        twin = Inflater(self._window_bits, resets=self._resets, window=self._window)
        twin._known_bytes = self._known_bytes
        if self._inflater is not None:
            twin._inflater = self._inflater.copy()
        return twin

    def _start_over(self) -> "zlib._Decompress":
        """Begin a new DEFLATE stream, with an empty window. Raise FrameError for too many in a message."""
        self._final_blocks += 1
        if self._final_blocks > FINAL_BLOCKS_LIMIT:
            raise FrameError(
                TOO_BIG,
                "the compressed message consists of too many DEFLATE streams",
                limit=Limit.WS_INFLATION,
            )
        self._known_bytes = 0
        self._inflater = zlib.decompressobj(-self._window_bits)
        return self._inflater


def _repeat_last(distance: int) -> bytes:
    """Return a DEFLATE block that repeats the last `distance` bytes, and then a part of them again.

    The block uses fixed codes, and only matches of the greatest length (RFC 1951 sections 3.2.5 and 3.2.6).
    """
    code, extra_bits, base = 0, 0, 1
    while base + (1 << extra_bits) <= distance:
        base += 1 << extra_bits
        code += 1
        extra_bits = max(0, code // 2 - 1)
    reversed_code = int(f"{code:05b}"[::-1], 2)  # Huffman codes begin with their highest bit
    match = _LONGEST_MATCH | reversed_code << 8 | (distance - base) << 13
    bits, length = _FINAL_FIXED_BLOCK, 3
    for _ in range(-(-distance // 258)):
        bits |= match << length
        length += 13 + extra_bits
    length += 7  # the end of the block: seven zeros
    return bits.to_bytes(-(-length // 8), "little")


_FINAL_FIXED_BLOCK: Final = 0b011
_LONGEST_MATCH: Final = 0b10100011
"""The code for 258 bytes, 11000101, reversed."""
