"""Frames as a client sends them, well formed or not."""

import zlib

MASK = b"\x37\xfa\x21\x3d"


def masked(payload: bytes, key: bytes = MASK) -> bytes:
    return bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


def length_field(length: int, *, size: int | None = None) -> bytes:
    """Return the mask bit with the length in its shortest form, or in `size` more bytes."""
    if size is None:
        size = 0 if length < 126 else 2 if length < 65536 else 8
    if size == 0:
        return bytes((0x80 | length,))
    return bytes((0x80 | (126 if size == 2 else 127),)) + length.to_bytes(size, "big")


def head(first: int, length: int, *, size: int | None = None, key: bytes = MASK) -> bytes:
    return bytes((first,)) + length_field(length, size=size) + key


def frame(first: int, payload: bytes = b"", *, size: int | None = None, key: bytes = MASK) -> bytes:
    return head(first, len(payload), size=size, key=key) + masked(payload, key)


def deflated(payload: bytes) -> bytes:
    """Return a message compressed on its own."""
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def final_block(payload: bytes) -> bytes:
    """Return a message whose DEFLATE stream ends (RFC 7692 section 7.2.3.4)."""
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(payload) + deflater.flush() + b"\x00"
