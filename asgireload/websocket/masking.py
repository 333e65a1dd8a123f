"""Masks of WebSocket frames (RFC 6455 section 5.3): in C where this was compiled, otherwise here."""

import functools

_LANES_FROM = 8192
"""Measured: a shorter payload is unmasked faster as one number, a longer one in four lanes."""
_number_of = int.from_bytes
"""Looked up once: that costs as much as a short payload's conversion."""


@functools.cache
def _xor_table(key: int) -> bytes:
    """Return what each byte becomes. Made when it is first needed: all at once would delay every start."""
    return bytes(value ^ key for value in range(256))


def unmask_slowly(payload: bytes, key: bytes, /) -> bytes:
    """Return `payload` with the four bytes of `key` applied; also masks."""
    length = len(payload)
    if length < _LANES_FROM:
        repeated = (key * (length // 4 + 1))[:length]
        number: int = _number_of(payload, "little") ^ _number_of(repeated, "little")
        return number.to_bytes(length, "little")
    result = bytearray(length)
    for lane in range(4):
        result[lane::4] = payload[lane::4].translate(_xor_table(key[lane]))
    return bytes(result)


try:
    from asgireload.websocket._masking import unmask as unmask
except ImportError:
    unmask = unmask_slowly
