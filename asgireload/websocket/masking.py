"""Unmask WebSocket frames (RFC 6455 section 5.3): in C if the extension was compiled, otherwise in Python."""

import functools

_LANES_FROM = 8192
"""Bytes. Measured: a shorter payload is unmasked faster as one integer, a longer one in four lanes."""
_number_of = int.from_bytes
"""Looked up once, because the lookup costs as much as the conversion of a short payload."""


@functools.cache
def _xor_table(key: int) -> bytes:
    """Return the translation table of one key byte. Made when first needed; all 256 would delay every start."""
    return bytes(value ^ key for value in range(256))


def unmask_slowly(payload: bytes, key: bytes, /) -> bytes:
    """Return `payload` XORed with the four bytes of `key`, which masks as well as unmasks."""
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
